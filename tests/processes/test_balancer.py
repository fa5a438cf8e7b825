"""The one address of a deployment: real sockets, small servers of our own behind it."""

import asyncio
import contextlib
import json
import os
import socket

import pytest

from flambeau_operator.errors import PortInUse
from flambeau_operator.local.balancer import Backend, Balancer


class Server:
    """A pod's inference port: answers each line with its own name, and counts who is connected."""

    def __init__(self, name):
        self.name = name
        self.open = 0

    async def __aenter__(self):
        self.writers = []
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @property
    def backend(self):
        return Backend(self.name, "127.0.0.1", self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader, writer):
        self.open += 1
        self.writers.append(writer)
        try:
            await self.talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()

    async def talk(self, reader, writer):
        while await reader.readline():
            writer.write(f"{self.name}\n".encode())
            await writer.drain()


class Echo(Server):
    async def talk(self, reader, writer):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()


class AnswersAtTheEnd(Server):
    async def talk(self, reader, writer):
        body = await reader.read()
        writer.write(b"heard %d" % len(body))
        await writer.drain()


class HangsUpEarly(Server):
    async def talk(self, reader, writer):
        await reader.read(1)
        writer.write(b"too large")
        writer.write_eof()
        await reader.read(65_536)  # and no more of it


class NeverReads(Server):
    async def talk(self, reader, writer):
        reader._transport.pause_reading()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def balancing(*servers, hold_s=5.0):
    balancer = Balancer("127.0.0.1", 0, hold_s=hold_s)
    await balancer.listen()
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        balancer.use(server.backend for server in servers)
        try:
            yield balancer
        finally:
            await balancer.close()


@contextlib.asynccontextmanager
async def connected(balancer, host="127.0.0.1"):
    reader, writer = await asyncio.open_connection(host, balancer.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(connection):
    reader, writer = connection
    writer.write(b"who?\n")
    return (await reader.readline()).decode().strip()


async def until(condition, deadline_s=5.0):
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


async def test_each_new_connection_goes_to_the_pod_that_has_the_fewest():
    servers = Server("a"), Server("b"), Server("c")
    async with balancing(*servers) as balancer, contextlib.AsyncExitStack() as stack:
        answers = [
            await ask(await stack.enter_async_context(connected(balancer))) for _ in range(6)
        ]
    assert sorted(answers) == ["a", "a", "b", "b", "c", "c"]


async def test_connections_that_come_one_after_the_other_are_spread_as_well():
    async with balancing(Server("a"), Server("b")) as balancer:
        answers = []
        for _ in range(6):
            async with connected(balancer) as connection:
                answers.append(await ask(connection))
            await until(lambda: not balancer.connections("a") and not balancer.connections("b"))
    assert sorted(answers) == ["a"] * 3 + ["b"] * 3


async def test_a_pod_that_is_not_ready_any_more_gets_no_new_connection_but_keeps_its_old_ones():
    first, second = Server("a"), Server("b")
    async with balancing(first) as balancer, second, connected(balancer) as old:
        assert await ask(old) == "a"
        balancer.use([second.backend])
        async with connected(balancer) as new:
            assert await ask(new) == "b"
        assert await ask(old) == "a"


async def test_a_connection_that_a_pod_does_not_take_is_tried_on_another():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = Backend("0-gone", "127.0.0.1", nobody.getsockname()[1])
        async with balancing(Server("a")) as balancer:
            balancer.use([gone, *balancer._backends.values()])
            for _ in range(4):
                async with connected(balancer) as connection:
                    assert await ask(connection) == "a"


async def test_connections_wait_for_the_first_pod():
    server = Server("a")
    async with balancing() as balancer, server, connected(balancer) as connection:
        asking = asyncio.create_task(ask(connection))
        await until(lambda: balancer._greeters)
        balancer.use([server.backend])
        assert await asking == "a"


async def test_without_any_pod_the_answer_is_503_and_says_when_to_come_again():
    async with balancing(hold_s=0.05) as balancer, connected(balancer) as (reader, writer):
        writer.write(b"POST /predictions/m HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n")
        writer.write(b"x" * 500_000)
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1" in head
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["type"] == "NoReadyReplica"


async def test_a_large_body_goes_through_unchanged_in_both_directions():
    body = os.urandom(8 << 20)
    async with balancing(Echo("a")) as balancer, connected(balancer) as (reader, writer):
        writer.write(body)
        assert await reader.readexactly(len(body)) == body


async def test_a_client_that_ends_its_side_still_gets_its_answer():
    async with balancing(AnswersAtTheEnd("a")) as balancer, connected(balancer) as (reader, writer):
        writer.write(b"x" * 100_000)
        writer.write_eof()
        assert await reader.read() == b"heard 100000"


async def test_a_pod_that_hangs_up_early_is_heard_by_a_client_that_still_sends():
    async with balancing(HangsUpEarly("a")) as balancer, connected(balancer) as (reader, writer):
        writer.write(b"x" * 4_000_000)
        assert await reader.read() == b"too large"


async def test_a_client_is_slowed_down_to_the_pace_of_its_pod():
    sent = 0
    async with balancing(NeverReads("a")) as balancer, connected(balancer) as (_, writer):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
                    sent += 65_536
        held = sum(
            side.transport.get_write_buffer_size() for side in balancer._sides if side.transport
        )
        writer.transport.abort()
    assert held < 1 << 20, "the balancer keeps no more than a buffer's worth"
    assert sent < 32 << 20, "the rest waits in the client and in the kernel's buffers"


async def test_a_client_that_leaves_frees_its_connection_to_the_pod():
    server = Server("a")
    async with balancing(server) as balancer:
        async with connected(balancer) as connection:
            await ask(connection)
        await until(lambda: server.open == 0)
        assert balancer.connections("a") == 0


async def test_who_waits_for_a_leaving_pod_is_told_when_its_last_connection_has_ended():
    async with balancing(Server("a")) as balancer:
        async with connected(balancer) as connection:
            await ask(connection)
            balancer.use([])
            leaving = asyncio.create_task(balancer.until_free("a"))
            await asyncio.sleep(0)
            assert not leaving.done()
        await leaving


async def test_nothing_is_remembered_of_connections_that_have_ended():
    async with balancing(Server("a"), Server("b")) as balancer:
        for _ in range(50):
            async with connected(balancer) as connection:
                await ask(connection)
        await until(lambda: not balancer._sides)
        assert (balancer._greeters, dict(balancer._open)) == (set(), {})


async def test_localhost_is_served_on_ipv6_where_there_is_one():
    async with balancing(Server("a")) as balancer:
        if len(balancer._servers) == 2:
            async with connected(balancer, "::1") as connection:
                assert await ask(connection) == "a"


async def test_a_port_that_somebody_has_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1 port {port}"):
            await Balancer("127.0.0.1", port).listen()
