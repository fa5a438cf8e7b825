"""The life of a worker: one LOAD, then batches until the front closes the socket."""

from __future__ import annotations

import socket


def serve(sock: socket.socket, arena_fd: int | None = None) -> int:
    """Serve until EOF and return the exit status: 0, or 1 when the load failed or the front sent garbage.

    A forked worker calls this directly.
    """
    raise NotImplementedError
