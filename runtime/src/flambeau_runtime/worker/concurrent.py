"""The life of a worker whose handler is a coroutine: many batches at once, on one event loop."""

from __future__ import annotations

import asyncio
import copy
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import Protocol

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.errors import PredictionFailed, RuntimeFault
from flambeau_runtime.protocol import Garbage, Kind
from flambeau_runtime.worker import faults
from flambeau_runtime.worker.context import Context, Row, RowResult
from flambeau_runtime.worker.spoiled import DeviceSpoiled, check_device
from flambeau_runtime.worker.streaming import Outlet

log = logging.getLogger(__name__)

Frame = tuple[int, int, list[Row]]
"""Kind and batch of what the front sent, and the rows of a PREDICT."""


class RunsConcurrently(Protocol):
    """The part of a loaded handler that is used here."""

    context: Context

    async def run_concurrently(self, rows: Sequence[Row], context: Context) -> list[RowResult]:
        """Run one batch beside others."""


class Locked:
    """A socket whose frames are not mixed up by the threads of a handler."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = Lock()

    def sendall(self, data: bytes) -> None:
        """Send a whole frame."""
        with self._lock:
            self._sock.sendall(data)


class Left:
    """Whether the readers of one batch left."""

    def __init__(self) -> None:
        self.said: tuple[int, int] | None = None

    def peek(self) -> tuple[int, int] | None:
        """Return the CANCEL of the batch, None while somebody reads."""
        return self.said


class ConcurrentServing:
    """Reads frames in a thread, and runs each batch as a task.

    Args:
        sock: the socket to the front.
        read: waits for the next frame; None when the front has closed.
        model: the loaded handler.
        bounded: a result within its limits, or its fault.
        measured: a METRICS frame, or nothing.
        limit: bytes that a piece may have.
    """

    def __init__(
        self,
        sock: socket.socket,
        read: Callable[[], Frame | None],
        model: RunsConcurrently,
        bounded: Callable[[RowResult], RowResult],
        measured: Callable[[], bytes],
        limit: int,
    ) -> None:
        self._sock = Locked(sock)
        self._read = read
        self._model = model
        self._bounded = bounded
        self._measured = measured
        self._limit = limit
        self._tasks: dict[int, tuple[asyncio.Task[None], Left]] = {}
        self._closed: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Serve until the front closes.

        Raises:
            Garbage: what it sent is not this protocol.
            DeviceSpoiled: no batch can succeed in this process any more.
        """
        loop = asyncio.get_running_loop()
        closed = self._closed = loop.create_future()
        Thread(target=self._receive, args=(loop, closed), name="receiver", daemon=True).start()
        await closed

    def _receive(self, loop: asyncio.AbstractEventLoop, closed: asyncio.Future[None]) -> None:
        problem: Exception | None = None
        try:
            while (frame := self._read()) is not None:
                loop.call_soon_threadsafe(self._take, *frame)
        except (Garbage, OSError) as error:
            problem = error
        loop.call_soon_threadsafe(_settle, closed, problem)

    def _take(self, kind: int, batch: int, rows: list[Row]) -> None:
        if kind == Kind.PREDICT:
            left = Left()
            serving = asyncio.get_running_loop().create_task(self._serve(batch, rows, left))
            self._tasks[batch] = serving, left
        elif kind == Kind.CANCEL and batch in self._tasks:
            task, left = self._tasks[batch]
            left.said = kind, batch
            task.cancel()

    async def _serve(self, batch: int, rows: list[Row], left: Left) -> None:
        context = copy.copy(self._model.context)
        outlet = context.cl_socket = Outlet(self._sock, left, self._limit)
        outlet.open(batch, rows)
        failed = False
        try:
            results = await self._model.run_concurrently(rows, context)
            answer = protocol.pack_end(batch, [self._bounded(result) for result in results])
        except asyncio.CancelledError:
            log.info("the readers of a batch of %d left before its end", len(rows))
            answer = _fault(batch, PredictionFailed("the readers left"))
        except Exception as error:  # a handler may raise anything; the worker outlives it
            if not isinstance(error, RuntimeFault):
                log.exception("a batch failed outside the handler")
            answer, failed = _fault(batch, error), True
        outlet.close()
        del self._tasks[batch]
        with suppress(OSError):  # the front may be gone
            self._sock.sendall(answer + self._measured())
        if failed:
            self._check_device()

    def _check_device(self) -> None:
        try:
            check_device()
        except DeviceSpoiled as error:
            if self._closed is not None:
                _settle(self._closed, error)


def _fault(batch: int, error: Exception) -> bytes:
    return protocol.frame(Kind.FAULT, batch, orjson.dumps(faults.describe(error)))


def _settle(closed: asyncio.Future[None], problem: Exception | None) -> None:
    if closed.done():
        return
    if problem is None:
        closed.set_result(None)
    else:
        closed.set_exception(problem)
