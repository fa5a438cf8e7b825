"""`/live /ready /state /drain` on the management port: the wish comes in, the facts go out.

A plain ASGI application: probes and the operator ask it from the first moment on, and a framework
would cost each runtime most of a second and 16 MB for these four paths.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

import orjson

from flambeau_runtime.api import asgi, problems
from flambeau_runtime.api.authorisation import PublicKeys, StateGate
from flambeau_runtime.errors import (
    BadRequest,
    DocumentTooLarge,
    InvalidDocument,
    ModelNotFound,
    RuntimeFault,
    StaleDocument,
    Unauthorised,
)
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.counters import FINE_BUCKETS_MS, Counters, Histogram
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.load import LoadMeter
from flambeau_runtime.serving.memory_meter import Held, Reading
from flambeau_runtime.serving.observed import Failure, ModelReport, VersionReport, WorkerCounts
from flambeau_runtime.serving.windows import Window

log = logging.getLogger(__name__)

SEGMENTS = ("live", "ready", "state", "drain")
"""First segments of the paths that belong here."""

LARGEST_DOCUMENT = 1024 * 1024
LONGEST_WAIT_S = 30.0
LONGEST_NUMBER = 18
DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|)")
UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
UNMANAGED = (
    "No ModelDeployment manages this runtime: it takes documents only when it is started with "
    "--owner-uid and --boot-file. Use TorchServe's verbs under /models."
)


class Documents(PublicKeys, Protocol):
    """Where documents go: `serving.accepted.AcceptedDocument`, on a managed runtime."""

    @property
    def text(self) -> bytes | None:
        """The wanted document as it was written (JSON), None before the first."""

    async def offer(self, text: bytes) -> int:
        """Accept a document and return its sequence, or raise InvalidDocument or StaleDocument."""


class Memory(Protocol):
    """What knows how much memory there is: `serving.memory_meter.MemoryMeter`."""

    last: Reading

    async def read(self) -> Reading:
        """Return a reading of the last second."""

    def of(self, live: LiveVersion | None) -> Held:
        """Return what the workers of a version hold."""


class ClientLeft(Exception):
    """The client closed the connection before its body was complete."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    query: Mapping[str, list[str]]
    peer: str | None
    authorization: str | None
    receive: asgi.Receive

    async def body(self) -> bytes:
        """Read the whole body.

        Raises:
            DocumentTooLarge: it is larger than any document may be.
            ClientLeft: it ended half-way.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > LARGEST_DOCUMENT:
                raise DocumentTooLarge(LARGEST_DOCUMENT)
            if not message.get("more_body", False):
                return b"".join(parts)


def make_state_app(
    catalogue: Catalogue,
    gate: StateGate,
    accepted: Documents | None = None,
    memory: Memory | None = None,
) -> asgi.App:
    """Return the application.

    `accepted` is None on an unmanaged runtime, which takes no documents; without `memory` nothing
    is told of it.
    """
    api = _StateApi(catalogue, gate, accepted, memory)

    async def state(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        try:
            answer = await _answered(api, _read_call(scope, receive))
        except ClientLeft:
            return
        if answer is None:
            await asgi.not_found(send)
            return
        body = orjson.dumps(answer.content)
        await asgi.answer(send, answer.status, body, headers=answer.headers)

    return state


def _read_call(scope: asgi.Scope, receive: asgi.Receive) -> _Call:
    headers = dict(scope["headers"])
    authorization = headers.get(b"authorization")
    # A page in a local browser can send requests to loopback too: it needs the key.
    client = None if b"origin" in headers else scope.get("client")
    return _Call(
        method="GET" if scope["method"] == "HEAD" else scope["method"],
        path=scope["path"],
        query=parse_qs(scope.get("query_string", b"").decode("latin-1")),
        peer=None if client is None else client[0],
        authorization=None if authorization is None else authorization.decode("latin-1"),
        receive=receive,
    )


async def _answered(api: _StateApi, call: _Call) -> _Answer | None:
    try:
        return await api.answer(call)
    except RuntimeFault as fault:
        return _refusal(fault)
    except OSError as error:
        log.exception("call failed", extra={"call": f"{call.method} {call.path}"})
        told = problems.describe(error)
        return _Answer(told.status, _problem(told.status, told.type, told.message))


def _refusal(fault: RuntimeFault) -> _Answer:
    told = problems.describe(fault)
    content = _problem(told.status, told.type, told.message)
    if isinstance(fault, StaleDocument):
        content["current"] = {"uid": fault.uid, "sequence": fault.sequence}
    if isinstance(fault, InvalidDocument):
        content["errors"] = [{"path": it.path, "message": it.message} for it in fault.problems]
    headers = [("connection", "close")] if isinstance(fault, DocumentTooLarge) else []
    if isinstance(fault, Unauthorised) and told.status == HTTPStatus.UNAUTHORIZED:
        headers.append(("www-authenticate", "Bearer"))
    return _Answer(told.status, content, tuple(headers))


def _problem(status: int, kind: str, message: str) -> dict[str, Any]:
    return {"code": status, "type": kind, "message": message}


class _StateApi:
    """What each path answers."""

    def __init__(
        self,
        catalogue: Catalogue,
        gate: StateGate,
        accepted: Documents | None,
        memory: Memory | None,
    ) -> None:
        self._catalogue = catalogue
        self._gate = gate
        self._accepted = accepted
        self._memory = memory
        self._meter = LoadMeter()
        self._process_id = uuid.uuid4().hex

    async def answer(self, call: _Call) -> _Answer | None:
        """Answer one call; None for a path that does not exist."""
        segments = call.path.strip("/").split("/")
        if (probe := self._probe(segments)) is not None:
            return probe() if call.method == "GET" else _not_allowed()
        methods = self._signed(segments)
        if methods is None:
            return None
        take = methods.get(call.method)
        return _not_allowed() if take is None else await take(call)

    def _probe(self, segments: list[str]) -> Callable[[], _Answer] | None:
        match segments:
            case ["live"]:
                return self._live
            case ["ready"]:
                return self._ready
            case ["ready", name]:
                return lambda: self._model_ready(name)
            case _:
                return None

    def _signed(
        self, segments: list[str]
    ) -> Mapping[str, Callable[[_Call], Awaitable[_Answer]]] | None:
        match segments:
            case ["state"]:
                return {"GET": self._get, "PUT": self._put}
            case ["drain"]:
                return {"POST": self._drain}
            case _:
                return None

    def _live(self) -> _Answer:
        return _Answer(HTTPStatus.OK, {"live": True})

    def _ready(self) -> _Answer:
        report = self._catalogue.report()
        status = HTTPStatus.OK if report.ready else HTTPStatus.SERVICE_UNAVAILABLE
        models = {model.name: model.ready for model in report.models}
        return _Answer(status, {"ready": report.ready, "models": models})

    def _model_ready(self, name: str) -> _Answer:
        for model in self._catalogue.report().models:
            if model.name == name:
                status = HTTPStatus.OK if model.ready else HTTPStatus.SERVICE_UNAVAILABLE
                return _Answer(status, {"name": name, "ready": model.ready})
        raise ModelNotFound(name)

    async def _drain(self, call: _Call) -> _Answer:
        self._gate(call.peer, call.authorization, await call.body())
        self._catalogue.start_draining()
        return _Answer(HTTPStatus.ACCEPTED, {"draining": True})

    async def _put(self, call: _Call) -> _Answer:
        body = await call.body()
        self._gate(call.peer, call.authorization, body)
        if self._accepted is None:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            return _Answer(status, _problem(status, "Unmanaged", UNMANAGED))
        sequence = await self._accepted.offer(body)
        content = {"revision": self._catalogue.revision, "sequence": sequence}
        return _Answer(HTTPStatus.ACCEPTED, content)

    async def _get(self, call: _Call) -> _Answer:
        self._gate(call.peer, call.authorization, b"")
        if (after := _after(call.query)) is not None:
            await self._catalogue.wait_changed(after, _wait_s(call.query))
        if self._memory is not None:
            await self._memory.read()
        return _Answer(HTTPStatus.OK, self._state())

    def _state(self) -> dict[str, Any]:
        text = None if self._accepted is None else self._accepted.text
        return {
            "revision": self._catalogue.revision,
            "processId": self._process_id,
            "desired": None if text is None else orjson.Fragment(text),
            "observed": self._observed(),
        }

    def _observed(self) -> dict[str, Any]:
        report = self._catalogue.report()
        now = asyncio.get_running_loop().time()
        # Shadows take only what is left: their work asks for no more workers or pods.
        lives = tuple(live for live in self._catalogue.lives() if not live.listens_only)
        load = self._meter.read(lives, now)
        return {
            "ready": report.ready,
            "draining": report.draining,
            "cautious": report.cautious,
            "queueWaitSeconds": round(load.queue_wait_s, 6),
            "saturation": round(load.saturation, 4),
            "memory": _memory(Reading() if self._memory is None else self._memory.last),
            "models": [self._model(model) for model in report.models],
        }

    def _model(self, model: ModelReport) -> dict[str, Any]:
        return {
            "name": model.name,
            "required": model.required,
            "default": model.default,
            "ready": model.ready,
            "versions": [self._version(model.name, version) for version in model.versions],
        }

    def _version(self, name: str, report: VersionReport) -> dict[str, Any]:
        live = self._catalogue.live(name, report.version)
        return {
            "version": report.version,
            "phase": report.phase,
            "weight": report.weight,
            "workers": _workers(report.workers),
            "digest": report.digest,
            "bytes": report.bytes,
            "fetchedBytes": report.fetched_bytes,
            "lastFailure": None if report.last_failure is None else _failure(report.last_failure),
            "counters": _counters(Counters() if live is None else live.counters),
            "window": _window(self._catalogue.window(name, report.version)),
            "memory": _held(Held() if self._memory is None else self._memory.of(live)),
        }


def _not_allowed() -> _Answer:
    status = HTTPStatus.METHOD_NOT_ALLOWED
    return _Answer(status, _problem(status, "MethodNotAllowedException", asgi.NOT_ALLOWED))


def _memory(reading: Reading) -> dict[str, int | None]:
    return {
        "limitBytes": reading.room.limit_bytes,
        "availableBytes": reading.room.available_bytes,
        "deviceAvailableBytes": reading.device_available_bytes,
    }


def _held(held: Held) -> dict[str, int]:
    return {"workerBytes": held.worker_bytes, "deviceBytes": held.device_bytes}


def _workers(counts: WorkerCounts) -> dict[str, int]:
    return {
        "wanted": counts.wanted,
        "ready": counts.ready,
        "starting": counts.starting,
        "failed": counts.failed,
        "restarts": counts.restarts,
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "reason": failure.reason,
        "message": failure.message,
        "logTail": failure.log_tail,
        "attempts": failure.attempts,
    }


def _counters(counters: Counters) -> dict[str, Any]:
    return {
        "requests": counters.requests,
        "errors": counters.errors,
        "latency": _histogram(counters.latency.coarse()),
    }


def _window(window: Window | None) -> dict[str, Any] | None:
    if window is None:
        return None
    return {
        "id": window.id,
        "requests": window.requests,
        "errors": window.errors,
        "restarts": window.restarts,
        "latency": {"boundsMs": FINE_BUCKETS_MS, "counts": window.latency},
        "copies": window.copies,
        "copyErrors": window.copy_errors,
        "compared": window.compared,
        "different": window.different,
        "difference": window.difference,
    }


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {
        "boundsMs": histogram.bounds_ms,
        "counts": histogram.counts,
        "sumMs": histogram.sum_ms,
    }


def _after(query: Mapping[str, list[str]]) -> int | None:
    """Return the revision that the caller has seen; None when it wants an answer at once."""
    if "after" not in query:
        return None
    text = query["after"][-1]
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise BadRequest(f"after must be a revision, a whole number, not {text[:50]!r}")
    return int(text)


def _wait_s(query: Mapping[str, list[str]]) -> float:
    """Return how long the caller wants to wait, at most LONGEST_WAIT_S."""
    text = query.get("wait", ["0"])[-1]
    match = DURATION.fullmatch(text)
    if match is None:
        raise BadRequest(f"wait must be a duration like 10s or 500ms, not {text[:50]!r}")
    return min(float(match[1]) * UNITS_S[match[2]], LONGEST_WAIT_S)
