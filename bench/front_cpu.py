"""CPU of the front per request: real sockets, the real protocol, a worker that answers at once.

`python -m bench.front_cpu [clients] [seconds] [body bytes]` prints requests/s and the microseconds
of CPU that the front and the worker spend per request.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import psutil
import uvicorn
import uvloop

from flambeau_runtime.api.hot_path import make_protocol
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Batching, Source, VersionSpec
from flambeau_runtime.serving.lane import Lane
from flambeau_runtime.serving.link import WorkerLink, open_channel
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry
from flambeau_runtime.worker import loop as worker_loop

HANDLER = """
def handle(data, context):
    return [{"sum": sum(row["body"]["x"])} for row in data] if data else []
"""
BIG_HANDLER = """
def handle(data, context):
    return [str(len(row["body"])) for row in data] if data else []
"""


class OneVersion:
    """A catalogue with one version in it."""

    def __init__(self, spec: VersionSpec) -> None:
        self.spec = spec
        self.queue = JobQueue(spec, Counters())
        self.submit = self.queue.submit

    def route(self, name: str, version: str | None, *_known: object) -> OneVersion:
        return self


async def serve(listener: socket.socket, model_dir: Path, batch_size: int) -> None:
    spec = VersionSpec(
        "m", "1.0", Source("file:///m"), batching=Batching(batch_size, 0.1), queue_size=1000
    )
    live = OneVersion(spec)
    channel = open_channel(live.queue.arena_fd)
    pid = os.fork()
    if pid == 0:
        channel.front.close()
        os._exit(worker_loop.serve(channel.worker, channel.arena_fd))
    channel.worker.close()
    link = WorkerLink(channel.front, print, lambda measured: None)
    await link.open()
    message = {
        "model": "m", "version": "1.0", "modelDir": str(model_dir), "manifest": {},
        "handler": "h.py", "batchSize": batch_size, "maxResponseBytes": 6_553_500,
    }  # fmt: skip
    await link.load(message, 20)
    Lane(live.queue, link, print, 6_553_500).start()
    http = make_protocol(live, Settings(), Telemetry())
    config = uvicorn.Config(_no_app, http=http, lifespan="off", log_level="warning")
    await uvicorn.Server(config).serve(sockets=[listener])


async def _no_app(scope, receive, send):
    raise NotImplementedError


class Client(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answers = 0
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data):
        if not (self.data or data).startswith(b"HTTP/1.1 200"):
            sys.exit(f"not answered: {data!r}")
        self.answers += 1
        self.transport.write(self.request)


async def load(port: int, clients: int, seconds: float, request: bytes) -> int:
    loop = asyncio.get_running_loop()
    made = [Client(request) for _ in range(clients)]
    for client in made:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.sleep(seconds)
    return sum(client.answers for client in made)


def main() -> None:
    clients, seconds, size = (int(a) for a in (*sys.argv[1:], "32", "3", "0")[:3])
    if size:
        body, kind = bytes(size), "application/octet-stream"
    else:
        body, kind = b'{"x": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}', "application/json"
    request = (
        f"POST /predictions/m HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench/1\r\n"
        f"Accept: */*\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        model_dir = Path(scratch)
        (model_dir / "h.py").write_text(BIG_HANDLER if size else HANDLER)
        batch_size = int(os.environ.get("BATCH", "32"))
        front = multiprocessing.get_context("fork").Process(
            target=lambda: uvloop.run(serve(listener, model_dir, batch_size))
        )
        front.start()
        process = psutil.Process(front.pid)
        time.sleep(1.5)
        worker = process.children()[0]
        began = [process.cpu_times(), worker.cpu_times()]
        answers = uvloop.run(load(port, clients, seconds, request))
        spent = [
            (now.user - then.user + now.system - then.system) / answers * 1e6
            for now, then in zip((process.cpu_times(), worker.cpu_times()), began, strict=True)
        ]
        print(
            f"{clients} clients: {answers / seconds:,.0f}/s, "
            f"front {spent[0]:.1f} µs, worker {spent[1]:.1f} µs per request"
        )
        front.terminate()
        front.join()


if __name__ == "__main__":
    main()
