"""The front's side of a fetching process: starts it, hears it, and ends it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag

from flambeau_runtime.archive.attempts import DownloadStopped
from flambeau_runtime.archive.fetch import credentials
from flambeau_runtime.archive.fetch.order import Arrived, Event, Failed, Order, Progress, read_event
from flambeau_runtime.archive.partial import OnBytes
from flambeau_runtime.errors import SourceUnavailable

LOOK_UP_EVERY_MS = 500
CHUNK = 65_536
MODULE = "flambeau_runtime.archive.fetch"


def fetch(order: Order, environment: Mapping[str, str], on_bytes: OnBytes, stop: Flag) -> Path:
    """Have a process of its own carry out an order; blocks until it has.

    Args:
        order: what to fetch.
        environment: the runtime's own; what opens sources is left out where the order names
            credentials, so that the two are never mixed.
        on_bytes: told how far it is.
        stop: ends the process.

    Returns:
        The archive, or a directory.

    Raises:
        RuntimeFault: as the process tells it, or SourceUnavailable where it ended without a word.
        DownloadStopped: `stop` was set.
    """
    if order.credentials is not None:
        environment = {
            name: value for name, value in environment.items() if not credentials.is_hidden(name)
        }
    with _started(order, environment) as child:
        for event in _events(child, stop):
            match event:
                case Progress(have, total):
                    on_bytes(have, total)
                case Arrived(path):
                    return path
                case Failed(fault):
                    raise fault
        status = child.wait()
    raise SourceUnavailable(
        f"Failed to download archive from: {order.shown}: the fetching process ended unexpectedly "
        f"(exit status {status})"
    )


@contextmanager
def _started(order: Order, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(  # noqa: S603  our own module, by this interpreter
        [sys.executable, "-P", "-m", MODULE],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        if child.stdin is not None:
            child.stdin.write(f"{order.to_json()}\n".encode())
            child.stdin.flush()  # and left open: its end would be the child's
        yield child
    except BrokenPipeError as error:
        raise SourceUnavailable(f"{order.shown}: the fetching process did not start") from error
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _events(child: subprocess.Popen[bytes], stop: Flag) -> Iterator[Event]:
    """Yield what the process tells, until it ends."""
    if child.stdout is None:
        return
    descriptor, rest = child.stdout.fileno(), b""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while True:
        if stop.is_set():
            raise DownloadStopped
        if not ready.poll(LOOK_UP_EVERY_MS):
            continue
        chunk = os.read(descriptor, CHUNK)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield read_event(line.decode())
