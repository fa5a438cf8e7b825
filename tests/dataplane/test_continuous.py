"""A batch that never ends: rows join and leave between calls."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from flambeau_runtime import protocol
from flambeau_runtime.errors import PredictionFailed, SequenceRefused, WorkerLost
from flambeau_runtime.protocol import Kind
from flambeau_runtime.serving.continuous import ContinuousLane
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.modes import SequenceLimits
from flambeau_runtime.serving.sequences import SequenceQueue
from flambeau_runtime.worker.context import RowResult
from tests.dataplane.fake_worker import MAX_RESPONSE_BYTES, FakeWorker, new_job, new_queue

MORE = (("ts_stream_next", "true"),)
LAST = (("ts_stream_next", "false"),)


class CallingWorker(FakeWorker):
    """One call after the other, each with what the handler has not finished."""

    def __init__(self, queue):
        super().__init__(queue)
        self.lane = ContinuousLane(queue, self.link, self._on_end, MAX_RESPONSE_BYTES)

    async def call(self):
        """Return the number of the next call, and its bodies; None: the worker has it."""
        number, rows = await self.rows()
        bodies = [None if row.body is protocol.WITH_HANDLER else bytes(row.body) for row in rows]
        return number, bodies

    def returns(self, number, *rows):
        """Answer a call with (body, headers) for each row."""
        self.send(protocol.pack_end(number, [RowResult(body, 200, "", h) for body, h in rows]))


@asynccontextmanager
async def calling(*bodies, size=3):
    """Yield a queue, its worker, and jobs that are all in the first call."""
    queue = new_queue(size=size)
    jobs = submit(queue, *bodies)
    worker = await CallingWorker(queue).start()
    try:
        yield queue, worker, jobs
    finally:
        await worker.close()


def submit(queue, *bodies):
    jobs = [new_job(body) for body in bodies]
    for job in jobs:
        queue.submit(job)
    return jobs


async def test_a_row_is_called_again_until_it_is_finished():
    async with calling(b"a") as (queue, worker, [job]):
        number, bodies = await worker.call()
        assert bodies == [b"a"]
        worker.returns(number, (b"one", MORE))
        number, bodies = await worker.call()
        assert bodies == [None]
        worker.returns(number, (b"two", LAST))
        assert (await job.reply.end()).body == b"two"
        assert job.reply.parts == [b"one"]
        assert (queue.outstanding, queue.counters.requests) == (0, 1)
        assert not worker.lane.busy


async def test_whoever_waits_joins_behind_those_who_are_there():
    async with calling(b"a") as (queue, worker, _):
        number, _ = await worker.call()
        submit(queue, b"b", b"c", b"d")
        worker.returns(number, (b"1", MORE))
        number, bodies = await worker.call()
        assert bodies == [None, b"b", b"c"]
        assert len(queue) == 1


async def test_a_place_that_becomes_free_is_taken_at_once():
    async with calling(b"a", b"b", b"c", size=2) as (_, worker, [first, *_]):
        number, _ = await worker.call()
        worker.returns(number, (b"1", LAST), (b"1", MORE))
        number, bodies = await worker.call()
        assert bodies == [None, b"c"]
        assert (await first.reply.end()).body == b"1"


async def test_a_row_without_a_word_about_more_is_finished():
    async with calling(b"a") as (_, worker, [job]):
        number, _ = await worker.call()
        worker.returns(number, (b"all", ()))
        assert (await job.reply.end()).body == b"all"


async def test_a_reader_who_leaves_is_not_in_the_next_call():
    async with calling(b"a", b"b") as (queue, worker, [leaves, stays]):
        number, _ = await worker.call()
        worker.returns(number, (b"1", MORE), (b"1", MORE))
        number, _ = await worker.call()
        leaves.abandon()
        worker.returns(number, (b"2", MORE), (b"2", MORE))
        number, bodies = await worker.call()
        assert bodies == [None]
        worker.returns(number, (b"3", LAST))
        assert (await stays.reply.end()).body == b"3"
        assert queue.outstanding == 0


async def test_a_handler_that_raises_ends_all_rows_and_the_worker_serves_on():
    async with calling(b"a", b"b") as (queue, worker, jobs):
        number, _ = await worker.call()
        worker.fault(number, reason="PredictionFailed", message="no")
        for job in jobs:
            assert isinstance(await job.reply.end(), PredictionFailed)
        [after] = submit(queue, b"c")
        number, bodies = await worker.call()
        assert bodies == [b"c"]
        worker.returns(number, (b"x", LAST))
        assert (await after.reply.end()).body == b"x"


async def test_a_death_ends_what_has_begun_and_what_has_not_is_tried_again():
    async with calling(b"a") as (queue, worker, [begun]):
        number, _ = await worker.call()
        [fresh] = submit(queue, b"b")
        worker.returns(number, (b"1", MORE))
        await worker.call()
        await worker.die()
        assert isinstance(await begun.reply.end(), WorkerLost)
        second = await CallingWorker(queue).start()
        number, bodies = await second.call()
        assert bodies == [b"b"]
        second.returns(number, (b"x", LAST))
        assert (await fresh.reply.end()).body == b"x"
        await second.close()


async def test_a_drained_lane_finishes_its_rows_and_takes_no_other():
    async with calling(b"a") as (queue, worker, [job]):
        number, _ = await worker.call()
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(worker.lane.drain())
            await asyncio.sleep(0)
            submit(queue, b"late")
            worker.returns(number, (b"1", MORE))
            number, bodies = await worker.call()
            assert bodies == [None]
            assert not drained.done()
            worker.returns(number, (b"2", LAST))
        assert (await job.reply.end()).body == b"2"
        assert len(queue) == 1


async def test_sequences_join_a_running_batch_and_end_by_the_handlers_word():
    limits = SequenceLimits(max_idle_s=60, max_count=2, queue_size=5)
    queue = SequenceQueue(new_queue(size=4).spec, Counters(), limits)
    worker = await CallingWorker(queue).start()
    first = submit_to(queue, "a", b"1")
    number, _ = await worker.call()
    submit_to(queue, "a", b"2")
    other = submit_to(queue, "b", b"3")
    worker.returns(number, (b"", MORE))
    number, bodies = await worker.call()
    assert bodies == [None, b"3"]  # one of each sequence at a time
    ends = (*LAST, ("ts_request_sequence_end", "a; b"))
    worker.returns(number, (b"x", LAST), (b"y", ends))
    assert [(await job.reply.end()).body for job in (first, other)] == [b"x", b"y"]
    number, bodies = await worker.call()
    assert bodies == [b"2"]
    submit_to(queue, "c", b"4")  # there is room: b has ended, a goes on
    with pytest.raises(SequenceRefused):
        submit_to(queue, "d", b"5")
    await worker.close()


def submit_to(queue, key, body):
    job = new_job(body)
    job.payload.headers = b"ts_request_sequence_id: %b\r\n" % key.encode()
    queue.submit(job)
    return job


async def test_a_slow_reader_is_let_go_of_when_its_row_is_finished():
    async with calling(b"a", b"b") as (_, worker, [slow, quick]):
        slow.reply.part = lambda job, _prediction: job.hold()
        number, _ = await worker.call()
        pieces = protocol.pack_end(number, [RowResult(b"1"), RowResult(b"1")], Kind.PART)
        rows = [RowResult(b"2", 200, "", LAST), RowResult(b"2", 200, "", MORE)]
        worker.send(pieces + protocol.pack_end(number, rows))
        number, bodies = await worker.call()
        assert bodies == [None]
        worker.returns(number, (b"3", LAST))
        assert (await quick.reply.end()).body == b"3"
