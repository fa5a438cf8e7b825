"""The hot path on a real socket, with versions that answer from the test; and raw HTTP to ask."""

import asyncio
from contextlib import asynccontextmanager, suppress

import uvicorn
from uvicorn.server import ServerState

from flambeau_runtime.api.hot_path import make_protocol
from flambeau_runtime.errors import ModelNotFound, VersionNotFound
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Source, Timeouts, VersionSpec
from flambeau_runtime.serving.job import Prediction
from flambeau_runtime.settings import Limits, Settings
from flambeau_runtime.telemetry import Telemetry

MAX_REQUEST_BYTES = 3_000_000


class EchoVersion:
    """A version that answers every job with its body; or keeps it until the test answers."""

    def __init__(self, answer=None):
        self.spec = VersionSpec("m", "1.0", Source("file:///m"), timeouts=Timeouts(response_s=120))
        self.queue = JobQueue(self.spec, Counters())
        self.jobs = []
        self.hold = False
        self.refuse = None
        self.answer = answer or (lambda job: Prediction(body=bytes(job.payload.body)))

    def submit(self, job):
        if self.refuse is not None:
            raise self.refuse
        self.jobs.append(job)
        if not self.hold:
            asyncio.get_running_loop().call_soon(lambda: job.resolve(self.answer(job)))

    @property
    def last(self):
        return self.jobs[-1].payload

    async def taken(self, count):
        """Wait until so many jobs have come."""
        async with asyncio.timeout(5):
            while len(self.jobs) < count:  # noqa: ASYNC110  what counts is in the product's hands
                await asyncio.sleep(0.002)


class Routes:
    def __init__(self, version):
        self.version = version
        self.asked = []

    def route(self, name, version, headers=None, arena=None):  # noqa: ARG002  the catalogue's
        self.asked.append((name, version))
        if name != "m":
            raise ModelNotFound(name)
        if version not in {None, "1.0"}:
            raise VersionNotFound(name, version)
        return self.version


async def _app(scope, receive, send):
    """Answer with the path and the size of the body, as the ASGI side of the port would."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = f"{scope['method']} {scope['path']} {size}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Front:
    """One listener and what is behind it."""

    def __init__(self, version, *, gate=None, keep_alive_s=60, max_age_s=None, cors=()):
        self.version = version
        self.routes = Routes(version)
        self.telemetry = Telemetry()
        settings = Settings(limits=Limits(max_request_bytes=MAX_REQUEST_BYTES), cors=cors)
        self.protocol = make_protocol(self.routes, settings, self.telemetry, gate, max_age_s)
        self.state = ServerState()
        self.opened = []
        self.config = uvicorn.Config(
            _app,
            http=self.protocol,
            lifespan="off",
            timeout_keep_alive=keep_alive_s,
            log_config=None,
        )
        self.config.load()

    def _connection(self):
        return self.protocol(self.config, self.state, {})

    async def listen(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(self._connection, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def connect(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        self.opened.append(Connection(reader, writer))
        return self.opened[-1]

    async def ask(self, *request, **how):
        """Send one request on a connection of its own and return the answer."""
        connection = await self.connect()
        try:
            return await connection.ask(*request, **how)
        finally:
            await connection.close()

    async def gone(self):
        """Wait until no connection is left."""
        async with asyncio.timeout(5):
            while self.state.connections:  # noqa: ASYNC110  uvicorn's own set, which it polls too
                await asyncio.sleep(0.002)


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method="POST", target="/predictions/m", body=b"", **headers):
        await self.send(request(method, target, body, **headers))
        return await self.answer()

    async def answer(self):
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            answer = Answer(head)
            length = 0 if answer.status == 204 else int(answer.headers["content-length"])
            answer.body = await self.reader.readexactly(length)
            return answer

    async def closed(self):
        """Wait until the front has closed, and return what came before."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def close(self):
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Answer:
    def __init__(self, head):
        self.head = head
        line, *headers = head.decode("latin-1").split("\r\n")
        self.status = int(line.split(" ")[1])
        self.phrase = line.split(" ", 2)[2]
        self.pairs = [header.split(": ", 1) for header in headers if header]
        self.headers = {name.lower(): value for name, value in self.pairs}


def request(method="POST", target="/predictions/m", body=b"", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if not any(name.lower() in {"transfer-encoding", "content-length"} for name in named):
        named["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", "Host: here"]
    lines += [f"{name}: {value}" for name, value in named.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


@asynccontextmanager
async def front(version=None, **how):
    made = Front(version or EchoVersion(), **how)
    await made.listen()
    try:
        yield made
    finally:
        for connection in made.opened:
            connection.writer.transport.abort()
        made.server.close()
        for connection in list(made.state.connections):
            connection.shutdown()
        for connection in list(made.state.connections):
            transport = getattr(connection, "transport", None) or connection._transport
            transport.abort()
        await made.gone()
