"""The worker's end of a link, played in the test's own loop; and jobs that keep how they ended."""

import asyncio
import time

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.protocol import Kind
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Batching, Source, Timeouts, VersionSpec
from flambeau_runtime.serving.job import Job, Payload
from flambeau_runtime.serving.lane import Lane
from flambeau_runtime.serving.link import WorkerLink, open_channel
from flambeau_runtime.worker.context import RowResult

MAX_RESPONSE_BYTES = 100_000
ABSENT = RowResult(b"", protocol.ROW_ABSENT)


class Noted:
    """A reply that can be awaited, and counts how often it is told something."""

    def __init__(self):
        self.parts = []
        self.ends = []
        self.told = asyncio.Event()
        self.parted = asyncio.Event()

    def part(self, _job, prediction):
        self.parts.append(bytes(prediction.body))
        self.parted.set()

    def answered(self, _job, prediction):
        self.ends.append(prediction)
        self.told.set()

    def failed(self, _job, fault):
        self.ends.append(fault)
        self.told.set()

    async def has_parts(self, count):
        """Wait until so many pieces have come, and return them."""
        async with asyncio.timeout(5):
            while len(self.parts) < count:
                self.parted.clear()
                await self.parted.wait()
        return self.parts

    async def end(self):
        async with asyncio.timeout(5):
            await self.told.wait()
        [only] = self.ends
        return only


def new_job(body=b"", timeout_s=60.0):
    now = time.monotonic()
    return Job(Payload("id", b"", body, ""), Noted(), now, now + timeout_s)


def new_queue(size=8, response_s=60.0, *, retry_on_crash=True):
    spec = VersionSpec(
        "m",
        "1.0",
        Source("file:///m"),
        batching=Batching(size, 0.0),
        timeouts=Timeouts(response_s),
        retry_on_crash=retry_on_crash,
    )
    return JobQueue(spec, Counters())


class FakeWorker:
    """One worker of a queue: its lane, and the far end of its socket."""

    def __init__(self, queue):
        self.channel = open_channel()
        self.lost = []
        self.metrics = []
        self.ends = []
        self.has_ended = asyncio.Event()
        self.link = WorkerLink(self.channel.front, self.lost.append, self.metrics.append)
        self.lane = Lane(queue, self.link, self._on_end, MAX_RESPONSE_BYTES)

    def _on_end(self, end):
        self.ends.append(end)
        self.has_ended.set()

    async def connect(self):
        await self.link.open()
        self.reader, self.writer = await asyncio.open_unix_connection(sock=self.channel.worker)
        return self

    async def start(self):
        await self.connect()
        self.lane.start()
        return self

    async def frame(self):
        """Return kind, number and payload of the next frame."""
        async with asyncio.timeout(5):
            header = await self.reader.readexactly(protocol.HEADER.size)
            length, number, kind = protocol.read_header(header)
            return kind, number, memoryview(await self.reader.readexactly(length))

    async def rows(self):
        """Return number and rows of the next batch."""
        kind, number, payload = await self.frame()
        assert kind == Kind.PREDICT
        return number, protocol.unpack_predict(payload)

    async def batch(self):
        """Return number and bodies of the next batch."""
        number, rows = await self.rows()
        return number, [bytes(row.body) for row in rows]

    def answer(self, number, bodies):
        self.send(protocol.pack_end(number, [RowResult(body) for body in bodies]))

    def pieces(self, number, *bodies):
        """Send a piece for each row; None: that row has none."""
        rows = [ABSENT if body is None else RowResult(body) for body in bodies]
        self.send(protocol.pack_end(number, rows, Kind.PART))

    def fault(self, number, **message):
        self.send(protocol.frame(Kind.FAULT, number, orjson.dumps(message)))

    def send(self, data):
        self.writer.write(data)

    async def die(self):
        self.writer.close()
        await self.writer.wait_closed()

    async def is_cut_off(self):
        """Wait until the front has closed the socket."""
        async with asyncio.timeout(5):
            while await self.reader.read(65536):
                pass

    async def ended(self):
        async with asyncio.timeout(5):
            await self.has_ended.wait()
        [end] = self.ends
        return end

    async def close(self):
        self.lane.close()
        await self.die()
