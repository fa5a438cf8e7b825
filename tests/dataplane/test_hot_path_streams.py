"""Streamed answers as a client's socket sees them."""

import asyncio

import pytest

from flambeau_runtime.errors import PredictionFailed
from flambeau_runtime.serving.job import Prediction
from tests.dataplane.front_door import EchoVersion, front, request

NEXT = (("ts_stream_next", "true"),)


class Feed:
    """Where the pieces come from: keeps what it was told."""

    def __init__(self):
        self.told = []
        self.heard = asyncio.Event()

    def hold(self, _job):
        self._hear("hold")

    def go_on(self, _job):
        self._hear("go on")

    def left(self, _job):
        self._hear("left")

    def _hear(self, what):
        self.told.append(what)
        self.heard.set()

    async def hears(self, what):
        async with asyncio.timeout(10):
            while what not in self.told:
                self.heard.clear()
                await self.heard.wait()


def piece(body=b"", **how):
    return Prediction(body=body, headers=NEXT, **how)


async def begun(door, *pieces, feed=None, **headers):
    """Return a connection whose answer has begun with these pieces, and the job behind it."""
    client = await door.connect()
    count = len(door.version.jobs)
    await client.send(request(body=b"go", X_Request_Id="r1", **headers))
    await door.version.taken(count + 1)
    job = door.version.jobs[-1]
    for one in pieces:
        job.part(one, feed or Feed())
    return client, job


def held():
    version = EchoVersion()
    version.hold = True
    return version


async def test_a_stream_is_one_head_and_a_chunk_for_each_piece():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"first "), piece(b"second "))
        job.resolve(Prediction(body=b"last"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head == (
            b"HTTP/1.1 200 \r\nts_stream_next: true\r\nx-request-id: r1\r\nPragma: no-cache\r\n"
            b"Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
            b"Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
            b"transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
        )
        rest = await client.reader.readuntil(b"0\r\n\r\n")
        assert rest == b"6\r\nfirst \r\n7\r\nsecond \r\n4\r\nlast\r\n0\r\n\r\n"


async def test_the_first_piece_leaves_before_there_is_a_second():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"first"))
        assert (await client.reader.readuntil(b"first\r\n")).endswith(b"5\r\nfirst\r\n")
        assert not job.ended


async def test_empty_pieces_are_no_chunks_since_an_empty_one_is_the_end():
    async with front(held()) as door:
        client, job = await begun(door, piece(b""), piece(b"x"), piece(b""))
        job.resolve(Prediction())
        assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(
            b"\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )


async def test_the_connection_serves_on_after_a_stream():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"x"))
        job.resolve(Prediction())
        await client.reader.readuntil(b"0\r\n\r\n")
        door.version.hold = False
        assert (await client.ask(body=b"plain")).body == b"plain"


async def test_a_request_sent_behind_is_answered_after_the_stream():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"x"))
        await client.send(request(body=b"behind"))
        await asyncio.sleep(0.05)
        door.version.hold = False
        job.resolve(Prediction(body=b"y"))
        assert (await client.reader.readuntil(b"y\r\n0\r\n\r\n")).count(b"HTTP/1.1") == 1
        assert (await client.answer()).body == b"behind"


async def test_a_client_that_wants_to_close_is_let_go_after_the_last_chunk():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"x"), Connection="close")
        job.resolve(Prediction(body=b"y"))
        whole = await client.closed()
        assert b"connection: close" in whole
        assert whole.endswith(b"1\r\ny\r\n0\r\n\r\n")


async def test_a_stream_that_breaks_has_no_end_and_takes_its_connection_with_it():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"x"))
        job.fail(PredictionFailed("no"))
        assert (await client.closed()).endswith(b"1\r\nx\r\n")


async def test_the_status_of_the_first_piece_is_that_of_the_stream():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"x", status=201, phrase="Made"))
        job.resolve(Prediction(500, "Too late"))
        assert (await client.reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 201 Made\r\n")
        assert door.telemetry.responses[2] == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none_in_a_stream_either(status):
    async with front(held()) as door:
        client, job = await begun(door, piece(b"x", status=status))
        job.resolve(Prediction(body=b"y"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        door.version.hold = False
        assert (await client.ask(body=b"next")).body == b"next"


async def test_large_pieces_arrive_whole():
    big = bytes(range(256)) * 4096
    async with front(held()) as door:
        client, job = await begun(door, piece(big))
        job.resolve(Prediction(body=big))
        await client.reader.readuntil(b"\r\n\r\n")
        chunk = b"100000\r\n" + big + b"\r\n"
        assert await client.reader.readexactly(2 * len(chunk) + 5) == 2 * chunk + b"0\r\n\r\n"


async def test_a_reader_who_leaves_is_told_to_the_worker():
    async with front(held()) as door:
        feed = Feed()
        client, job = await begun(door, piece(b"x"), feed=feed)
        await client.close()
        await feed.hears("left")
        assert job.ended


async def test_a_slow_reader_holds_the_stream_up_until_it_reads():
    async with front(held()) as door:
        feed = Feed()
        client, job = await begun(door, piece(b"x"), feed=feed)
        client.writer.transport.pause_reading()
        for _ in range(200):
            if "hold" in feed.told:
                break
            job.part(piece(bytes(100_000)), feed)
            await asyncio.sleep(0.001)
        await feed.hears("hold")
        client.writer.transport.resume_reading()
        reading = asyncio.create_task(client.reader.read(-1))
        await feed.hears("go on")
        job.fail(PredictionFailed("the end of the test"))
        await reading


async def test_a_reader_who_is_stuck_is_cut_off(monkeypatch):
    monkeypatch.setattr("flambeau_runtime.api.hot_path.STALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr("flambeau_runtime.api.hot_path.TICK_S", 0.1)
    async with front(held()) as door:
        feed = Feed()
        client, job = await begun(door, piece(b"x"), feed=feed)
        client.writer.transport.pause_reading()
        while "hold" not in feed.told:
            job.part(piece(bytes(1_000_000)), feed)
        await feed.hears("left")
        await door.gone()


async def test_a_stream_counts_once_when_it_is_over():
    async with front(held()) as door:
        client, job = await begun(door, piece(b"x"), piece(b"x"))
        assert sum(door.telemetry.responses) == 0
        job.resolve(Prediction())
        await client.reader.readuntil(b"0\r\n\r\n")
        assert door.telemetry.responses[2] == 1
