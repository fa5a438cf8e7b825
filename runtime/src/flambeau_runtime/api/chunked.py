"""The chunked transfer coding of a request body, read strictly."""

from __future__ import annotations

import re
from enum import Enum, auto

from flambeau_runtime.errors import BadRequest, PayloadTooLarge

LONGEST_LINE = 4 * 1024
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\r\n]*)?\r\n")
_BAD = "Invalid HTTP message."


class Stage(Enum):
    """What the next byte belongs to."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    DONE = auto()


class ChunkedBody:
    """Collects one body out of its chunks; trailers are read and dropped."""

    __slots__ = ("_left", "_limit", "_line", "_trailer_room", "body", "stage")

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.stage = Stage.SIZE
        self._limit = limit
        self._left = 0  # bytes of the current chunk that are still to come
        self._line = b""
        self._trailer_room = LONGEST_LINE

    def take(self, data: bytes) -> int:
        """Take bytes of the message and return how many of them belonged to it.

        Raises:
            BadRequest: that is no chunked body.
            PayloadTooLarge: the body grows beyond the limit.
        """
        position = 0
        while self.stage is not Stage.DONE and position < len(data):
            if self.stage is Stage.DATA:
                position = self._take_data(data, position)
            else:
                position = self._take_line(data, position)
        return position

    def _take_data(self, data: bytes, position: int) -> int:
        end = min(position + self._left, len(data))
        self.body += memoryview(data)[position:end]
        self._left -= end - position
        if not self._left:
            self.stage = Stage.DATA_END
        return end

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position) + 1
        line = self._line + data[position : end or len(data)]
        if len(line) > LONGEST_LINE:
            raise BadRequest(_BAD)
        if not end:
            self._line = line
            return len(data)
        self._line = b""
        self._act_on(line)
        return end

    def _act_on(self, line: bytes) -> None:
        if self.stage is Stage.SIZE:
            self._begin_chunk(line)
        elif line == b"\r\n":
            self.stage = Stage.SIZE if self.stage is Stage.DATA_END else Stage.DONE
        elif self.stage is Stage.DATA_END or len(line) > self._trailer_room:
            raise BadRequest(_BAD)
        else:
            self._trailer_room -= len(line)

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadRequest(_BAD)
        self._left = int(match[1], 16)
        if len(self.body) + self._left > self._limit:
            raise PayloadTooLarge(self._limit)
        self.stage = Stage.DATA if self._left else Stage.TRAILER
