"""From a client's socket through uvicorn, queue, lane and a real worker, and back."""

import asyncio
import datetime as dt
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, nullcontext

import pytest
import uvicorn
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flambeau_runtime.api.hot_path import make_protocol
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Batching, Source, Timeouts, VersionSpec
from flambeau_runtime.serving.lane import Lane
from flambeau_runtime.serving.link import WorkerLink, open_channel
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry
from tests.dataplane.front_door import Connection, request

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

HANDLER = """
import os, time
def handle(data, context):
    if data is None:
        return
    bodies = [row["body"] for row in data]
    for body in bodies:
        if body == {"do": "die"}:
            os._exit(3)
        if body == {"do": "hang"}:
            time.sleep(60)
    return [body if isinstance(body, dict) else len(body) for body in bodies]
"""


class Line:
    """One version with real workers behind a real uvicorn."""

    def __init__(self, model_dir, response_s=30.0):
        self.model_dir = model_dir
        self.spec = VersionSpec(
            "m", "1.0", Source("file:///m"), batching=Batching(8, 0.05),
            timeouts=Timeouts(response_s),
        )  # fmt: skip
        self.queue = JobQueue(self.spec, Counters())
        self.submit = self.queue.submit
        self.lanes = []
        self.ends = []
        self.processes = []

    def route(self, _name, _version, _headers=None, _arena=None):
        return self

    async def start_worker(self):
        channel = open_channel(self.queue.arena_fd)
        fds = [fd for fd in (channel.worker.fileno(), channel.arena_fd) if fd is not None]
        command = [sys.executable, "-m", "flambeau_runtime.worker", "--fd", str(fds[0])]
        if channel.arena_fd is not None:
            command += ["--arena-fd", str(channel.arena_fd)]
        self.processes.append(subprocess.Popen(command, pass_fds=fds))  # noqa: ASYNC220  in a test
        channel.worker.close()
        link = WorkerLink(channel.front, self.ends.append, lambda _: None)
        await link.open()
        message = {
            "model": "m", "version": "1.0", "modelDir": str(self.model_dir), "manifest": {},
            "handler": "h.py", "batchSize": 8, "maxResponseBytes": 1_000_000,
        }  # fmt: skip
        await link.load(message, 30)
        self.lanes.append(Lane(self.queue, link, self.ends.append, 1_000_000))
        self.lanes[-1].start()

    async def connect(self, **how):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **how)
        return Connection(reader, writer)


@asynccontextmanager
async def line(tmp_path, *, workers=1, response_s=30.0, **tls):
    (tmp_path / "h.py").write_text(HANDLER)
    made = Line(tmp_path, response_s)
    listener = socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    http = make_protocol(made, Settings(), Telemetry())
    config = uvicorn.Config(_no_app, http=http, lifespan="off", log_config=None, **tls)
    made.server = uvicorn.Server(config)
    made.server.capture_signals = _no_signals
    try:
        for _ in range(workers):
            await made.start_worker()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(made.server.serve(sockets=[listener]))
            try:
                yield made
            finally:
                made.server.should_exit = True
                await serving
    finally:
        for lane in made.lanes:
            lane.close()
        for process in made.processes:
            await asyncio.to_thread(process.wait, 20)


def _no_signals():
    """The test's process keeps its own signal handlers."""
    return nullcontext()


async def _no_app(scope, _receive, _send):
    raise AssertionError(scope)


def ask(body, **headers):
    return request(body=body, Content_Type="application/json", **headers)


def test_a_prediction_goes_all_the_way_and_back(tmp_path):
    async def run():
        async with line(tmp_path) as made:
            client = await made.connect()
            await client.send(ask(b'{"a": [1, 2]}'))
            answer = await client.answer()
            assert (answer.status, answer.body) == (
                200,
                b'{\n  "a": [\n    1,\n    2\n  ]\n}',
            )
            await client.close()

    uvloop.run(run())


def test_a_hundred_callers_are_answered_each_with_their_own(tmp_path):
    async def one(made, number):
        client = await made.connect()
        for turn in range(10):
            await client.send(ask(b'{"n": %d}' % (number * 100 + turn)))
            answer = await client.answer()
            assert answer.body == b'{\n  "n": %d\n}' % (number * 100 + turn)
        await client.close()

    async def run():
        async with line(tmp_path, workers=2) as made, asyncio.TaskGroup() as tasks:
            for number in range(100):
                tasks.create_task(one(made, number))

    uvloop.run(run())


@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "in chunks"])
def test_big_bodies_arrive_whole(tmp_path, chunked):
    async def run():
        async with line(tmp_path) as made:
            client = await made.connect()
            for size in (5_000_000, 10, 300_000, 1_048_576):
                if chunked:
                    body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))
                    await client.send(request(body=body, Transfer_Encoding="chunked"))
                else:
                    await client.send(request(body=bytes(size)))
                assert (await client.answer()).body == str(size).encode()
            await client.close()

    uvloop.run(run())


def test_a_row_that_kills_workers_fails_alone(tmp_path):
    async def run():
        async with line(tmp_path, workers=5) as made:
            clients = [await made.connect() for _ in range(3)]
            for client, do in zip(clients, (b"live", b"die", b"live"), strict=True):
                await client.send(ask(b'{"do": "%b"}' % do))
            statuses = [(await client.answer()).status for client in clients]
            assert statuses == [200, 500, 200]
            assert made.ends[-1].poisoned_deaths >= 2
            for client in clients:
                await client.close()

    uvloop.run(run())


def test_a_handler_that_hangs_is_a_timeout_that_names_itself(tmp_path):
    async def run():
        async with line(tmp_path, response_s=0.3) as made:
            client = await made.connect()
            await client.send(ask(b'{"do": "hang"}'))
            answer = await client.answer()
            assert answer.status == 500
            assert b"Worker died." in answer.body
            assert b"0.3 s" in answer.body
            made.processes[0].kill()
            await client.close()

    uvloop.run(run())


def test_a_worker_killed_under_load_costs_no_request(tmp_path):
    async def one(made, stop, counted):
        client = await made.connect()
        while not stop.is_set():
            await client.send(ask(b'{"n": 1}'))
            assert (await client.answer()).status == 200
            counted.append(1)
        await client.close()

    async def run():
        stop, counted = asyncio.Event(), []
        async with line(tmp_path, workers=3) as made, asyncio.TaskGroup() as tasks:
            for _ in range(16):
                tasks.create_task(one(made, stop, counted))
            for victim in made.processes[:2]:
                while len(counted) < 1_000:  # noqa: ASYNC110  work done, not a state
                    await asyncio.sleep(0.01)
                os.kill(victim.pid, signal.SIGKILL)
                counted.clear()
            while len(counted) < 1_000:  # noqa: ASYNC110  work done, not a state
                await asyncio.sleep(0.01)
            stop.set()

    uvloop.run(run())


def test_graceful_shutdown_answers_what_is_on_its_way(tmp_path):
    async def run():
        async with line(tmp_path) as made:
            idle, busy = await made.connect(), await made.connect()
            await busy.send(ask(b'{"n": 1}')[:-3])
            await asyncio.sleep(0.05)
            made.server.should_exit = True
            assert await idle.closed() == b""
            await busy.send(b" 1}")
            answer = await busy.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            await idle.close()
            await busy.close()

    uvloop.run(run())


def test_tls_is_uvicorns_and_works(tmp_path):
    key_file, certificate_file = self_signed(tmp_path)

    async def run():
        tls = {"ssl_keyfile": key_file, "ssl_certfile": certificate_file}
        async with line(tmp_path, **tls) as made:
            context = ssl.create_default_context(cafile=certificate_file)
            client = await made.connect(ssl=context)
            for size in (10, 1_000_000, 20):
                await client.send(request(body=bytes(size)))
                assert (await client.answer()).body == str(size).encode()
            await client.close()

    uvloop.run(run())


def self_signed(directory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / "key.pem", directory / "cert.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(key_file), str(certificate_file)
