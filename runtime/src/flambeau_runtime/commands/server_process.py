"""One server per temp directory: its pid file, the lock that says it lives, its start.

The pid file is locked by the server for as long as it lives. A number alone would lie: after a
restart of a container another process may have it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flambeau_runtime.errors import InvalidSettings

PID_FILE = ".model_server.pid"
POLL_S = 0.02
STARTED = b"started\n"


class AlreadyRunning(InvalidSettings):
    """Another server holds the pid file."""


@contextmanager
def holding_pid_file(path: Path) -> Iterator[Callable[[], None]]:
    """Lock the pid file for the whole block; the yielded call writes this process's id into it.

    The lock belongs to the open file and passes to a forked child, which goes on holding it.

    Raises:
        AlreadyRunning: a server holds it.
    """
    descriptor = _open_and_lock(path)
    try:
        yield lambda: _write_pid(descriptor)
    finally:
        os.close(descriptor)


def _open_and_lock(path: Path) -> int:
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor)
            # Between opening and locking, whoever stopped a server may have deleted the file.
            if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise InvalidSettings(
            f"{path}: {error.strerror}; set TEMP to a directory of your own"
        ) from None


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise AlreadyRunning(
            "TorchServe is already running, please use torchserve --stop to stop TorchServe."
        ) from None


def _write_pid(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def remove_orphan(path: Path) -> bool:
    """Remove the pid file of a server that is gone without a trace; return whether there was one.

    One that names a living process is left, as TorchServe leaves it: nobody holds it, so it is in
    nobody's way.
    """
    if not path.exists():
        return False
    try:
        with holding_pid_file(path):
            if _names_a_process(path):
                return False
            path.unlink(missing_ok=True)
            return True
    except AlreadyRunning:
        return False


def _names_a_process(path: Path) -> bool:
    try:
        os.kill(int(path.read_text()), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def stop(path: Path, timeout_s: float) -> bool:
    """End the server that holds the pid file and wait until it is gone.

    Returns:
        False when there is none.

    Raises:
        InvalidSettings: it did not end in time, or may not be told to.
    """
    if not path.exists():
        return False
    try:
        with holding_pid_file(path):
            path.unlink(missing_ok=True)
            return False
    except AlreadyRunning:
        pid = int(path.read_text() or "0")
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError) as error:
        raise InvalidSettings(f"process {pid} cannot be stopped: {error.strerror}") from None
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if _is_gone(path):
            return True
        time.sleep(POLL_S)
    raise InvalidSettings(f"process {pid} is still answering requests after {timeout_s:g} s")


def _is_gone(path: Path) -> bool:
    try:
        with holding_pid_file(path):
            path.unlink(missing_ok=True)
            return True
    except AlreadyRunning:
        return False


def start_in_background(serve: Callable[[Callable[[], None]], None]) -> int:
    """Fork a process that leads a session of its own, and wait until it has started.

    It goes on writing to this process's stdout and stderr: TorchServe's does, and containers whose
    command starts it and then waits for something else show its lines.

    Args:
        serve: runs in the child until it is told to stop; calls its argument once it has started.

    Returns:
        The child's process id.

    Raises:
        InvalidSettings: it did not start, and why.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_a_daemon(serve, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if told == STARTED:
        return pid
    os.waitpid(pid, 0)
    why = told.decode("utf-8", "replace").strip() or "it ended while it was starting"
    raise InvalidSettings(why)


def _be_a_daemon(serve: Callable[[Callable[[], None]], None], writing: int) -> None:
    """Serve, and leave without the parent's clean-up; never returns."""
    status = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)

        def started() -> None:
            os.write(writing, STARTED)
            os.close(writing)

        serve(started)
        status = 0
    except InvalidSettings as refused:
        os.write(writing, str(refused).encode())
    except BaseException as error:  # noqa: BLE001  the parent must hear of whatever it was
        os.write(writing, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(status)
