"""The life of a worker: one LOAD, then batches until the front closes the socket.

One `recv_into` and one `sendall` per batch: the front writes a batch at once, so the first read
nearly always brings header, records and bodies together.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Mapping, Sequence
from mmap import ACCESS_READ, mmap
from typing import Any, Protocol

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.errors import LoadFailed, RuntimeFault
from flambeau_runtime.protocol import Garbage, Kind
from flambeau_runtime.worker import faults, handler
from flambeau_runtime.worker.answers import too_long
from flambeau_runtime.worker.context import Context, Row, RowResult
from flambeau_runtime.worker.spoiled import DeviceSpoiled, check_device
from flambeau_runtime.worker.streaming import Outlet

log = logging.getLogger(__name__)

RECEIVE_BYTES = 256 * 1024
METRICS_EVERY_S = 0.5
"""A handler that measures every call must not cost a message per call."""


class Runs(Protocol):
    """The part of a loaded handler that the loop uses."""

    context: Context

    def run(self, rows: list[Row]) -> list[RowResult]:
        """Run one batch."""

    async def run_concurrently(self, rows: Sequence[Row], context: Context) -> list[RowResult]:
        """Run one batch beside others."""

    def drain_metrics(self) -> list[dict[str, Any]]:
        """Return what was measured since the last call."""


class Inbox:
    """Whole frames out of a stream socket.

    The payload of a frame is a view that stays valid until the next frame is read; a frame that
    does not fit gets a buffer of its own.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._start = 0
        self._end = 0

    def wait(self, timeout_s: float) -> bool:
        """Whether something has arrived within that time."""
        if self._end > self._start:
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def peek(self) -> tuple[int, int] | None:
        """Return kind and batch of the frame that comes next, None when none has come.

        Raises:
            ConnectionResetError: the front has closed.
        """
        size = protocol.HEADER.size
        if self._end - self._start >= size:
            _, batch, kind = protocol.read_header(self._buffer, self._start)
            return kind, batch
        try:
            header = self._sock.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        if not header:
            raise ConnectionResetError("the front has closed the socket of this worker")
        if len(header) < size or self._end > self._start:
            return None  # the rest of its head is on the way
        _, batch, kind = protocol.read_header(header)
        return kind, batch

    def next(self) -> tuple[int, int, memoryview] | None:
        """Return kind, batch and payload of the next frame, None when the front has closed.

        Raises:
            Garbage: what arrives is not this protocol.
        """
        header = protocol.HEADER.size
        if not self._fill(header):
            return None
        length, batch, kind = protocol.read_header(self._buffer, self._start)
        if kind != Kind.PREDICT and length > protocol.SMALL_FRAME_BYTES:
            raise Garbage(f"a frame of {length} bytes")
        begin = self._start + header
        if begin + length > self._end:
            if not self._fill(header + length):
                return None
            begin = self._start + header
        self._start = begin + length
        return kind, batch, self._buffer[begin : self._start]

    def _fill(self, wanted: int) -> bool:
        """Read until `wanted` bytes are there; False when the stream ended first."""
        have = self._end - self._start
        if have >= wanted:
            return True
        self._make_room(wanted)
        while self._end - self._start < wanted:
            count = self._sock.recv_into(self._buffer[self._end :])
            if not count:
                return False
            self._end += count
        return True

    def _make_room(self, wanted: int) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        oversized = len(self._buffer) > RECEIVE_BYTES and self._start == self._end
        if self._start + wanted <= len(self._buffer) and not oversized:
            return
        # A new buffer and not a longer one: rows may still be views into the old.
        kept = self._buffer[self._start : self._end]
        self._buffer = memoryview(bytearray(max(wanted, RECEIVE_BYTES)))
        self._buffer[: len(kept)] = kept
        self._start, self._end = 0, len(kept)


class Arena:
    """The front's shared memory, as a worker sees it."""

    def __init__(self, fd: int | None) -> None:
        self._view = None if fd is None else memoryview(mmap(fd, 0, access=ACCESS_READ))

    def body(self, offset: int, size: int) -> memoryview:
        """Return the bytes of one body.

        Raises:
            Garbage: there is no such place.
        """
        if self._view is None or offset + size > len(self._view):
            raise Garbage("a body outside the arena")
        return self._view[offset : offset + size]


def serve(sock: socket.socket, arena_fd: int | None = None) -> int:
    """Serve until EOF and return the exit status; a forked worker calls this directly.

    0; 1 when the load failed, the front sent garbage, or the device is of no use any more.
    """
    sock.setblocking(True)
    inbox = Inbox(sock)
    try:
        loaded = _load(sock, inbox)
        if loaded is None:
            return 0
        message, model = loaded
        predict = _predict_concurrently if message.get("asyncCommunication") else _predict
        predict(sock, inbox, Arena(arena_fd), model, message)
    except Garbage as error:
        log.error("garbage on the socket of this worker: %s", error)  # noqa: TRY400  no one's bug here
        return 1
    except DeviceSpoiled as error:
        log.error("a new worker has to come: the device fails in this one: %s", error)  # noqa: TRY400  the handler's failure is in the log
        return 1
    except LoadFailed:
        return 1
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the front is gone, or does not need this worker any more
    return 0


def _load(sock: socket.socket, inbox: Inbox) -> tuple[Mapping[str, Any], Runs] | None:
    """Take the LOAD message and load; None when the front closed before.

    Raises:
        Garbage: the first frame is no LOAD.
        LoadFailed: the model does not load; the front has been told.
    """
    first = inbox.next()
    if first is None:
        return None
    kind, _, payload = first
    if kind != Kind.LOAD:
        raise Garbage(f"frame {kind} before a LOAD")
    message = _json(payload)
    try:
        model = handler.load(message)
    except LoadFailed as error:
        sock.sendall(protocol.frame(Kind.FAULT, 0, orjson.dumps(faults.describe(error))))
        raise
    sock.sendall(protocol.frame(Kind.LOADED, 0, orjson.dumps({"pid": os.getpid()})))
    return message, model


def _json(payload: memoryview) -> dict[str, Any]:
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Garbage(str(error)) from None
    if not isinstance(message, dict) or "maxResponseBytes" not in message:
        raise Garbage("a LOAD message without maxResponseBytes")
    return message


def _predict(
    sock: socket.socket, inbox: Inbox, arena: Arena, model: Runs, message: Mapping[str, Any]
) -> None:
    """Answer batches until the front closes."""
    max_response_bytes = int(message["maxResponseBytes"])
    every = bool(message.get("everyMeasurement"))
    reported_at, unreported = 0.0, False
    outlet = model.context.cl_socket = Outlet(sock, inbox, max_response_bytes)
    while True:
        if unreported and not inbox.wait(METRICS_EVERY_S):
            sock.sendall(_measured(model, every=every))
            unreported = False
        incoming = inbox.next()
        if incoming is None:
            return
        kind, batch, payload = incoming
        if kind == Kind.PREDICT:
            rows = _rows(payload, arena)
            outlet.open(batch, rows)
            answer, failed = _answer(batch, rows, model, max_response_bytes)
            outlet.close()
            now = time.monotonic()
            unreported = now - reported_at < METRICS_EVERY_S and not every
            if not unreported:
                reported_at = now
                answer += _measured(model, every=every)
            _reply(sock, answer, failed=failed)
        elif kind == Kind.PING:
            sock.sendall(_measured(model, every=every) + protocol.frame(Kind.PONG, batch))
            reported_at, unreported = time.monotonic(), False
        elif kind != Kind.CANCEL:
            raise Garbage(f"frame {kind} where a batch was due")


def _reply(sock: socket.socket, answer: bytes, *, failed: bool) -> None:
    sock.sendall(answer)
    if failed:
        check_device()


def _predict_concurrently(
    sock: socket.socket, inbox: Inbox, arena: Arena, model: Runs, message: Mapping[str, Any]
) -> None:
    """Answer many batches at once, for a handler that is a coroutine."""
    # Only here: no other worker needs asyncio.
    import asyncio  # noqa: PLC0415

    from flambeau_runtime.worker.concurrent import ConcurrentServing  # noqa: PLC0415

    limit = int(message["maxResponseBytes"])
    every = bool(message.get("everyMeasurement"))

    def read() -> tuple[int, int, list[Row]] | None:
        incoming = inbox.next()
        if incoming is None:
            return None
        kind, batch, payload = incoming
        rows = _rows(payload, arena) if kind == Kind.PREDICT else []
        for row in rows:
            row.body = bytes(row.body)  # the inbox will read on while they are at work
        return kind, batch, rows

    serving = ConcurrentServing(
        sock,
        read,
        model,
        lambda result: _bounded(result, limit),
        lambda: _measured(model, every=every),
        limit,
    )
    asyncio.run(serving.run())


def _rows(payload: memoryview, arena: Arena) -> list[Row]:
    return [
        Row(
            row.request_id,
            row.headers,
            row.content_type,
            row.body if row.offset < 0 else arena.body(row.offset, row.size),
            row.url_path,
            row.explain,
            row.describe,
            row.spelling,
        )
        for row in protocol.unpack_predict(payload)
    ]


def _answer(
    batch: int, rows: list[Row], model: Runs, max_response_bytes: int
) -> tuple[bytes, bool]:
    """Return the END or FAULT frame of one batch, and whether it is a FAULT."""
    try:
        results = model.run(rows)
        bounded = [_bounded(result, max_response_bytes) for result in results]
        return protocol.pack_end(batch, bounded), False
    except Exception as error:  # a handler may raise anything; the worker outlives it
        if not isinstance(error, RuntimeFault):
            log.exception("a batch failed outside the handler")
        return protocol.frame(Kind.FAULT, batch, orjson.dumps(faults.describe(error))), True


def _bounded(result: RowResult, limit: int) -> RowResult:
    """Return the result, or the fault of one that is too long: only its own row fails.

    Its status is TorchServe's, which kills a worker for such an answer.
    """
    problem = too_long(result, limit)
    if problem is None:
        return result
    fault = {"reason": "PredictionFailed", "message": problem, "status": 500}
    return RowResult(orjson.dumps(fault), protocol.ROW_FAULT)


def _measured(model: Runs, *, every: bool) -> bytes:
    """Return a METRICS frame, or nothing when nothing was measured."""
    measured = model.drain_metrics()
    if not measured:
        return b""
    try:
        kept = measured if every else _newest(measured)
        report = orjson.dumps(kept, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:  # integers beyond 64 bits, lone surrogates
        log.warning("measurements that cannot be reported: %s", error)
        return b""
    if len(report) > protocol.SMALL_FRAME_BYTES:
        log.warning("%d measurements at once are too many to report", len(measured))
        return b""
    return protocol.frame(Kind.METRICS, 0, report)


def _newest(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop what a later update of the same gauge overwrites: there may be thousands."""
    kept: dict[object, dict[str, Any]] = {}
    for index, update in enumerate(measured):
        gauge = update.get("type") == "gauge"
        kept[(update.get("name"), str(update.get("dimensions"))) if gauge else index] = update
    return list(kept.values())
