"""`/predictions` as uvicorn's protocol class: bytes in, a job into the queue, bytes out.

No ASGI, no task and no future per request. A message's extent is found here, with one search for
its end and a few for headers; llhttp reads the same bytes and has to agree on every message, or it
is refused. Everything that is no prediction is handed over to uvicorn's own protocol.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from enum import IntEnum
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from flambeau_runtime.api.asgi import LOCAL_PEER
from flambeau_runtime.api.big_body import BigBody
from flambeau_runtime.api.chunked import ChunkedBody, Stage
from flambeau_runtime.api.door import HELD_BYTES, Door, Gate, Routes
from flambeau_runtime.api.handed_over import HandedOver
from flambeau_runtime.api.parting import has_unread, send_end
from flambeau_runtime.api.payload import (
    BODILESS,
    CONTINUE,
    METHODS,
    accepted_id,
    find_header,
    read_content_type,
    read_timeout_s,
    render,
    render_problem,
)
from flambeau_runtime.api.problems import Problem, describe, final_status, in_open_inference
from flambeau_runtime.api.routes import Route, find_route, model_in_form
from flambeau_runtime.api.streamed_answer import StreamedAnswer
from flambeau_runtime.errors import BadRequest, PayloadTooLarge, RuntimeFault
from flambeau_runtime.serving.arena import BIG_BODY_BYTES, Region
from flambeau_runtime.serving.job import Job, Payload, Prediction
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry

log = logging.getLogger(__name__)

FIRST_LETTER = ord("A")
LONGEST_HEAD = 64 * 1024
LONGEST_TARGET = 8 * 1024
DRAINED_BYTES = 1024 * 1024
"""A refused body up to this is read to its end and the connection kept."""
LINGER_BYTES = 64 * 1024 * 1024
"""A longer one is still read that far after the answer: a client that is cut off while it sends
never sees why."""
JOINED_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 300.0
LINGER_TIMEOUT_S = 5.0
LAST_CHANCE_S = 0.25
"""How long a connection is kept at the end for a request that its client may be about to send."""
TICK_S = 5.0

_MALFORMED = "Invalid HTTP message."
_ID = b"\r\nx-request-id:"
_TIMEOUT = b"\r\nx-request-timeout:"
_LENGTH = b"\r\ncontent-length:"
_CODING = b"\r\ntransfer-encoding:"
_UPGRADE = b"\r\nupgrade:"


class State(IntEnum):
    """What the next byte of a connection belongs to."""

    HEAD = 0
    BODY = 1
    CHUNKED = 2
    BUSY = 3  # a job is on its way: what comes is kept for later
    DRAIN = 4  # the rest of a refused body
    LINGER = 5  # answered for good, waiting for the client to stop sending


HEAD, BUSY = State.HEAD, State.BUSY


class HotPath(asyncio.Protocol):
    """One connection. It is the reply of its own job: one is on its way at a time."""

    door: Door

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._keep_alive_s = float(config.timeout_keep_alive)
        self._transport: asyncio.Transport
        self._checker = httptools.HttpRequestParser(self)
        self._state = HEAD
        self._rest: bytes = b""
        self._job: Job | None = None
        self._stream: StreamedAnswer | None = None  # the answer of which pieces have left
        self._keep = True  # the connection lives on after the answer
        self._agreed = False  # llhttp has seen the end of the message
        self._advancing = False
        self._write_paused = False
        self._read_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0  # last progress
        self._began = 0.0  # of the message that is being read
        self._ends_at = 0.0
        self._unsent = 0  # bytes of answers that the client had not read at the last tick
        self._left = 0  # bytes of the body still to come
        self._body = bytearray()
        self._chunks: ChunkedBody | None = None
        self._big: BigBody | None = None
        self._method = self._target = b""
        self._route: Route | None = None
        self._block = self._lowered = b""
        self._request_id = ""

    # what asyncio and uvicorn call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._since = now = time.monotonic()
        age_s = self.door.max_age_s
        # Jittered: a crowd that came together must not leave together.
        self._ends_at = now + age_s * random.uniform(0.9, 1.1) if age_s else float("inf")  # noqa: S311
        self._timer = self._loop.call_later(min(self._keep_alive_s, TICK_S), self._on_tick)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's interface
        """Let go of the job: nobody waits any more."""
        self._server_state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._big = None
        self._state = State.LINGER
        self._rest = b""

    def shutdown(self) -> None:
        """Close after the answer, or when nothing is asked (uvicorn's graceful shutdown).

        Who has just connected, or was just answered, may be about to ask: that is waited for.
        """
        self._ends_at = 0.0
        if self._is_free:
            self.close_if_idle(LAST_CHANCE_S)
            self._loop.call_later(LAST_CHANCE_S, self.shutdown)

    def close_if_idle(self, seconds: float) -> None:
        """Close when nothing was asked for so long, and nothing has come meanwhile."""
        if not self._is_free or time.monotonic() - self._since < seconds:
            return
        descriptor = self._transport.get_extra_info("socket").fileno()
        if has_unread(descriptor):
            return
        if self._transport.get_extra_info("sslcontext") is None:  # TLS has a word of its own
            send_end(descriptor)
        self._transport.close()

    @property
    def _is_free(self) -> bool:
        """Whether no request has begun, and no answer is on its way."""
        if self._state is not HEAD or self._rest or self._write_paused:
            return False
        return not self._transport.is_closing() and not self._transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        """Answer no further request, and hold a stream up, until the client reads."""
        self._write_paused = True
        self._since = time.monotonic()
        if self._job is not None:
            self._job.hold()

    def resume_writing(self) -> None:
        """Go on with what the client sent meanwhile."""
        self._write_paused = False
        if self._job is not None:
            self._job.go_on()
        self._resume()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        state = self._state
        if state is HEAD:
            self._advance(self._rest + data if self._rest else data)
        elif state is BUSY:
            self._hold(data)
        elif state is State.LINGER:
            self._left -= len(data)
            if self._left < 0:
                self._transport.close()
        else:
            self._since = time.monotonic()
            self._advance(self._continue(data))

    def on_message_complete(self) -> None:
        """Take llhttp's word that the message is over."""
        self._agreed = True
        if not self._checker.should_keep_alive():
            self._keep = False

    # from bytes to a job

    def _advance(self, data: bytes) -> None:
        """Read requests until one is on its way or the bytes run out."""
        self._advancing = True
        while data and self._state is HEAD and not self._write_paused:
            begun = len(data)
            data = self._read_head(data)
            if self._state is HEAD and len(data) == begun:
                break
        self._advancing = False
        self._rest = b""
        if data and (self._state is HEAD or self._state is BUSY):
            self._hold(data)

    def _hold(self, data: bytes) -> None:
        self._rest = self._rest + data if self._rest else data
        if (
            len(self._rest) > HELD_BYTES
            and not self._read_paused
            and (self._state is not HEAD or self._write_paused)
        ):
            self._read_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()
        if self._rest and self._state is HEAD and not self._advancing:
            rest, self._rest = self._rest, b""
            self._advance(rest)

    def _read_head(self, data: bytes) -> bytes:
        """Read one message from its start as far as it is there; return the bytes after it."""
        end = data.find(b"\r\n\r\n") + len(b"\r\n\r\n")
        if end < len(b"\r\n\r\n") or data[0] < FIRST_LETTER:
            return self._incomplete(data)
        line_end = data.find(b"\r\n")
        method, _, target = data[:line_end].partition(b" ")
        target = target.rpartition(b" ")[0]
        route = find_route(target)
        if route is None or method not in METHODS:
            self._hand_over(data)
            return b""
        if end > LONGEST_HEAD or len(target) > LONGEST_TARGET:
            return self._too_long(target)
        self._method, self._target, self._route = method, target, route
        self._block = data[line_end : end - 2]
        self._lowered = self._block.lower()
        self._identify()
        try:
            return self._read_body(data, end)
        except (BadRequest, ValueError, httptools.HttpParserError, httptools.HttpParserUpgrade):
            return self._malformed()

    def _read_body(self, data: bytes, head: int) -> bytes:
        """Read the body as far as it is there; return the bytes after it."""
        sent = find_header(self._block, self._lowered, _LENGTH)
        if sent is None and _CODING in self._lowered:
            return self._begin_chunked(data, head)
        length = int(sent) if sent else 0
        if length <= self.door.max_request_bytes and len(data) >= head + length:
            return self._take_whole(data, head, head + length)
        return self._begin_body(data, head, length)

    def _identify(self) -> None:
        """Give the request the id it brings, or a fresh one."""
        self._request_id = ""
        if _ID in self._lowered:
            sent = find_header(self._block, self._lowered, _ID)
            self._request_id = (accepted_id(sent) if sent else None) or ""
        if not self._request_id:
            self._request_id = self.door.fresh_id()

    def _take_whole(self, data: bytes, head: int, end: int) -> bytes:
        """Take a message that is there from its first to its last byte."""
        if len(data) == end:
            body, rest = data[head:], b""
        else:
            body, rest, data = data[head:end], data[end:], data[:end]
        self._checker.feed_data(
            self._without_upgrade(data, head) if _UPGRADE in self._lowered else data
        )
        if not self._agreed:
            return self._malformed()
        self._agreed = False
        self._submit(body)
        return rest

    def _begin_body(self, data: bytes, head: int, length: int) -> bytes:
        """Take the start of a message whose body is still on its way."""
        self._began = self._since = time.monotonic()
        self._check(self._without_upgrade(data[:head], head))
        if self._agreed:
            return self._malformed()
        self._left = length
        if length > self.door.max_request_bytes:
            return self._refuse(PayloadTooLarge(self.door.max_request_bytes), data[head:])
        self._state = State.BODY
        self._body = bytearray()
        self._expect()
        if length >= BIG_BODY_BYTES:
            return self._begin_big(data[head:], length)
        return self._continue(data[head:])

    def _begin_big(self, data: bytes, length: int) -> bytes:
        """Have the rest of a big body read to where the worker will read it, if there is room."""
        route = self._route
        assert route is not None  # noqa: S101  the head has been read
        try:
            taker = self.door.catalogue.route(route.model, route.version, self._block)
            arena = taker.queue.arena
        except RuntimeFault:
            arena = None  # the caller is told when the body has been read
        region = arena.take(length) if arena is not None else None
        if region is None:
            return self._continue(data)
        if data:
            self._check(data)
            region.view[: len(data)] = data
        self._left = length - len(data)
        self._big = BigBody(self, region, len(data))
        self._read_by(self._big)
        return b""

    def _read_by(self, reader: asyncio.BaseProtocol) -> None:
        """Change who reads the socket; a transport looks at its protocol's kind when it starts."""
        self._transport.pause_reading()
        self._transport.set_protocol(reader)
        self._transport.resume_reading()

    def _read_here(self) -> None:
        if self._big is not None:
            self._big = None
            self._read_by(self)

    def took(self, part: memoryview) -> None:
        """Take note of a part of a big body, which is in its place."""
        self._since = time.monotonic()
        big = self._big
        assert big is not None  # noqa: S101  it is the caller
        try:
            self._checker.feed_data(part)
        except httptools.HttpParserError:
            self._malformed()
            return
        self._left -= len(part)
        if self._agreed is (self._left > 0):
            self._malformed()
        elif not self._left:
            self._read_here()
            self._agreed = False
            self._submit(big.region.view, big.region)

    def _begin_chunked(self, data: bytes, head: int) -> bytes:
        self._began = self._since = time.monotonic()
        self._check(self._without_upgrade(data[:head], head))
        if self._agreed:
            return self._malformed()
        self._chunks = ChunkedBody(self.door.max_request_bytes)
        self._state = State.CHUNKED
        self._expect()
        return self._continue(data[head:])

    def _continue(self, data: bytes) -> bytes:
        """Take more of a body; return the bytes after it."""
        try:
            if self._state is State.BODY:
                return self._more_body(data)
            if self._state is State.CHUNKED:
                return self._more_chunks(data)
        except (BadRequest, httptools.HttpParserError):
            return self._malformed()
        return self._more_refused(data)

    def _more_body(self, data: bytes) -> bytes:
        rest = data[self._left :]
        mine = data[: self._left] if rest else data
        self._check(mine)
        self._body += mine
        self._left -= len(mine)
        if self._agreed is (self._left > 0):
            return self._malformed()
        if not self._left:
            body, self._body = self._body, bytearray()
            self._complete(body)
        return rest

    def _more_chunks(self, data: bytes) -> bytes:
        chunks = self._chunks
        assert chunks is not None  # noqa: S101  the state says so
        try:
            end = chunks.take(data)
        except PayloadTooLarge as fault:
            self._left = LINGER_BYTES
            return self._refuse(fault, b"")
        self._check(data[:end])
        if self._agreed is not (chunks.stage is Stage.DONE):
            return self._malformed()
        if self._agreed:
            self._chunks = None
            self._complete(chunks.body)
        return data[end:]

    def _complete(self, body: bytearray) -> None:
        self._agreed = False
        self._submit(body)

    def _more_refused(self, data: bytes) -> bytes:
        """Pass by the rest of a refused body."""
        rest = data[self._left :]
        mine = data[: self._left] if rest else data
        self._check(mine)
        self._left -= len(mine)
        if not self._left:
            self._agreed = False
            self._state = HEAD
        return rest

    def _check(self, data: bytes) -> None:
        """Have llhttp read what was read here."""
        if data:
            self._checker.feed_data(data)

    def _without_upgrade(self, data: bytes, head: int) -> bytes:
        """Leave an offer to upgrade out: a server may ignore it, llhttp would stop at it."""
        at = data.lower().find(_UPGRADE, 0, head)
        if at < 0:
            return data
        return data[:at] + data[data.index(b"\r\n", at + 2) :]

    def _expect(self) -> None:
        if b"\r\nexpect: 100-continue" in self._lowered:
            self._transport.write(CONTINUE)

    def _incomplete(self, data: bytes) -> bytes:
        """Wait for the rest of a head, within bounds."""
        if data[0] in b"\r\n":
            return data.lstrip(b"\r\n")
        if data[0] < FIRST_LETTER:
            return self._malformed()
        if not self._rest:
            self._began = self._since = time.monotonic()
        if len(data) > LONGEST_HEAD:
            return self._too_long(b"")
        return data

    def _submit(self, body: bytes | bytearray | memoryview, region: Region | None = None) -> None:
        """Make a job of the request that has been read, and queue it."""
        door, route = self.door, self._route
        assert route is not None  # noqa: S101  the head has been read
        self._state = BUSY
        try:
            if door.gate is not None:
                door.gate(self._block[2:])
            block, lowered = self._block, self._lowered
            content_type = read_content_type(block, lowered)
            name = route.model
            if name is None:
                name = model_in_form(content_type, body)
            version = door.catalogue.route(
                name, route.version, block, region.arena if region else None
            )
            timeout_s = version.spec.timeouts.response_s
            if _TIMEOUT in lowered:
                asked = find_header(block, lowered, _TIMEOUT) or b""
                timeout_s = read_timeout_s(asked, timeout_s)
            now = time.monotonic()
            if region is not None and region.arena is not version.queue.arena:
                # Another version came in while the body was on its way; its workers see it not.
                body, region = bytes(body), None
            payload = Payload(
                self._request_id,
                block[2:],
                body,
                content_type,
                route.url_path,
                route.explain,
                False,
                route.spelling,
            )
            payload.region = region
            job = self._job = Job(payload, self, now, now + timeout_s, route.version is not None)
            version.submit(job)
        except Exception as fault:  # the caller is told of anything, and the others go on
            if not isinstance(fault, RuntimeFault):
                log.exception("a prediction failed at the door")
            self._job = None
            self._began = time.monotonic()
            self._answer_problem(self._say(fault))

    # from a result to bytes

    def part(self, job: Job, prediction: Prediction) -> None:  # noqa: ARG002  the reply's interface
        """Write a piece, the first one behind its head; it leaves at once."""
        head = b""
        if self._stream is None:
            self._stream = StreamedAnswer(prediction, keep=self._keeps())
            ending = self.door.keep_alive if self._stream.keep else self.door.close
            head = self._stream.head(self._request_id, prediction, ending)
        self._write_chunk(head, prediction, b"")

    def _write_chunk(self, head: bytes, prediction: Prediction, end: bytes) -> None:
        stream = self._stream
        assert stream is not None  # noqa: S101  it has begun
        parts = [head, *stream.chunk(prediction.body), end]
        if len(prediction.body) < JOINED_BYTES:
            self._transport.write(b"".join(parts))
            return
        for part in parts:  # not writelines, see `answered`
            if part:
                self._transport.write(part)

    def _finish_stream(self, job: Job, prediction: Prediction) -> None:
        """Write the last piece and the end."""
        stream = self._stream
        assert stream is not None  # noqa: S101  it has begun
        self._write_chunk(b"", prediction, stream.end())
        self._stream = None
        self._note(stream.status, job.queued_at)
        self._after(keep=stream.keep and self._keeps())

    def _break_stream(self, fault: RuntimeFault) -> None:
        """Close without an end: nothing else can tell a client that the answer is not whole."""
        self._stream = None
        self._note(describe(fault).status, self._began)
        self._after(keep=False)

    def answered(self, job: Job, prediction: Prediction) -> None:
        """Write the prediction."""
        self._job = None
        if self._stream is not None:
            self._finish_stream(job, prediction)
            return
        body = b"" if prediction.status in BODILESS else prediction.body
        keep = self._keeps()
        ending = self.door.keep_alive if keep else self.door.close
        head = render(self._request_id, prediction, len(body), ending)
        if len(body) < JOINED_BYTES:
            self._transport.write(head + body)
        else:
            # Not writelines: on CPython 3.12.0 to 3.13.1 it never pauses the writer (gh-127655).
            self._transport.write(head)
            self._transport.write(body)
        self._note(prediction.status, job.queued_at)
        self._after(keep=keep)

    def failed(self, job: Job, fault: RuntimeFault) -> None:
        """Write why there is no prediction."""
        self._job = None
        self._began = job.queued_at
        if self._stream is not None:
            self._break_stream(fault)
        else:
            self._answer_problem(self._say(fault))

    def _say(self, fault: Exception) -> Problem:
        problem = describe(fault)
        if self._route is not None and self._route.open_inference:
            return in_open_inference(problem, fault)
        return problem

    def _answer_problem(self, problem: Problem, *, keep: bool = True) -> None:
        keep = keep and self._keeps()
        body = problem.body()
        ending = self.door.keep_alive if keep else self.door.close
        self._transport.write(render_problem(self._request_id, problem, len(body), ending) + body)
        self._note(problem.status, self._began)
        self._after(keep=keep)

    def _keeps(self) -> bool:
        """Whether the connection lives on after this answer: also for what was sent behind it."""
        leaves = self.door.draining or time.monotonic() >= self._ends_at
        return self._keep and (not leaves or bool(self._rest))

    def _note(self, status: int, began: float) -> None:
        telemetry = self.door.telemetry
        telemetry.responses[final_status(status) // 100] += 1
        if telemetry.access is not None:
            peer = self._transport.get_extra_info("peername")
            if type(peer) is not tuple:
                peer = LOCAL_PEER
            elapsed_ms = (time.monotonic() - began) * 1_000
            telemetry.access(
                f"{peer[0]}:{peer[1]}",
                self._method.decode(),
                self._target.decode("latin-1"),
                status,
                elapsed_ms,
            )

    def _after(self, *, keep: bool) -> None:
        """Turn to the next request, or close."""
        self._since = time.monotonic()
        if not keep:
            self._state = State.LINGER
            self._left = DRAINED_BYTES
            self._transport.close()
            return
        self._state = HEAD
        if (self._rest or self._read_paused) and not self._write_paused:
            self._resume()

    # refusals

    def _refuse(self, fault: RuntimeFault, data: bytes) -> bytes:
        """Answer before the body is read; pass by what is still to come, up to a bound."""
        awaited = b"\r\nexpect: 100-continue" in self._lowered and not data
        keep = self._left <= DRAINED_BYTES and self._chunks is None and not awaited
        if keep and self._checker.should_keep_alive():
            left = self._left
            self._answer_problem(describe(fault))
            if self._state is HEAD:
                self._state, self._left = State.DRAIN, left
                return self._more_refused(data)
            return b""
        self._chunks = None
        self._linger(describe(fault))
        return b""

    def _linger(self, problem: Problem) -> None:
        """Answer and close, but read on for a while: bytes in flight would reset the answer."""
        body = problem.body()
        self._transport.write(
            render_problem(self._request_id, problem, len(body), self.door.close) + body
        )
        self._note(problem.status, self._began or time.monotonic())
        self._state = State.LINGER
        self._since = time.monotonic()
        self._left = LINGER_BYTES
        self._read_here()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _malformed(self) -> bytes:
        self._request_id = self._request_id or self.door.fresh_id()
        self._linger(describe(BadRequest(_MALFORMED)))
        return b""

    def _too_long(self, target: bytes) -> bytes:
        self._request_id = self.door.fresh_id()
        if len(target) > LONGEST_TARGET:
            message = f"The request target is longer than {LONGEST_TARGET} bytes."
            self._linger(Problem(414, "BadRequestException", message))
        else:
            message = f"The request's headers are longer than {LONGEST_HEAD} bytes."
            self._linger(Problem(431, "BadRequestException", message))
        return b""

    # time

    def _on_tick(self) -> None:
        """Close what is idle, slow or stuck: one lazy timer per connection, none per request."""
        now = time.monotonic()
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        if self._unsent < before:
            self._since = now  # slow, but it reads
        idle_s = now - self._since
        limit_s = self._patience_s()
        if idle_s >= limit_s or (self._reading and now - self._began >= BODY_TIMEOUT_S):
            self._timer = None
            self._give_up()
            return
        self._timer = self._loop.call_later(min(max(limit_s - idle_s, 0.01), TICK_S), self._on_tick)

    @property
    def _reading(self) -> bool:
        return self._state in {State.BODY, State.CHUNKED, State.DRAIN}

    def _patience_s(self) -> float:
        if self._write_paused:
            return STALL_TIMEOUT_S
        if self._state is BUSY:
            return float("inf")
        if self._reading:
            return STALL_TIMEOUT_S
        if self._state is State.LINGER:
            return LINGER_TIMEOUT_S
        return HEAD_TIMEOUT_S if self._rest else self._keep_alive_s

    def _give_up(self) -> None:
        if self._state is State.LINGER or self._write_paused:
            self._transport.abort()
        elif self._state is HEAD and not self._rest:
            self._transport.close()
        else:
            self._request_id = self._request_id or self.door.fresh_id()
            self._linger(
                Problem(408, "RequestTimeoutException", "The request did not arrive in time.")
            )
            self._timer = self._loop.call_later(LINGER_TIMEOUT_S, self._on_tick)

    # to uvicorn and back

    def _hand_over(self, data: bytes) -> None:
        """Give the connection to uvicorn's own protocol, with what has been read."""
        self._server_state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._state = State.LINGER
        parts = self._config, self._server_state, self._app_state, self._loop
        successor = HandedOver(*parts)
        successor.back = lambda: type(self)(*parts)
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        successor.data_received(data)
        if not self._ends_at:
            successor.shutdown()  # as this one was told


def make_protocol(
    catalogue: Routes,
    settings: Settings,
    telemetry: Telemetry,
    gate: Gate | None = None,
    max_age_s: float | None = None,
) -> type[HotPath]:
    """Return a protocol class for uvicorn's `http=`.

    Set its `door.draining` to have every answer close its connection. `max_age_s` bounds how long a
    connection is kept, give or take a tenth.
    """
    door = Door(catalogue, settings, telemetry, gate, max_age_s)
    return type("BoundHotPath", (HotPath,), {"door": door})
