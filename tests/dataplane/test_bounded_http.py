"""uvicorn's protocol with bounds: what never ends is told so and closed."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from flambeau_runtime.api import bounded_http
from flambeau_runtime.api.bounded_http import LONGEST_HEAD, BoundedHttp
from tests.dataplane.front_door import request


async def _app(_scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def connected(keep_alive_s=60):
    """Yield a connection to the protocol: reader and writer."""
    config = uvicorn.Config(_app, http=BoundedHttp, lifespan="off", log_config=None)
    config.timeout_keep_alive = keep_alive_s
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHttp(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        server.close()
        async with asyncio.timeout(5):
            while state.connections or state.tasks:  # noqa: ASYNC110  uvicorn's own sets
                await asyncio.sleep(0.002)


async def told(begun, **how):
    """Send bytes and return all that comes until the end of the connection."""
    async with connected(**how) as (reader, writer), asyncio.timeout(5):
        writer.write(begun)
        return await reader.read()


@pytest.fixture
def hurried(monkeypatch):
    for name in ("HEAD_TIMEOUT_S", "STALL_TIMEOUT_S"):
        monkeypatch.setattr(bounded_http, name, 0.05)
    monkeypatch.setattr(bounded_http, "TICK_S", 0.01)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"GET /mod", id="a first line"),
        pytest.param(b"GET /models HTTP/1.1\r\nHost", id="a head"),
        pytest.param(request(target="/models", Content_Length="9") + b"abc", id="a body"),
    ],
)
async def test_whoever_begins_and_never_ends_is_told_and_closed(begun):
    assert (await told(begun)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("hurried")
async def test_whoever_never_begins_is_closed():
    assert await told(b"", keep_alive_s=0.05) == b""


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: ", id="a header"),
        pytest.param(b"GET /", id="a target"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", id="a chunk's extension"
        ),
    ],
)
async def test_what_is_endless_is_refused(begun):
    answer = await told(begun + b"y" * (16 * LONGEST_HEAD))
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_what_is_no_http_is_refused_like_any_other_error():
    answer = await told(b"nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"message": "Invalid HTTP message."' in answer


async def test_a_long_body_is_not_taken_for_a_head():
    async with connected() as (reader, writer), asyncio.timeout(5):
        writer.write(request(body=b"y" * (8 * LONGEST_HEAD)))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
