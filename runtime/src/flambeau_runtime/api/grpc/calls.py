"""From methods of ours to handlers of gRPC: how a call ends, who is told, and what it may wait for.

A service is an object with a method for each one of its descriptor, in snake case. It takes the
request, or none where there are many, and a `Call`; it returns the reply, or writes replies.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from grpc import StatusCode

from flambeau_runtime.api.grpc.refusals import Refused
from flambeau_runtime.telemetry import GRPC, Telemetry

log = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Method: TypeAlias = Callable[..., Awaitable[Any]]
Parse: TypeAlias = Callable[[bytes], Any]

UNFORESEEN = "Internal server error."
CLOSING = "This server is shutting down."
QUIET_S = 0.05
LONGEST_QUIET_S = 1.0
NO_MESSAGE = "Invalid protobuf byte sequence"
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Call:
    """One call: who makes it, and what it reads and writes."""

    __slots__ = ("_calls", "_context", "_parse")

    def __init__(self, calls: Calls, context: Context, parse: Parse) -> None:
        self._calls = calls
        self._context = context
        self._parse = parse

    @property
    def peer(self) -> tuple[str, int]:
        """Return the caller's address and port; an empty address where there is none."""
        kind, _, rest = unquote(self._context.peer()).partition(":")
        host, _, port = rest.rpartition(":")
        if kind not in {"ipv4", "ipv6"} or not port.isdigit():
            return "", 0
        return host.strip("[]"), int(port)

    def metadata(self, key: str) -> str | None:
        """Return what the client sent under a key, in lower case; None for nothing."""
        sent: Any = self._context.invocation_metadata() or ()  # a tuple of pairs, not the class
        return next((value for name, value in sent if name == key), None)

    def headers(self) -> bytes:
        r"""Return what the client sent as headers would be: `b"\r\nname: value"` each."""
        sent: Any = self._context.invocation_metadata() or ()
        return b"".join(b"\r\n%b: %b" % (name.encode(), _bytes(value)) for name, value in sent)

    @property
    def time_left_s(self) -> float | None:
        """Return how long the client will wait; None: for ever."""
        left: float | None = self._context.time_remaining()
        return left

    def echo(self, key: str, value: str) -> None:
        """Send a value along with the end of the answer."""
        self._context.set_trailing_metadata(((key, value),))

    async def read(self) -> Any:  # noqa: ANN401  a message of the method's kind
        """Return the next request; None after the last, or when the server closes.

        Raises:
            Refused: what came is no request.
        """
        try:
            async with self.until_closing():
                message = await self._context.read()
        except TimeoutError:
            return None
        return None if message is grpc.aio.EOF else self.parsed(message)

    def parsed(self, message: bytes) -> Any:  # noqa: ANN401  a message of the method's kind
        """Return the request that was sent.

        Raises:
            Refused: it is none.
        """
        try:
            return self._parse(message)
        except DecodeError:
            raise Refused(StatusCode.INTERNAL, NO_MESSAGE) from None

    async def write(self, message: object) -> None:
        """Send a reply; waits while the client does not read."""
        await self._context.write(message)

    @asynccontextmanager
    async def until_closing(self) -> AsyncIterator[None]:
        """Raise TimeoutError in the block when the server closes: what never ends must."""
        async with self._calls.patience() as patience:
            yield patience


class Calls:
    """What the calls of one server share: the log they are noted in, and the server's end."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._closing = False
        self._refused_at = 0.0
        self._waiting: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Refuse what comes from now on, and let no call wait for what may never come."""
        self._closing = True
        now = asyncio.get_running_loop().time()
        for patience in self._waiting:
            patience.reschedule(now)

    async def quiet(self) -> None:
        """Wait until nobody seems to call any more.

        A server that stops cancels what has reached it but not its handlers, and nobody tries what
        was cancelled again. What is UNAVAILABLE may be tried elsewhere.
        """
        until = time.monotonic() + LONGEST_QUIET_S
        self._refused_at = time.monotonic()
        while (now := time.monotonic()) < until and now - self._refused_at < QUIET_S:  # noqa: ASYNC110  silence has no event
            await asyncio.sleep(QUIET_S)

    def admit(self) -> None:
        """Take a call in.

        Raises:
            Refused: the server closes.
        """
        if self._closing:
            self._refused_at = time.monotonic()
            raise Refused(StatusCode.UNAVAILABLE, CLOSING)

    @asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Bound a block by the server's end."""
        async with asyncio.timeout(0 if self._closing else None) as patience:
            self._waiting.add(patience)
            try:
                yield
            finally:
                self._waiting.discard(patience)

    def handler(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """Return the handler of a service; `servicer` has its methods in snake case."""
        handlers = {
            method.name: self._method(method, getattr(servicer, snake_case(method.name)))
            for method in service.methods
        }
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _method(
        self, method: MethodDescriptor, behaviour: Method
    ) -> grpc.RpcMethodHandler[Any, Any]:
        name = f"{method.containing_service.full_name}/{method.name}"
        request = message_factory.GetMessageClass(method.input_type)
        reply = message_factory.GetMessageClass(method.output_type)
        # Requests are parsed here: gRPC would log a traceback for each stranger's garbage.
        coding: Any = {"response_serializer": reply.SerializeToString}
        if method.client_streaming:
            many = self._many(name, behaviour, request.FromString)
            return grpc.stream_stream_rpc_method_handler(many, **coding)
        one = self._one(name, behaviour, request.FromString)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(one, **coding)
        return grpc.unary_unary_rpc_method_handler(one, **coding)

    def _one(self, name: str, behaviour: Method, parse: Parse) -> Any:  # noqa: ANN401  grpc's own type is private
        async def answer(message: bytes, context: Context) -> object:
            call = Call(self, context, parse)

            async def work() -> object:
                self.admit()
                return await behaviour(call.parsed(message), call)

            return await self._ended(name, call, context, work())

        return answer

    def _many(self, name: str, behaviour: Method, parse: Parse) -> Any:  # noqa: ANN401
        async def answer(_: object, context: Context) -> object:
            call = Call(self, context, parse)

            async def work() -> object:
                self.admit()
                return await behaviour(call)

            return await self._ended(name, call, context, work())

        return answer

    async def _ended(
        self, name: str, call: Call, context: Context, work: Awaitable[object]
    ) -> object:
        """Do the work; tell the client how it ended, and the access log."""
        began = time.monotonic()
        code = StatusCode.CANCELLED
        try:
            reply = await work
            code = StatusCode.OK
        except Refused as refused:
            code = refused.code
            await context.abort(code, refused.details)
        except Exception:
            log.exception("a call failed", extra={"call": name})
            code = StatusCode.INTERNAL
            await context.abort(code, UNFORESEEN)
        else:
            return reply
        finally:
            self._note(name, call, code, (time.monotonic() - began) * 1000)

    def _note(self, name: str, call: Call, code: StatusCode, elapsed_ms: float) -> None:
        if self._telemetry.access is not None:
            host, port = call.peer
            number: int = code.value[0]
            self._telemetry.access(f"{host}:{port}", GRPC, name, number, elapsed_ms)


def _bytes(value: str | bytes) -> bytes:
    """Return a value of metadata; those of keys that end with -bin are bytes."""
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


def snake_case(name: str) -> str:
    """Return `StreamPredictions2` as `stream_predictions2`."""
    return _CAPITAL.sub("_", name).lower()
