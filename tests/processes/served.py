"""A handler behind the hot path: real sockets, real workers, this process as the front."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, nullcontext

import uvicorn

from flambeau_runtime.api.hot_path import make_protocol
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry
from tests.dataplane.front_door import Connection, request
from tests.processes.living import living


class Served:
    """One model behind one listener."""

    def __init__(self, live, port, folder):
        self.live, self.port, self.folder = live, port, folder
        self.opened = []

    def route(self, _name, _version, _headers=None, _arena=None):
        return self.live

    @property
    def pid(self):
        """The process of the only worker."""
        [place] = self.live.places
        return place.pid

    async def connect(self, **how):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **how)
        self.opened.append(Connection(reader, writer))
        return self.opened[-1]

    async def send(self, body=b"", **headers):
        """Ask for a prediction on a connection of its own, and return the connection."""
        client = await self.connect()
        await client.send(request(body=body, Content_Type="application/json", **headers))
        return client

    async def ask(self, body=b"", **headers):
        """Return the whole answer, pieces put together."""
        client = await self.send(body, **headers)
        try:
            return await whole(client)
        finally:
            await client.close()


async def whole(client):
    """Return status and body of an answer, chunked or not; IncompleteReadError if it breaks off."""
    async with asyncio.timeout(30):
        head = await client.reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if b"transfer-encoding: chunked" not in head:
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            return status, await client.reader.readexactly(length)
        body = b""
        while part := await chunk(client):
            body += part
        return status, body


async def chunk(client):
    """Return the next chunk; empty: the end."""
    size = int(await client.reader.readuntil(b"\r\n"), 16)
    return (await client.reader.readexactly(size + 2))[:size]


async def first_chunk(client):
    """Read a head and the first chunk."""
    async with asyncio.timeout(30):
        await client.reader.readuntil(b"\r\n\r\n")
        return await chunk(client)


@asynccontextmanager
async def served(tmp_path, source, *, workers=1, **how):
    """Serve a handler with ready workers; `how` as `living` takes it."""
    folder = tmp_path / "notes"
    folder.mkdir()
    source = f"NOTES = {str(folder)!r}\n" + source
    async with living(tmp_path, source, workers=workers, **how) as (live, _):
        await live.until_ready(workers, 30)
        listener = socket.create_server(("127.0.0.1", 0))
        made = Served(live, listener.getsockname()[1], folder)
        http = make_protocol(made, Settings(), Telemetry())
        config = uvicorn.Config(_no_app, http=http, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        server.capture_signals = nullcontext  # the test's process keeps its own handlers
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]))
            try:
                yield made
            finally:
                for client in made.opened:
                    client.writer.transport.abort()
                server.should_exit = True
                await serving


async def _no_app(scope, _receive, _send):
    raise AssertionError(scope)
