"""A streamed answer for a gRPC client: in order, held up while nobody reads, ended once."""

import asyncio

import pytest

from flambeau_runtime.api.grpc.pieces import HELD_BYTES, Pieces
from flambeau_runtime.errors import WorkerLost
from flambeau_runtime.serving.job import Job, Payload, Prediction


class Feed:
    """Where pieces come from; keeps what it is told."""

    def __init__(self):
        self.told = []

    def hold(self, _job):
        self.told.append("hold")

    def go_on(self, _job):
        self.told.append("go on")

    def left(self, _job):
        self.told.append("left")


@pytest.fixture
def feed():
    return Feed()


def begun():
    pieces = Pieces()
    return pieces, Job(Payload("id", b"", b"", ""), pieces, 0.0, 1e9)


async def read_all(pieces):
    found = []
    while (piece := await pieces.read()) is not None:
        found.append(bytes(piece))
    return found


async def test_pieces_are_read_in_order_and_then_there_are_no_more(feed):
    pieces, job = begun()
    job.part(Prediction(body=b"a"), feed)
    job.part(Prediction(body=b"b"), feed)
    job.resolve(Prediction(body=b"c"))
    assert await read_all(pieces) == [b"a", b"b", b"c"]


async def test_a_reader_waits_for_the_next_piece(feed):
    pieces, job = begun()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read_all(pieces))
        await asyncio.sleep(0)
        job.part(Prediction(body=b"a"), feed)
        await asyncio.sleep(0)
        job.resolve(Prediction(body=b"b"))
    assert reading.result() == [b"a", b"b"]


async def test_what_came_before_a_fault_is_read_first(feed):
    pieces, job = begun()
    job.part(Prediction(body=b"a"), feed)
    job.fail(WorkerLost("Worker died."))
    assert await pieces.read() == b"a"
    with pytest.raises(WorkerLost):
        await pieces.read()


async def test_a_fault_wakes_the_reader():
    pieces, job = begun()
    reading = asyncio.create_task(pieces.read())
    await asyncio.sleep(0)
    job.fail(WorkerLost("Worker died."))
    with pytest.raises(WorkerLost):
        await reading


async def test_a_handler_is_held_up_while_too_much_lies_unread(feed):
    pieces, job = begun()
    job.part(Prediction(body=b"x" * HELD_BYTES), feed)
    assert feed.told == []
    job.part(Prediction(body=b"x"), feed)
    job.part(Prediction(body=b"x"), feed)
    assert feed.told == ["hold"]
    await pieces.read()
    assert feed.told == ["hold", "go on"]


async def test_whoever_stops_reading_tells_the_handler(feed):
    _, job = begun()
    job.part(Prediction(body=b"x"), feed)
    job.abandon()
    assert feed.told == ["left"]
