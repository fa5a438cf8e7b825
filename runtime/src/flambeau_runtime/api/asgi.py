"""The little that an ASGI application without a framework needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from flambeau_runtime.api.payload import NEVER_CACHED, RequestIds, accepted_id
from flambeau_runtime.api.problems import problem_body
from flambeau_runtime.telemetry import Telemetry

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
_NEVER_CACHED = tuple((name.encode(), value.encode()) for name, value in NEVER_CACHED)
LOCAL_PEER = ("127.0.0.1", 0)
"""Stands for the callers on a unix socket, who have no address; no others have port 0."""
NOT_FOUND = "Requested resource is not found, please refer to API document."
NOT_ALLOWED = "Requested method is not allowed, please refer to API document."


async def answer(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = JSON,
    headers: Iterable[tuple[str, str]] = (),
) -> None:
    """Send a whole answer."""
    fields = [("content-type", content_type), ("content-length", str(len(body))), *headers]
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def raw_headers(scope: Scope) -> bytes:
    """Return the request's header block, `Name: value` and CRLF per header."""
    return b"".join(b"%b: %b\r\n" % (name, value) for name, value in scope["headers"])


def segments(scope: Scope) -> list[str]:
    """Return the segments of the path, without the empty ones at its end."""
    found: list[str] = scope["path"].split("/")[1:]
    while found and not found[-1]:
        found.pop()
    return found


def target(scope: Scope) -> bytes:
    """Return the request target as it was sent."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


class MadeWhenCalled:
    """An application that is imported and built by its first request, in a thread.

    Frameworks take most of a second to import; meanwhile the loop goes on answering predictions.
    """

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._app: App | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            async with self._making:
                if self._app is None:
                    self._app = await asyncio.to_thread(self._make)
        await self._app(scope, receive, send)


class Counted:
    """An application whose answers are counted and, where there is an access log, noted.

    They get what every answer has: an id (the caller's, or a fresh one), and that nobody keeps it.
    """

    def __init__(self, app: App, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry
        self._fresh_id = RequestIds().fresh

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.monotonic()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, message["status"], (time.monotonic() - began) * 1000)
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", self._request_id(scope)),
                    *_NEVER_CACHED,
                ]
            await send(message)

        await self._app(scope, receive, count)

    def _request_id(self, scope: Scope) -> bytes:
        sent = dict(scope["headers"]).get(b"x-request-id")
        return ((accepted_id(sent) if sent else None) or self._fresh_id()).encode()

    def _note(self, scope: Scope, status: int, elapsed_ms: float) -> None:
        self._telemetry.responses[status // 100] += 1
        if self._telemetry.access is None:
            return
        host, port = scope.get("client") or ("-", 0)
        query = scope["query_string"].decode("latin-1")
        target = f"{scope['path']}?{query}" if query else scope["path"]
        self._telemetry.access(f"{host}:{port}", scope["method"], target, status, elapsed_ms)


class Local:
    """An application whose callers are on this machine: they came through a unix socket."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["client"] = LOCAL_PEER
        await self._app(scope, receive, send)


class Doors:
    """Several applications behind one address, told apart by the first segment of the path."""

    def __init__(self, apps: dict[str, App], otherwise: App) -> None:
        self._apps = apps
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request to the application that its path belongs to."""
        segment = scope["path"].lstrip("/").partition("/")[0]
        await self._apps.get(segment, self._otherwise)(scope, receive, send)


async def refuse(send: Send, status: int, kind: str, message: str) -> None:
    """Send TorchServe's error body; it closes the connection after every error."""
    body = problem_body(status, kind, message)
    await answer(send, status, body, headers=[("connection", "close")])


async def not_found(send: Send) -> None:
    """Answer a path that does not exist."""
    await refuse(send, 404, "ResourceNotFoundException", NOT_FOUND)


async def not_allowed(send: Send) -> None:
    """Answer a method that the path does not take."""
    await refuse(send, 405, "MethodNotAllowedException", NOT_ALLOWED)
