"""The socket between front and one worker: frames in and out, limits, and one word for every kind of loss."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flambeau_runtime.errors import WorkerLost


@dataclass(frozen=True, slots=True)
class Channel:
    """The two ends of a new worker's socket, and the arena (a memfd) for big bodies, None when there is none.

    The worker's end and the arena go to the child as `--fd` and `--arena-fd`; close `worker` after the spawn. The
    arena's descriptor belongs to the version's queue: pass it on, never close it.
    """

    front: socket.socket
    worker: socket.socket
    arena_fd: int | None


def open_channel(arena_fd: int | None = None) -> Channel:
    """Make the socket pair for one spawn. `arena_fd` is `queue.arena_fd`."""
    front, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(front, worker, arena_fd)


class WorkerLink:
    """An asyncio protocol over the front's end of a worker's socket.

    `on_lost` is called at most once, on the loop, with the WorkerLost that says why; never after `close()`.
    """

    def __init__(
        self,
        front: socket.socket,
        on_lost: Callable[[WorkerLost], None],
        on_metrics: Callable[[list[Any]], None],
        max_response_bytes: int,
    ) -> None:
        self.front = front
        self.on_lost = on_lost
        self.on_metrics = on_metrics
        self.max_response_bytes = max_response_bytes

    async def open(self) -> None:
        """Put the socket on the loop."""
        raise NotImplementedError

    async def load(self, message: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """Have the worker load a model; return what it says of itself ({"pid": …}).

        Raises:
            LoadFailed: with the worker's reason, or StartupTimeout, or WorkerDied when its socket closed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket without a call to `on_lost`."""
        raise NotImplementedError
