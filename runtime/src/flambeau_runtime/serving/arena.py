"""Shared memory for big bodies: read from the client's socket into it, read by the worker from it.

A memfd is mapped by the front and by every worker of one version; the socket between them carries
only places. It is sparse: a page costs memory from its first byte on, and beyond `KEPT_BYTES` it is
given back as soon as its body is done.
"""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Self

from flambeau_runtime import protocol

BIG_BODY_BYTES = 256 * 1024
"""From this size on a body goes through the arena; below, copying is cheaper than book-keeping."""

ARENA_BYTES = 512 * 1024 * 1024
KEPT_BYTES = 64 * 1024 * 1024
_PAGES = 64 * 1024  # regions begin and end at multiples of this: a multiple of every page size


class Region:
    """A place for one body. It is free again when the last one who holds it lets go."""

    __slots__ = ("arena", "offset", "size", "view")

    flag = protocol.IN_ARENA

    def __init__(self, arena: Arena, offset: int, size: int) -> None:
        self.arena = arena
        self.offset = offset
        self.size = size
        self.view = arena.view[offset : offset + size]

    def __del__(self) -> None:
        self.view.release()
        self.arena.free(self.offset, self.size)


class Arena:
    """The memory of one version, handed out first fit, so that use stays at its low end."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, size)
        self.view = memoryview(self._memory)
        self._holes = [(0, size)]  # (offset, size), by offset, never adjacent
        weakref.finalize(self, os.close, fd)

    @classmethod
    def create(cls, size: int = ARENA_BYTES) -> Self | None:
        """Return a new arena, None where the system has no such memory."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            fd = os.memfd_create("flambeau-bodies", os.MFD_CLOEXEC)
        except OSError:
            return None
        os.ftruncate(fd, size)
        return cls(fd, size)

    def take(self, size: int) -> Region | None:
        """Return a place for `size` bytes, None when there is none: let the socket carry them."""
        wanted = _rounded(size)
        for index, (offset, room) in enumerate(self._holes):
            if room >= wanted:
                if room == wanted:
                    del self._holes[index]
                else:
                    self._holes[index] = (offset + wanted, room - wanted)
                return Region(self, offset, size)
        return None

    def free(self, offset: int, size: int) -> None:
        """Take a place back; called by the region itself."""
        end = offset + _rounded(size)
        if end > KEPT_BYTES:
            start = max(offset, KEPT_BYTES)
            self._memory.madvise(mmap.MADV_REMOVE, start, end - start)
        holes = self._holes
        index = next((i for i, hole in enumerate(holes) if hole[0] > offset), len(holes))
        if index < len(holes) and holes[index][0] == end:
            end += holes.pop(index)[1]
        if index and sum(holes[index - 1]) == offset:
            index -= 1
            offset = holes.pop(index)[0]
        holes.insert(index, (offset, end - offset))

    @property
    def free_bytes(self) -> int:
        """How much room there is."""
        return sum(size for _, size in self._holes)


def _rounded(size: int) -> int:
    return -(-max(size, 1) // _PAGES) * _PAGES
