"""What is orphaned to this process is waited for, as whoever is PID 1 of a container has to.

A worker that dies leaves the subprocesses of its handler behind, and a handler may leave daemons.
The kernel gives them to PID 1, or to the nearest subreaper, where each of them that ends stays a
zombie until it is waited for. There is no switch: where this process is neither, nothing is ever
orphaned to it and nothing is found. It never makes itself a subreaper: elsewhere that is init's
work. At rest this costs nothing; a child that ends, and nothing else, makes it look.

The exit statuses that others here wait for are theirs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flambeau_runtime.serving.worker_process import is_watched

LOOK_AGAIN_S = 1.0

PATIENCE_S = 10.0
"""Who starts a process in our session and wants its exit status has waited for it by then."""


class Orphans:
    """The children of this process that are nobody's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._again: asyncio.TimerHandle | None = None
        self._in_our_session: tuple[int, float] | None = None  # who, and since when it is a zombie

    def bury(self) -> None:
        """Wait for every orphan that has ended; look again if somebody else's child is in front.

        The kernel shows one ended child at a time, the same one until it is waited for.
        """
        self.forget()
        while (pid := _first_ended()) is not None:
            if self._is_spoken_for(pid):
                self._again = self._loop.call_later(LOOK_AGAIN_S, self.bury)
                return
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def forget(self) -> None:
        """Look no more by itself."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _is_spoken_for(self, pid: int) -> bool:
        if is_watched(pid):
            return True
        # Workers lead sessions of their own, so what they leave behind is never in ours: this may
        # be a program that a thread of ours runs right now. But whoever became this process by
        # exec may have left it there, too, and that would hide all others for ever.
        if not _is_in_our_session(pid):
            return False
        now = self._loop.time()
        if self._in_our_session is None or self._in_our_session[0] != pid:
            self._in_our_session = pid, now
        return now - self._in_our_session[1] < PATIENCE_S


if sys.platform == "darwin":

    def _first_ended() -> int | None:
        return None  # no containers, and no os.waitid

else:

    def _first_ended() -> int | None:
        """Return a child that has ended, and leave it as it is."""
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return None if ended is None else ended.si_pid


def _is_in_our_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:  # a thread has just waited for it
        return True


@contextmanager
def buried() -> Iterator[None]:
    """Bury orphans while the block runs, in the main thread and on the running loop."""
    loop = asyncio.get_running_loop()
    orphans = Orphans(loop)

    def ended(_signum: int, _frame: object) -> None:
        loop.call_soon_threadsafe(orphans.bury)

    # Not loop.add_signal_handler: uvloop keeps SIGCHLD for subprocesses of its own, which nothing
    # here starts.
    before = signal.signal(signal.SIGCHLD, ended)
    signal.siginterrupt(signal.SIGCHLD, False)
    orphans.bury()
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
        orphans.forget()
