"""Calls an ASGI application in this process, without a server."""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return orjson.loads(self.body)


async def call(  # noqa: PLR0913  what a request has
    app,
    method: str,
    target: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    peer: str | None = "127.0.0.1",
    *,
    cut: bool = False,
) -> Answered | None:
    """The answer, None when there was none; `cut`: the client leaves half-way through its body."""
    path, _, query = target.partition("?")
    half = len(body) // 2
    messages = [{"type": "http.request", "body": body[:half], "more_body": True}]
    messages.append(
        {"type": "http.disconnect"} if cut else {"type": "http.request", "body": body[half:]}
    )
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [
            (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
        ],
        "client": None if peer is None else (peer, 1),
    }
    await app(scope, receive, send)
    if not sent:
        return None
    start, *rest = sent
    got = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answered(start["status"], got, b"".join(part["body"] for part in rest))
