"""What a listener owes to those who have connected when it closes."""

from __future__ import annotations

import asyncio
import socket

from flambeau_runtime.api.hot_path import make_protocol
from flambeau_runtime.api.listener import Listener, bind
from flambeau_runtime.settings import Address, Settings
from flambeau_runtime.telemetry import Telemetry
from tests.dataplane.front_door import EchoVersion, Routes, request


async def test_who_connected_before_it_closes_is_answered():
    bound = bind("inference_address", Address("127.0.0.1", 0))
    protocol = make_protocol(Routes(EchoVersion()), Settings(), Telemetry())
    listener = Listener(bound, no_app, protocol, drain_timeout_s=5)
    await listener.open()
    with socket.create_connection(bound.getsockname(), timeout=10) as client:
        client.sendall(request(body=b"in the queue of the kernel"))
        await listener.close()
        answer = await asyncio.to_thread(client.recv, 65536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"in the queue of the kernel")


async def no_app(scope, receive, send):  # noqa: ARG001  uvicorn looks at what it takes
    raise AssertionError("nothing but a prediction is asked")
