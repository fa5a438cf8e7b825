"""Configured headers for pages of other origins: on every answer, of predictions and the rest."""

from __future__ import annotations

import asyncio

import pytest

from flambeau_runtime.api import asgi
from flambeau_runtime.api.listener import Listener, bind
from flambeau_runtime.errors import QueueFull
from flambeau_runtime.settings import Address
from flambeau_runtime.telemetry import Telemetry
from tests.dataplane.front_door import EchoVersion, front, request

CORS = (("access-control-allow-origin", "*"), ("access-control-allow-methods", "GET, POST"))


def has_them(answer):
    return [answer.headers.get(name) for name, _ in CORS] == [value for _, value in CORS]


async def test_a_prediction_has_them_and_so_has_a_refusal():
    version = EchoVersion()
    async with front(version, cors=CORS) as made:
        assert has_them(await made.ask(body=b"x"))
        assert has_them(await made.ask(target="/predictions/nobody"))
        version.refuse = QueueFull("m", "1.0", 1)
        assert has_them(await made.ask(body=b"x"))
        connection = await made.connect()
        await connection.send(b"POST /predictions/m HTTP/1.1\r\nContent-Length: x\r\n\r\n")
        assert has_them(await connection.answer())


async def test_nothing_is_added_unless_it_is_configured():
    async with front() as made:
        answer = await made.ask(body=b"x")
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def _app(_scope, _receive, send):
    await asgi.not_found(send)


@pytest.mark.parametrize("sent", [request("GET", "/x"), b"\x00\r\n\r\n"], ids=["a call", "noise"])
async def test_an_applications_answers_have_them_too(sent):
    bound = bind("management_address", Address("127.0.0.1", 0))
    listener = Listener(bound, asgi.Counted(_app, Telemetry()), None, 1, CORS)
    await listener.open()
    reader, writer = await asyncio.open_connection(*bound.getsockname())
    writer.write(sent)
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    writer.close()
    await listener.close()
    for name, value in CORS:
        assert f"\r\n{name}: {value.lower()}\r\n" in head
    assert "\r\nx-request-id: " in head
    assert "\r\npragma: no-cache\r\n" in head
