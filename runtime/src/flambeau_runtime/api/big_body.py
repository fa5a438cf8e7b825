"""A big body on its way from a client's socket to the arena, without a copy in between."""

from __future__ import annotations

import asyncio
from typing import Protocol

from flambeau_runtime.serving.arena import Region


class Owner(Protocol):
    """The connection in whose stead a big body is read."""

    def took(self, part: memoryview) -> None:
        """Take note of a part, which is in its place."""

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio calls it."""

    def pause_writing(self) -> None:
        """As asyncio calls it."""

    def resume_writing(self) -> None:
        """As asyncio calls it."""


class BigBody(asyncio.BufferedProtocol):
    """Reads one big body to its place in the arena, in the stead of its connection."""

    def __init__(self, owner: Owner, region: Region, filled: int) -> None:
        self.region = region
        self._owner = owner
        self._filled = filled

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's interface
        """Return the place for what is still to come, and not a byte more."""
        return self.region.view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Tell the connection what has come."""
        begin, self._filled = self._filled, self._filled + nbytes
        self._owner.took(self.region.view[begin : self._filled])

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._owner.resume_writing()
