"""One worker process as the front sees it: its pid, its end, what it prints, its lifeline."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flambeau_runtime.serving.worker_output import STDERR, STDOUT, WorkerOutput

READ_BYTES = 65_536
LAST_READS = 32  # what a dead worker left in its pipe
KILL_WAIT_S = 10.0
POLL_S = 0.1

log = logging.getLogger(__name__)


class WorkerProcess:
    """A running process and its descriptors in the front.

    `exited` is resolved by whoever started it, with the exit code (negative: a signal) or None when
    nobody can know it any more. Without an `errors_fd` both streams come along `output_fd`.
    """

    def __init__(
        self,
        pid: int,
        output_fd: int,
        lifeline_fd: int | None,
        output: WorkerOutput,
        errors_fd: int | None = None,
    ) -> None:
        self.pid = pid
        self.output = output
        self._gives_way = False
        self._lifeline_fd = lifeline_fd
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int | None] = self._loop.create_future()
        self._streams = {output_fd: STDOUT}
        if errors_fd is not None:
            self._streams[errors_fd] = STDERR
        for fd, stream in self._streams.items():
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._read, fd, stream)

    def saw_exit(self, code: int | None) -> None:
        """Note the end; called by whoever started the process."""
        if not self.exited.done():
            self.exited.set_result(code)

    def give_way(self, *, yes: bool) -> None:
        """Take the CPU from nobody when it wakes up, or as all others again.

        That is Linux's SCHED_BATCH, which is left without a privilege, unlike a nice value (see
        sched(7)). Where it is not to be had the process stays as it is.
        """
        if self._gives_way == yes:
            return
        self._gives_way = yes
        with suppress(OSError, AttributeError):
            policy = os.SCHED_BATCH if yes else os.SCHED_OTHER
            for thread in Path(f"/proc/{self.pid}/task").iterdir():
                with suppress(ProcessLookupError):  # it ended meanwhile: the others shall hear it
                    os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))

    def kill(self) -> None:
        """End it and what it has started, now."""
        if self.exited.done():
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)  # a worker leads a session of its own
        except (ProcessLookupError, PermissionError):  # it was born this moment, or is gone
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def end(self, grace_s: float) -> int | None:
        """Wait so long for the process to go by itself, then kill it; return its exit code.

        Its socket should be closed before: that is how a worker learns that it is not needed.
        """
        try:
            await asyncio.wait([self.exited], timeout=grace_s)
        finally:
            self.kill()
            try:
                await asyncio.wait([self.exited], timeout=KILL_WAIT_S)
            finally:
                self.close()
        if not self.exited.done():
            log.error("worker does not die", extra={"pid": self.pid})
            return None
        return self.exited.result()

    def close(self) -> None:
        """Give the descriptors back; a process that still runs dies of it."""
        streams, self._streams = self._streams, {}
        if not streams:
            return
        for fd, stream in streams.items():
            for _ in range(LAST_READS):
                if not self._read(fd, stream):
                    break
            self._loop.remove_reader(fd)
            os.close(fd)
        if self._lifeline_fd is not None:
            os.close(self._lifeline_fd)
        self.output.close()

    def _read(self, fd: int, stream: str) -> bool:
        """Take one piece of output; one per turn of the loop, so that a flood starves nobody."""
        try:
            chunk = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(fd)
            return False
        self.output.feed(chunk, self._loop.time(), stream)
        return True


@dataclass(frozen=True, slots=True)
class Gone:
    """The end of a process; the code is None when it could not be learnt."""

    code: int | None


_watched: set[int] = set()
"""Children are the process's, not an object's: whoever waits for all of them has to know these."""


def is_watched(pid: int) -> bool:
    """Tell whether the exit status of a process is awaited by `watch_exit`."""
    return pid in _watched


def watch_exit(process: WorkerProcess, look: Callable[[], Gone | None]) -> None:
    """See the end of a process, and have it looked up (and reaped) by `look`."""
    _watched.add(process.pid)
    process.exited.add_done_callback(lambda _: _watched.discard(process.pid))
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, a sandboxed kernel, or reaped already
        _poll_exit(process, look)
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        bury(process.pid)
        gone = look()
        process.saw_exit(gone.code if gone else None)

    loop.add_reader(fd, ended)


def bury(pid: int) -> None:
    """Kill what a dead worker has started, and with that the last copies of its socket.

    Before it is reaped nobody else can get this process group's id.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def ended_child(child: subprocess.Popen[bytes]) -> Gone | None:
    """Look for the end of a child of this process."""
    code = child.poll()
    return None if code is None else Gone(code)


def is_gone(pid: int) -> Gone | None:
    """Look for a process that somebody else has started.

    It is a child of this process if its parent died and orphans come here.
    """
    with suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return Gone(os.waitstatus_to_exitcode(status))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Gone(None)
    return None


def _poll_exit(process: WorkerProcess, look: Callable[[], Gone | None]) -> None:
    if process.exited.done():
        return
    gone = look()
    if gone is None:
        process.exited.get_loop().call_later(POLL_S, _poll_exit, process, look)
    else:
        process.saw_exit(gone.code)
