"""uvicorn's own protocol with bounds: no head is endless, and whoever begins a message ends it.

uvicorn has neither. A head that goes on and on is joined piece by piece in its parser, which takes
the square of its length: some hundred megabytes would stop the loop that serves predictions.
"""

from __future__ import annotations

import asyncio
import uuid
from enum import IntEnum
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from flambeau_runtime.api.payload import CLOSE, render_problem
from flambeau_runtime.api.problems import Problem

LONGEST_HEAD = 64 * 1024
HEAD_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 300.0
LINGER_TIMEOUT_S = 5.0
LINGER_BYTES = 64 * 1024 * 1024
"""So far a client is read on after a refusal: bytes in flight would reset the answer."""
TICK_S = 2.0


class Part(IntEnum):
    """Which part of a message is being read."""

    NONE = 0
    HEAD = 1
    BODY = 2
    LINGER = 3  # refused: what still comes is thrown away


class BoundedHttp(HttpToolsProtocol):
    """Answers through ASGI; refuses what is endless, and closes on who never ends."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._part = Part.NONE
        self._led_on = False  # what was read last ended a head or brought some body
        self._fruitless = 0  # bytes since then
        self._since = self._began = 0.0
        self._watch: asyncio.TimerHandle | None = None

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn asks for more
        self._since = self.loop.time()
        self._watch = self.loop.call_later(TICK_S, self._on_tick)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        self._stop_watch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._refused:
            self._fruitless += len(data)
            if self._fruitless > LINGER_BYTES:
                self.transport.close()
            return
        self._led_on = False
        super().data_received(data)
        self._fruitless = 0 if self._led_on else self._fruitless + len(data)
        if self._fruitless > LONGEST_HEAD and not self._refused:
            self._refuse(431, f"The request's headers are longer than {LONGEST_HEAD} bytes.")

    # what the parser and uvicorn call

    def on_message_begin(self) -> None:
        """Take note that a head has begun."""
        self._part = Part.HEAD
        self._since = self._began = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Take note that the head is over."""
        self._part = Part.BODY
        self._goes_on()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._goes_on()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that the message has been read whole."""
        self._part = Part.NONE
        self._goes_on()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words
        """Refuse what is no HTTP, in the form that all errors have."""
        self._refuse(400, "Invalid HTTP message.")

    # inside

    @property
    def _refused(self) -> bool:
        return self._part is Part.LINGER

    def _goes_on(self) -> None:
        self._led_on = True
        self._since = self.loop.time()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _on_tick(self) -> None:
        """Close what is late: one timer per connection."""
        now = self.loop.time()
        if self.flow.read_paused:
            self._since = self._began = now  # it is not the client who waits
        self._watch = self.loop.call_later(TICK_S, self._on_tick)
        if not self._late(now):
            return
        if self._part in {Part.NONE, Part.LINGER}:
            self.transport.close()
        else:
            self._refuse(408, "The request did not arrive in time.")

    def _late(self, now: float) -> bool:
        idle_s = now - self._since
        if self._part is Part.HEAD:
            return idle_s >= HEAD_TIMEOUT_S
        if self._part is Part.LINGER:
            return idle_s >= LINGER_TIMEOUT_S
        if self._part is Part.BODY:
            return idle_s >= STALL_TIMEOUT_S or now - self._began >= BODY_TIMEOUT_S
        # After its first message an idle connection is uvicorn's to close.
        never_asked: bool = self.cycle is None  # type: ignore[redundant-expr,unused-ignore]
        return never_asked and idle_s >= self.timeout_keep_alive

    def _refuse(self, status: int, message: str) -> None:
        """Answer, unless an answer has begun, and close when the client has stopped sending."""
        cycle: Any = self.cycle  # None before the first message
        answering = cycle is not None and cycle.response_started and not cycle.response_complete
        if answering:
            self.transport.close()
        else:
            kind = "RequestTimeoutException" if status == 408 else "BadRequestException"  # noqa: PLR2004
            problem = Problem(status, kind, message)
            body = problem.body()
            pairs = self.server_state.default_headers
            ending = b"".join(b"\r\n%b: %b" % (name, value) for name, value in pairs) + CLOSE
            request_id = str(uuid.uuid4())
            self.transport.write(render_problem(request_id, problem, len(body), ending) + body)
            if cycle is not None:
                cycle.disconnected = True  # whoever still works on an answer has nobody to tell
                cycle.message_event.set()
            self._part, self._fruitless, self._since = Part.LINGER, 0, self.loop.time()
            if self.transport.can_write_eof():
                self.transport.write_eof()
