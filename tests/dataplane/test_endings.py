"""What a connection and a listener owe to their clients when they close, on both kinds of loop.

In these tests the loop is "busy elsewhere" between a client's request and the look at the time:
nothing is awaited there. uvloop, which the runtime has, looks at the time first and then at what
has come; asyncio does it the other way round.
"""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
import uvloop

from flambeau_runtime.api.hot_path import make_protocol
from flambeau_runtime.api.listener import Listener, bind
from flambeau_runtime.settings import Address, Settings
from flambeau_runtime.telemetry import Telemetry
from tests.dataplane.front_door import EchoVersion, Routes, front, request


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on one of the loops."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.mark.parametrize(
    "close",
    [
        pytest.param(lambda connection: connection.close_if_idle(0), id="idle for long"),
        pytest.param(lambda connection: connection.shutdown(), id="told to shut down"),
    ],
)
def test_a_request_that_came_before_an_idle_connection_closes_is_answered(run, close):
    async def ask_and_close():
        async with front() as door:
            connection = await door.connect()
            await connection.ask()
            door.protocol.door.draining = True
            descriptor = connection.writer.get_extra_info("socket").fileno()
            os.write(descriptor, request(body=b"just in time"))
            for each in list(door.state.connections):
                close(each)
            answer = await connection.answer()
            await door.gone()
            return answer.body, answer.headers["connection"]

    assert run(ask_and_close()) == (b"just in time", "close")


def test_a_connection_that_closes_says_so_before_the_loop_goes_on(run):
    async def ask_and_close():
        async with front() as door:
            connection = await door.connect()
            await connection.ask()
            (kept,) = door.state.connections
            kept.close_if_idle(0)
            descriptor = connection.writer.get_extra_info("socket").fileno()
            return os.read(descriptor, 100)  # it would raise BlockingIOError

    assert run(ask_and_close()) == b""


@pytest.mark.parametrize(
    ("method", "target", "said"),
    [
        pytest.param("POST", "/predictions/m", b"", id="a prediction"),
        pytest.param("GET", "/other", b"GET /other 0", id="anything else"),
    ],
)
def test_who_has_just_connected_when_it_shuts_down_may_still_ask(run, method, target, said):
    async def connect_and_ask():
        async with front() as door:
            connection = await door.connect()
            await appeared(door.state.connections)
            for each in list(door.state.connections):
                each.shutdown()
            await turns(10)
            answer = await connection.ask(method, target)
            await door.gone()
            return answer.body, answer.headers["connection"]

    assert run(connect_and_ask()) == (said, "close")


def test_who_connected_before_the_listener_closes_is_answered(run):
    bound = bind("inference_address", Address("127.0.0.1", 0))

    async def connect_and_close():
        protocol = make_protocol(Routes(EchoVersion()), Settings(), Telemetry())
        listener = Listener(bound, no_app, protocol, drain_timeout_s=5)
        await listener.open()
        with socket.create_connection(bound.getsockname(), timeout=10) as client:
            client.sendall(request(body=b"still in the queue"))
            await listener.close()
            return await asyncio.to_thread(client.recv, 65536)

    answer = run(connect_and_close())
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"still in the queue")


async def appeared(connections):
    async with asyncio.timeout(5):
        while not connections:  # noqa: ASYNC110  uvicorn's set
            await asyncio.sleep(0)


async def turns(count):
    """Let the loop turn: long enough for a close to be through."""
    for _ in range(count):
        await asyncio.sleep(0)


async def no_app(scope, receive, send):  # noqa: ARG001  uvicorn looks at what it takes
    raise AssertionError("nothing but a prediction is asked")
