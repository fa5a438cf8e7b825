"""How a worker dies with its front, whatever it is doing: a pipe that only the front holds open.

A worker that waits sees the end of its socket. One that hangs in a handler does not read; and its
parent may be the template process, so PR_SET_PDEATHSIG would speak of the wrong process (and exists
on Linux only). So the kernel is asked to send SIGKILL when the pipe loses its writer; where it
cannot, a thread waits for that.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import threading


def hold(fd: int) -> None:
    """Die by SIGKILL when the pipe behind `fd`, which is this process's own, loses its writer."""
    if not (sys.platform == "linux" and _armed(fd)):
        threading.Thread(target=_watch, args=(fd,), name="lifeline", daemon=True).start()


if sys.platform == "linux":

    def _armed(fd: int) -> bool:
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        except OSError:  # a sandboxed kernel without signal-driven I/O
            return False
        if select.select([fd], [], [], 0)[0]:  # the writer went before the signal was armed
            os.kill(os.getpid(), signal.SIGKILL)
        return True

else:

    def _armed(fd: int) -> bool:
        del fd
        return False


def _watch(fd: int) -> None:
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGKILL)
