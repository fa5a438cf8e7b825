"""The socket between front and one worker: frames in and out, limits, one word for every loss."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.errors import (
    HandlerRefused,
    LoadFailed,
    OutOfMemory,
    PredictionFailed,
    WorkerLost,
)
from flambeau_runtime.protocol import Answered, Buffer, Garbage, Kind

Shape = TypeVar("Shape")

MANY_BYTES = 64 * 1024
"""Above this a frame is written in parts: joining would cost more than one more system call."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The two ends of a new worker's socket, and the arena (a memfd) for big bodies, or None.

    The worker's end and the arena go to the child as `--fd` and `--arena-fd`; close `worker` after
    the spawn. The arena's descriptor belongs to the version's queue: pass it on, never close it.
    """

    front: socket.socket
    worker: socket.socket
    arena_fd: int | None


def open_channel(arena_fd: int | None = None) -> Channel:
    """Make the socket pair for one spawn. `arena_fd` is `queue.arena_fd`."""
    front, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(front, worker, arena_fd)


class Receiver(Protocol):
    """A lane as its link sees it."""

    def ended(self, batch: int, rows: list[Answered]) -> None:
        """Take the answers of a batch; raise Garbage when they are not of the one in flight."""

    def parted(self, batch: int, rows: list[Answered]) -> None:
        """Take pieces of the answers of a batch; raise Garbage as above."""

    def faulted(self, batch: int, fault: PredictionFailed) -> None:
        """Take the fault of a whole batch; raise Garbage as above."""

    def lost(self, fault: WorkerLost) -> None:
        """Take the end of the worker."""

    def frame_limit(self) -> int:
        """Return how many bytes a PART or END frame may have."""


class Link(Protocol):
    """The part of a link that a lane uses."""

    receiver: Receiver | None

    def send(self, parts: Sequence[Buffer]) -> None:
        """Write one frame."""

    def pause(self) -> None:
        """Read no more."""

    def resume(self) -> None:
        """Read again."""

    def close(self) -> None:
        """Close the socket without telling anyone."""


class WorkerLink(asyncio.Protocol):
    """An asyncio protocol over the front's end of a worker's socket.

    The loss of the worker is told once, on the loop: to `receiver` (the lane) from the moment there
    is one, to `on_lost` before. After `close()` nobody is told.
    """

    def __init__(
        self,
        front: socket.socket,
        on_lost: Callable[[WorkerLost], None],
        on_metrics: Callable[[list[Any]], None],
    ) -> None:
        self.receiver: Receiver | None = None
        self._socket = front
        self._on_lost = on_lost
        self._on_metrics = on_metrics
        self._transport: asyncio.Transport | None = None
        self._loading: asyncio.Future[Mapping[str, Any]] | None = None
        self._rest: bytes | bytearray = b""
        self._wanted = 0  # bytes until the frame that has begun is whole
        self._over = False
        self._paused = False
        self._pinged: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Put the socket on the loop."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=self._socket)

    async def load(self, message: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """Have the worker load a model; return what it says of itself ({"pid": …}).

        Raises:
            LoadFailed: with the worker's reason, or StartupTimeout, or WorkerDied when its socket
                closed or sent something else.
        """
        if self._over or self._transport is None:
            raise LoadFailed("WorkerDied", "the worker ended before it could load")
        self._loading = asyncio.get_running_loop().create_future()
        self._transport.write(protocol.frame(Kind.LOAD, 0, orjson.dumps(message)))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._loading
        except TimeoutError:
            raise LoadFailed(
                "StartupTimeout", f"the model did not load within {timeout_s:g} s"
            ) from None
        finally:
            self._loading = None

    def send(self, parts: Sequence[Buffer]) -> None:
        """Write one frame; a loss shows later, never inside this call."""
        if self._transport is None or self._over:
            return
        if sum(map(len, parts)) < MANY_BYTES:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    async def settle(self) -> None:
        """Have the worker, which is idle, say what its handler has measured; return when it has."""
        if self._over or self._transport is None:
            return
        if self._pinged is None or self._pinged.done():
            self._pinged = asyncio.get_running_loop().create_future()
            self._transport.write(protocol.frame(Kind.PING, 0))
        await asyncio.shield(self._pinged)

    def pause(self) -> None:
        """Read no more: the worker's writing will block once the socket is full.

        Its death is then seen by its process alone.
        """
        if not self._paused and not self._over and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self._over and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the socket without telling anyone; the worker sees EOF and exits."""
        self._over = True
        self._answered_ping()
        self.receiver = None
        if self._transport is not None:
            self._transport.abort()
        else:
            self._socket.close()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the worker's end closed."""
        self._lose("its socket closed" if exc is None else f"its socket broke ({exc})")

    def data_received(self, data: bytes) -> None:
        """Take bytes; act on every frame that is whole."""
        if self._over:
            return
        try:
            self._take(data)
        except Garbage as error:
            self._lose(f"it sent garbage ({error})")

    def _take(self, data: bytes) -> None:
        if self._rest:
            if len(self._rest) + len(data) < self._wanted:
                self._rest += data
                return
            data = self._rest = self._rest + data  # type: ignore[assignment]
        position = self._frames(data)
        self._keep(data, position)

    def _frames(self, data: Buffer) -> int:
        """Act on the whole frames in `data`; return where the first that is not whole begins."""
        size = len(data)
        position = 0
        self._wanted = protocol.HEADER.size
        while size - position >= protocol.HEADER.size:
            length, batch, kind = protocol.read_header(data, position)
            begin = position + protocol.HEADER.size
            end = begin + length
            if end > size:
                self._check_length(kind, length)
                self._wanted = protocol.HEADER.size + length
                break
            payload = data if length < MANY_BYTES else memoryview(data)
            self._dispatch(kind, batch, payload[begin:end])
            if self._over:
                return size
            position = end
        return position

    def _keep(self, data: Buffer, position: int) -> None:
        if position == len(data):
            self._rest = b""
        elif isinstance(data, bytearray) and not position:
            self._rest = data
        else:
            self._rest = bytearray(data[position:])

    def _check_length(self, kind: int, length: int) -> None:
        limit = protocol.SMALL_FRAME_BYTES
        if kind in {Kind.END, Kind.PART} and self.receiver is not None:
            limit = self.receiver.frame_limit()
        if length > limit:
            raise Garbage(f"a frame of {length} bytes where {limit} are the most")

    def _dispatch(self, kind: int, batch: int, payload: Buffer) -> None:
        receiver = self.receiver
        if kind == Kind.END and receiver is not None:
            receiver.ended(batch, protocol.unpack_end(payload))
        elif kind == Kind.METRICS:
            self._on_metrics(_json(payload, list))
        elif kind == Kind.PART and receiver is not None:
            receiver.parted(batch, protocol.unpack_end(payload))
        elif kind == Kind.FAULT and receiver is not None:
            receiver.faulted(batch, read_fault(_json(payload, dict)))
        elif kind in {Kind.LOADED, Kind.FAULT} and self._loading is not None:
            self._loaded(Kind(kind), _json(payload, dict))
        elif kind == Kind.PONG and self._pinged is not None:
            self._answered_ping()
        else:
            raise Garbage(f"a frame of kind {kind} that nobody asked for")

    def _answered_ping(self) -> None:
        if self._pinged is not None and not self._pinged.done():
            self._pinged.set_result(None)

    def _loaded(self, kind: Kind, message: dict[str, Any]) -> None:
        loading = self._loading
        if loading is None or loading.done():
            return
        if kind == Kind.LOADED:
            loading.set_result(message)
        else:
            text = {key: str(message.get(key, "")) for key in ("reason", "message", "log")}
            loading.set_exception(LoadFailed(text["reason"], text["message"], text["log"]))

    def _lose(self, how: str) -> None:
        """Tell whoever is concerned that the worker is lost; once."""
        if self._over:
            return
        self._over = True
        self._answered_ping()
        if self._transport is not None:
            self._transport.abort()
        # The exit code is known only once the process has been reaped, after this answer.
        seen = how[0].upper() + how[1:]
        fault = WorkerLost(f"Worker died. {seen}; its exit code and last lines are in the log.")
        if self._loading is not None and not self._loading.done():
            self._loading.set_exception(
                LoadFailed("WorkerDied", f"the worker ended while it loaded: {how}")
            )
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            self._on_lost(fault)
        else:
            receiver.lost(fault)


def read_fault(message: Mapping[str, Any]) -> PredictionFailed:
    """Return the fault that a FAULT message describes."""
    text = str(message.get("message", "Prediction failed"))
    status = message.get("status")
    if message.get("reason") == "OutOfMemory":
        return OutOfMemory(text)
    if isinstance(status, int):
        return HandlerRefused(text, status)
    return PredictionFailed(text)


def row_fault(body: Buffer) -> PredictionFailed:
    """Return the fault of a row that failed alone."""
    try:
        return read_fault(_json(body, dict))
    except Garbage:  # the batch is over and was in order; so is the worker
        return PredictionFailed("Prediction failed")


def _json(payload: Buffer, shape: type[Shape]) -> Shape:
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Garbage(str(error)) from None
    if not isinstance(message, shape):
        raise Garbage(f"{type(message).__name__} where {shape.__name__} was due")
    return message
