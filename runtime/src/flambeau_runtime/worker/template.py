"""The process that workers are forked from: one thread, CUDA never touched, torch when wanted.

`python -m flambeau_runtime.worker.template --fd N [--preload]`. The front sends orders one at a
time, each a length, JSON and the new worker's descriptors; this process answers with lines of JSON:
the pid of every child, and how it ended. A child leaves `attend` with its order and becomes a
worker. `{"preload": true}` is the order to import torch first.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flambeau_runtime.worker import lifeline, loop, surroundings

LENGTH = struct.Struct("<I")
MOST_DESCRIPTORS = 5
DESCRIPTORS = Path("/proc/self/fd")
ACCELERATORS = ("/dev/nvidia", "/dev/kfd")


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker is born with.

    The descriptors are socket, lifeline, stdout, stderr, and the arena if any.
    """

    number: int  # the front's; echoed with the pid
    directory: str
    environment: dict[str, str]
    threads: int
    descriptors: tuple[int, ...]

    def live(self) -> int:
        """Be that worker; return the exit status."""
        sock, life, output, errors, *arena = self.descriptors
        os.setsid()
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.close(output)
        os.close(errors)
        lifeline.hold(life)
        os.chdir(self.directory)
        os.environ.update(self.environment)
        surroundings.settle()
        surroundings.use_threads(self.threads)
        surroundings.reseed()
        return loop.serve(socket.socket(fileno=sock), arena[0] if arena else None)


class Template:
    """Takes orders from the front, forks, and reports how its children end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._wake, self._woken = socket.socketpair()

    def attend(self) -> Order | None:
        """Serve until the front closes the socket (None); in a child, return the child's order."""
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        self._tell(ready=True)
        while True:
            readable, _, _ = select.select([self._control, self._wake], [], [])
            if self._wake in readable:
                self._wake.recv(4096)
                self._report_exits()
            if self._control in readable:
                fields, descriptors = self._read()
                if fields is None:
                    return None
                if "preload" in fields:
                    preload()
                    self._tell(preloaded=True)
                    continue
                order = Order(descriptors=descriptors, **fields)
                if self._take(order) == 0:
                    return order

    def _read(self) -> tuple[dict[str, Any] | None, tuple[int, ...]]:
        """Return one message and the descriptors that came with it; None: the front is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._control, LENGTH.size, MOST_DESCRIPTORS)
        if len(data) < LENGTH.size:
            return None, ()
        (length,) = LENGTH.unpack(data)
        body = bytearray()
        while len(body) < length:
            part = self._control.recv(length - len(body))
            if not part:
                return None, ()
            body += part
        fields: dict[str, Any] = json.loads(body)
        return fields, tuple(descriptors)

    def _take(self, order: Order) -> int:
        """Fork; return 0 in the child. Where a GPU is in use here, refuse instead."""
        if device := open_device():
            for descriptor in order.descriptors:
                os.close(descriptor)
            self._tell(order=order.number, refused=f"the template has opened {device}")
            return -1
        return self._fork(order)

    def _fork(self, order: Order) -> int:
        pid = os.fork()
        if pid == 0:
            self._leave()
            return 0
        for descriptor in order.descriptors:
            os.close(descriptor)
        self._tell(order=order.number, pid=pid)
        return pid

    def _leave(self) -> None:
        """Give up what is the template's: done in the child."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for sock in (self._control, self._wake, self._woken):
            sock.close()

    def _report_exits(self) -> None:
        with suppress(ChildProcessError):
            while (ended := _reap()) is not None:
                pid, status = ended
                self._tell(exited=pid, status=os.waitstatus_to_exitcode(status))

    def _tell(self, **fields: object) -> None:
        self._control.sendall(json.dumps(fields).encode() + b"\n")


def _reap() -> tuple[int, int] | None:
    """Reap one worker that has ended; what it had started goes with it.

    That could hold copies of the worker's socket, and its front would wait for their end.
    """
    if not hasattr(os, "waitid"):  # macOS
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return None
        _kill_group(pid)
        return pid, status
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    _kill_group(ended.si_pid)  # before it is reaped nobody else can get this id
    return os.waitpid(ended.si_pid, 0)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ignore(signum: int, frame: object) -> None:
    """Only the wake-up descriptor matters."""


def open_device(descriptors: Path = DESCRIPTORS) -> str | None:
    """Return the accelerator's device that this process holds open, if any.

    CUDA does not survive a fork: whoever has begun to use it, a `sitecustomize` for instance, is
    not forked from.
    """
    if not descriptors.is_dir():  # macOS
        return None
    for descriptor in descriptors.iterdir():
        with suppress(OSError):
            opened = str(descriptor.readlink())
            if opened.startswith(ACCELERATORS):
                return opened
    return None


def preload() -> None:
    """Import what every worker would import; without torch the template just goes without it."""
    for module in ("torch", "ts.torch_handler.base_handler"):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        except Exception:  # noqa: BLE001  a broken torch is the model's to report, not the template's
            traceback.print_exc()
    _keep_pages_shared()


def _keep_pages_shared() -> None:
    gc.collect()
    gc.freeze()  # children that collect garbage would otherwise copy every page


def main(arguments: list[str] | None = None) -> int:
    """Attend to the front until it closes the socket; in a child, be the worker."""
    parser = argparse.ArgumentParser(prog="flambeau_runtime.worker.template")
    parser.add_argument("--fd", type=int, required=True, help="connected socket to the front")
    parser.add_argument("--preload", action="store_true", help="import torch before anything else")
    options = parser.parse_args(arguments)
    preload() if options.preload else _keep_pages_shared()
    try:
        order = Template(socket.socket(fileno=options.fd)).attend()
    except (BrokenPipeError, ConnectionResetError):  # the front is gone
        return 0
    return 0 if order is None else _leave_quickly(order.live())


def _leave_quickly(status: int) -> int:
    """End a child without taking apart the torch it shares: that costs 0.3 s and memory."""
    atexit._run_exitfuncs()  # noqa: SLF001  what a handler has registered still runs
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
