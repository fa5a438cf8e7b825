"""The wire between front and worker: frames over one unix stream socket, both little-endian.

A frame is a 12-byte header `length u32, batch u32, kind u8, 3 zero bytes` and `length` bytes of
payload. From the first day it carries a batch id and a kind, so that streams, cancelling and a next
batch sent ahead need no second format. Both sides import this module and nothing else of each
other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple, Protocol

HEADER = struct.Struct("<IIB3x")
"""length of the payload, batch id (0: not about a batch), kind."""


class Kind(IntEnum):
    """What a frame says."""

    LOAD = 1  # front → worker: JSON, what to load
    LOADED = 2  # worker → front: JSON, {"pid": …}
    PREDICT = 3  # front → worker: one batch
    PART = 4  # worker → front: a piece of an answer for each row that streams, more will come
    END = 5  # worker → front: one prediction per row, the batch is over
    FAULT = 6  # worker → front: JSON, the batch (or with batch 0 the load) failed
    CANCEL = 7  # front → worker: nobody waits for this batch any more
    PING = 8  # front → worker: say what the handler has measured
    PONG = 9  # worker → front: it is said
    METRICS = 10  # worker → front: JSON, what the handler measured


MAX_FRAME_BYTES = 2**32 - 1
"""No frame is longer, whoever sends it."""

SMALL_FRAME_BYTES = 16 * 1024 * 1024
"""Frames that carry no bodies (all but PREDICT, PART and END) are never longer."""

MAX_ROWS = 0xFFFF


class Garbage(Exception):
    """What came through the socket is not this protocol."""


class Region(Protocol):
    """Where a body lies that does not travel: in the arena (`IN_ARENA`), or with the worker."""

    offset: int
    flag: int


class Outgoing(Protocol):
    """A row as the front packs it (`serving.job.Payload` is one)."""

    request_id: str
    headers: bytes
    body: bytes | bytearray | memoryview
    content_type: str
    url_path: str
    explain: bool
    describe: bool
    spelling: int
    region: Region | None


class Answer(Protocol):
    """A result as the worker packs it (`worker.context.RowResult` is one)."""

    status: int
    phrase: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Incoming(NamedTuple):
    """A row as the worker unpacks it. `offset` is -1 when the body came through the socket.

    `body` is WITH_HANDLER when the handler has had it in an earlier call.
    """

    request_id: str
    headers: bytes
    content_type: str
    body: memoryview
    url_path: str
    explain: bool
    describe: bool
    spelling: int
    offset: int
    size: int


Buffer = bytes | bytearray | memoryview
NamedPart = tuple[str, str, Buffer]
"""A value of a body of PARTS: its name, its content type ("" for none), the value."""
Answered = tuple[int, str, tuple[tuple[str, str], ...], Buffer]
"""status, phrase, headers, body: one row of PART or END; see ROW_FAULT and ROW_ABSENT."""

_COUNT = struct.Struct("<I")
_ROW = struct.Struct("<QIIHHBB")  # offset, body, headers, content type, url path, id, flags
_RESULT = struct.Struct("<HHII")  # status, phrase, headers, body
_EXPLAIN, _DESCRIBE = 1, 2
IN_ARENA, WITH_WORKER = 4, 8
WITH_HANDLER = memoryview(b"")
"""In the place of a body: told apart by identity, an empty body is another."""
WITHOUT_PATH = 32
"""A row's spelling: its path says nothing beyond the model (`/v1/models/…`, `/v2/models/…`)."""
WITH_QUERY = 64
"""A row's spelling: `url_path` is a query string; its fields are the row's (`/invocations`)."""
_SPELLING = WITHOUT_PATH | WITH_QUERY
_PART = struct.Struct("<III")  # name, content type, value
PARTS = "\0parts"
"""The content type of a body that is several named values; no header of a request can say it."""
ROW_FAULT = 0
"""The status of a row that failed alone; its body is the JSON of a FAULT."""
ROW_ABSENT = 1
"""The status of a row of PART that has no piece in it."""


def frame(kind: Kind, batch: int, payload: bytes = b"") -> bytes:
    """Return one whole frame."""
    return HEADER.pack(len(payload), batch, kind) + payload


def read_header(
    buffer: Buffer, start: int = 0, limit: int = MAX_FRAME_BYTES
) -> tuple[int, int, int]:
    """Return length, batch and kind of the frame that begins at `start`.

    Raises:
        Garbage: no such kind, padding that is not zero, or a length beyond `limit`.
    """
    length, batch, kind = HEADER.unpack_from(buffer, start)
    if (
        not 1 <= kind <= Kind.METRICS
        or buffer[start + 9]
        or buffer[start + 10]
        or buffer[start + 11]
    ):
        raise Garbage(f"no frame begins with {bytes(buffer[start : start + 12]).hex()}")
    if length > limit:
        raise Garbage(f"a frame of {length} bytes where {limit} are the most")
    return length, batch, kind


def pack_predict(batch: int, rows: Sequence[Outgoing]) -> list[Buffer]:
    """Return the parts of a PREDICT frame, in order; a big body is a part of its own, uncopied.

    The payload is a count, one fixed record per row, then per row: id, headers, content type, url
    path, body.
    """
    records: list[bytes] = [b"", _COUNT.pack(len(rows))]
    parts: list[Buffer] = []
    size = _COUNT.size + _ROW.size * len(rows)
    pack = _ROW.pack
    for row in rows:
        request_id = row.request_id.encode()
        content_type = row.content_type.encode()
        url_path = row.url_path.encode()
        headers = row.headers
        body = row.body
        id_size, headers_size, type_size = len(request_id), len(headers), len(content_type)
        path_size, body_size = len(url_path), len(body)
        size += id_size + headers_size + type_size + path_size
        flags = row.spelling | (_EXPLAIN if row.explain else 0)
        flags |= _DESCRIBE if row.describe else 0
        offset = 0
        if row.region is None:
            parts += (request_id, headers, content_type, url_path, body)
            size += body_size
        else:
            parts += (request_id, headers, content_type, url_path)
            offset, flags = row.region.offset, flags | row.region.flag
        records.append(pack(offset, body_size, headers_size, type_size, path_size, id_size, flags))
    records[0] = HEADER.pack(size, batch, Kind.PREDICT)
    return [*records, *parts]


def unpack_predict(payload: memoryview) -> list[Incoming]:
    """Return the rows of a PREDICT frame; bodies are views into `payload`.

    Raises:
        Garbage: the lengths do not add up to the payload's, or a text is not UTF-8.
    """
    count, position = _read_count(payload, _ROW)
    rows = []
    for record in _ROW.iter_unpack(payload[_COUNT.size : position]):
        offset, body, headers, content_type, url_path, request_id, flags = record
        ends = list(accumulate((request_id, headers, content_type, url_path), initial=position))
        elsewhere = flags & (IN_ARENA | WITH_WORKER)
        end = ends[4] if elsewhere else ends[4] + body
        if end > len(payload):
            raise Garbage("a row is longer than its frame")
        rows.append(
            Incoming(
                _text(payload[ends[0] : ends[1]]),
                bytes(payload[ends[1] : ends[2]]),
                _text(payload[ends[2] : ends[3]]),
                WITH_HANDLER if flags & WITH_WORKER else payload[ends[4] : end],
                _text(payload[ends[3] : ends[4]]),
                bool(flags & _EXPLAIN),
                bool(flags & _DESCRIBE),
                flags & _SPELLING,
                offset if flags & IN_ARENA else -1,
                body,
            )
        )
        position = end
    if position != len(payload):
        raise Garbage(f"{len(payload) - position} bytes after the last of {count} rows")
    return rows


def pack_end(batch: int, answers: Sequence[Answer], kind: Kind = Kind.END) -> bytes:
    """Return an END or PART frame: a count, one record per row, then phrase, headers, body of each.

    Line breaks in phrases and headers become spaces: nothing a handler sets may end a line of the
    answer.
    """
    parts: list[Buffer] = [b"", _COUNT.pack(len(answers))]
    bodies: list[Buffer] = []
    size = _COUNT.size + _RESULT.size * len(answers)
    for answer in answers:
        body = answer.body
        phrase = _one_line(answer.phrase).encode() if answer.phrase else b""
        headers = b"\n".join(_one_line(text).encode() for pair in answer.headers for text in pair)
        parts.append(_RESULT.pack(answer.status, len(phrase), len(headers), len(body)))
        bodies += (phrase, headers, body)
        size += len(phrase) + len(headers) + len(body)
    parts[0] = HEADER.pack(size, batch, kind)
    return b"".join([*parts, *bodies])


def unpack_end(payload: Buffer) -> list[Answered]:
    """Return the rows of an END or PART frame.

    A body is a slice of `payload`, a copy where that is bytes.

    Raises:
        Garbage: the lengths do not add up to the payload's, or a text is not UTF-8.
    """
    count, position = _read_count(payload, _RESULT)
    size = len(payload)
    rows: list[Answered] = []
    for status, phrase, headers, body in _RESULT.iter_unpack(payload[_COUNT.size : position]):
        start = position + phrase
        middle = start + headers
        end = middle + body
        if end > size:
            raise Garbage("a row is longer than its frame")
        rows.append(
            (
                status,
                _text(payload[position:start]) if phrase else "",
                _read_headers(payload[start:middle]) if headers else (),
                payload[middle:end],
            )
        )
        position = end
    if position != size:
        raise Garbage(f"{size - position} bytes after the last of {count} rows")
    return rows


def pack_parts(parts: Sequence[NamedPart]) -> list[Buffer]:
    """Return the pieces of a body of PARTS, in order; values are not copied."""
    pieces: list[Buffer] = []
    for name, content_type, value in parts:
        raw_name, raw_type = name.encode(), content_type.encode()
        record = _PART.pack(len(raw_name), len(raw_type), len(value))
        pieces += (record + raw_name + raw_type, value)
    return pieces


def unpack_parts(body: Buffer) -> Iterator[NamedPart]:
    """Yield the values of a body of PARTS; each is a slice of `body`.

    Raises:
        Garbage: the lengths do not add up to the body's, or a text is not UTF-8.
    """
    at, size = 0, len(body)
    while at < size:
        if at + _PART.size > size:
            raise Garbage("a body ends within the lengths of a part")
        lengths = _PART.unpack_from(body, at)
        start, middle, value, end = accumulate(lengths, initial=at + _PART.size)
        if end > size:
            raise Garbage("a part is longer than its body")
        yield _text(body[start:middle]), _text(body[middle:value]), body[value:end]
        at = end


def _read_count(payload: Buffer, record: struct.Struct) -> tuple[int, int]:
    """Return how many rows there are, and where their records end."""
    if len(payload) < _COUNT.size:
        raise Garbage("a frame without a count of rows")
    (count,) = _COUNT.unpack_from(payload)
    position = _COUNT.size + record.size * count
    if count > MAX_ROWS or position > len(payload):
        raise Garbage(f"a frame of {len(payload)} bytes cannot have {count} rows")
    return count, position


def _text(data: Buffer) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise Garbage(str(error)) from None


def _read_headers(data: Buffer) -> tuple[tuple[str, str], ...]:
    texts = _text(data).split("\n")
    if len(texts) % 2:
        raise Garbage("a header without a value")
    return tuple(zip(texts[::2], texts[1::2], strict=True))


_LINE_ENDS = str.maketrans("\r\n\0", "   ")


def _one_line(text: str) -> str:
    return str(text).translate(_LINE_ENDS)
