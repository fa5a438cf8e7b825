"""Many batches in flight with one worker."""

import asyncio
from contextlib import asynccontextmanager

from flambeau_runtime.errors import DeadlineExceeded, PredictionFailed, WorkerLost
from flambeau_runtime.protocol import Kind
from flambeau_runtime.serving.concurrent import SLOTS, Team
from tests.dataplane.fake_worker import MAX_RESPONSE_BYTES, FakeWorker, new_job, new_queue


class TeamWorker(FakeWorker):
    """A worker with many batches at once."""

    def __init__(self, queue):
        super().__init__(queue)
        self.lane = Team(queue, self.link, self._on_end, MAX_RESPONSE_BYTES)


@asynccontextmanager
async def team(*bodies, **how):
    """Yield a worker that has a batch for each body, by body, and the jobs."""
    queue = new_queue(**how)
    worker = await TeamWorker(queue).start()
    jobs = []
    numbers = {}
    for body in bodies:
        jobs.append(new_job(body))
        queue.submit(jobs[-1])
        number, [taken] = await worker.batch()
        numbers[taken] = number
    try:
        yield worker, numbers, jobs
    finally:
        await worker.close()


async def test_batches_are_answered_in_any_order():
    async with team(b"a", b"b", b"c") as (worker, numbers, jobs):
        for body in (b"c", b"a", b"b"):
            worker.answer(numbers[body], [body.upper()])
        assert [(await job.reply.end()).body for job in jobs] == [b"A", b"B", b"C"]
        assert worker.lane.batches == 3


async def test_a_fault_of_one_batch_is_its_own():
    async with team(b"a", b"b") as (worker, numbers, [fails, fine]):
        worker.fault(numbers[b"a"], reason="PredictionFailed", message="no")
        worker.answer(numbers[b"b"], [b"x"])
        assert isinstance(await fails.reply.end(), PredictionFailed)
        assert (await fine.reply.end()).body == b"x"


async def test_streams_run_side_by_side_and_a_reader_who_leaves_cancels_only_its_own():
    async with team(b"a", b"b") as (worker, numbers, [leaves, stays]):
        worker.pieces(numbers[b"a"], b"1")
        worker.pieces(numbers[b"b"], b"2")
        await stays.reply.has_parts(1)
        leaves.abandon()
        assert (await worker.frame())[:2] == (Kind.CANCEL, numbers[b"a"])
        worker.pieces(numbers[b"b"], b"3")
        assert await stays.reply.has_parts(2) == [b"2", b"3"]


async def test_the_worker_is_read_again_when_the_last_slow_reader_is_not_slow_any_more():
    async with team(b"a", b"b") as (worker, numbers, [first, second]):
        for body in (b"a", b"b"):
            worker.pieces(numbers[body], b"1")
        await second.reply.has_parts(1)
        first.hold()
        second.hold()
        first.go_on()
        worker.pieces(numbers[b"a"], b"2")
        await asyncio.sleep(0.05)
        assert len(first.reply.parts) == 1
        second.go_on()
        await first.reply.has_parts(2)


async def test_a_death_hands_everything_on_once():
    async with team(b"a", b"b") as (worker, _, jobs):
        queue = worker.lane.queue
        await worker.die()
        end = await worker.ended()
        assert isinstance(end.fault, WorkerLost)
        assert end.jobs == 2
        second = await TeamWorker(queue).start()
        for _ in jobs:
            second.answer(*(await second.batch()))
        assert sorted([(await job.reply.end()).body for job in jobs]) == [b"a", b"b"]
        assert queue.outstanding == 0
        await second.close()


async def test_one_batch_that_is_late_takes_the_worker_and_the_others_are_tried_again():
    async with team(b"a", response_s=0.4) as (worker, _, [late]):
        await asyncio.sleep(0.2)
        queue = worker.lane.queue
        other = new_job(b"b")
        queue.submit(other)
        await worker.batch()
        assert isinstance(await late.reply.end(), DeadlineExceeded)
        await worker.is_cut_off()
        assert isinstance((await worker.ended()).fault, DeadlineExceeded)
        second = await TeamWorker(queue).start()
        second.answer(*(await second.batch()))
        assert (await other.reply.end()).body == b"b"
        await second.close()


async def test_an_answer_to_nothing_ends_the_worker():
    async with team(b"a") as (worker, _, _jobs):
        worker.answer(7 << 8 | 3, [b"x"])
        assert "garbage" in str((await worker.ended()).fault)


async def test_there_are_no_more_batches_at_once_than_slots():
    queue = new_queue()
    worker = await TeamWorker(queue).start()
    for _ in range(SLOTS + 1):
        queue.submit(new_job())
        await asyncio.sleep(0)
    assert len(queue) == 1
    await worker.close()


async def test_a_drained_team_finishes_what_it_has():
    async with team(b"a") as (worker, numbers, [job]):
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(worker.lane.drain())
            await asyncio.sleep(0.01)
            assert not drained.done()
            worker.answer(numbers[b"a"], [b"x"])
        assert (await job.reply.end()).body == b"x"
