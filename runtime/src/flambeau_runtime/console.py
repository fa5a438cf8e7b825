"""Showing log lines on a console that may be slow, full or gone: it never holds the files up."""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress

AT_ONCE = 512
"""A pipe that has room at all takes as many bytes without blocking (POSIX)."""
PATIENCE_MS = 200


class Console(logging.Handler):
    """Writes to a descriptor; a line for which there is no room in time is left out.

    Others have the same descriptor, so it is not made non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._patience_ms = PATIENCE_MS
        self._began = False  # a line that is not at its end

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        left = memoryview((self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        if self._began:
            left = memoryview(b"\n" + left)
        with suppress(OSError):  # nobody looks any more
            while left and self._has_room():
                written = os.write(self._descriptor, left[:AT_ONCE])
                left = left[written:]
                self._began = bool(left)

    def _has_room(self) -> bool:
        """Wait a little for room, but only once for a reader that has stopped."""
        room = bool(self._poll.poll(self._patience_ms))
        self._patience_ms = PATIENCE_MS if room else 0
        return room
