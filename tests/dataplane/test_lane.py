import asyncio
from contextlib import asynccontextmanager

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.errors import (
    DeadlineExceeded,
    HandlerRefused,
    OutOfMemory,
    PredictionFailed,
    WorkerLost,
)
from flambeau_runtime.serving.job import Prediction, ask
from flambeau_runtime.serving.lane import LaneEnd
from flambeau_runtime.worker.context import RowResult
from tests.dataplane.fake_worker import MAX_RESPONSE_BYTES, FakeWorker, new_job, new_queue


@asynccontextmanager
async def workers(queue, count=1):
    made = [await FakeWorker(queue).start() for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            await one.close()


def submit(queue, *bodies, **how):
    jobs = [new_job(body, **how) for body in bodies]
    for job in jobs:
        queue.submit(job)
    return jobs


async def test_every_caller_gets_its_own_row():
    queue = new_queue()
    jobs = submit(queue, b"a", b"b", b"c")
    async with workers(queue) as [worker]:
        number, bodies = await worker.batch()
        worker.answer(number, [body.upper() for body in bodies])
        assert [(await job.reply.end()).body for job in jobs] == [b"A", b"B", b"C"]
    assert (queue.counters.requests, queue.counters.errors, queue.outstanding) == (3, 0, 0)


async def test_an_idle_worker_pulls_the_next_batch_by_itself():
    queue = new_queue(size=2)
    jobs = submit(queue, b"a", b"b", b"c")
    async with workers(queue) as [worker]:
        for _ in range(2):
            worker.answer(*(await worker.batch()))
        assert [(await job.reply.end()).body for job in jobs] == [b"a", b"b", b"c"]


async def test_a_caller_who_leaves_harms_no_one_else_in_its_batch():
    queue = new_queue()
    gone, stays = submit(queue, b"a", b"b")
    async with workers(queue) as [worker]:
        batch = await worker.batch()
        gone.abandon()
        worker.answer(*batch)
        assert (await stays.reply.end()).body == b"b"
    assert gone.reply.ends == []
    assert queue.counters.requests == 1


async def test_a_handler_that_raises_fails_its_whole_batch_and_keeps_its_worker():
    queue = new_queue()
    jobs = submit(queue, b"a", b"b")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.fault(number, reason="PredictionFailed", message="Prediction failed. KeyError: 'x'")
        for job in jobs:
            fault = await job.reply.end()
            assert isinstance(fault, PredictionFailed)
            assert "KeyError" in str(fault)
        [again] = submit(queue, b"c")
        worker.answer(*(await worker.batch()))
        assert (await again.reply.end()).body == b"c"
    assert queue.counters.errors == 2


async def test_kinds_of_faults_survive_the_way_from_the_worker():
    queue = new_queue(size=1)
    memory, refused = submit(queue, b"a", b"b")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.fault(number, reason="OutOfMemory", message="Out of resources")
        number, _ = await worker.batch()
        worker.fault(number, reason="HandlerRefused", message="no cats", status=422)
        assert isinstance(await memory.reply.end(), OutOfMemory)
        fault = await refused.reply.end()
        assert isinstance(fault, HandlerRefused)
        assert fault.status == 422


async def test_a_response_that_is_too_long_fails_its_own_row_only():
    queue = new_queue()
    long, short = submit(queue, b"a", b"b")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        fault = orjson.dumps({"reason": "PredictionFailed", "message": "larger than 5 bytes"})
        rows = [RowResult(fault, protocol.ROW_FAULT), RowResult(b"fine")]
        worker.send(protocol.pack_end(number, rows))
        assert "larger than 5" in str(await long.reply.end())
        assert (await short.reply.end()).body == b"fine"


async def test_a_row_that_failed_without_facts_has_failed_all_the_same():
    queue = new_queue()
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.send(protocol.pack_end(number, [RowResult(b"[]", protocol.ROW_FAULT)]))
        assert isinstance(await job.reply.end(), PredictionFailed)


async def test_the_batch_of_a_worker_that_dies_is_given_to_another():
    queue = new_queue()
    jobs = submit(queue, b"a", b"b")
    async with workers(queue) as [first]:
        await first.batch()
        await first.die()
        end = await first.ended()
        assert isinstance(end.fault, WorkerLost)
        assert (end.jobs, end.poisoned_deaths) == (2, 0)
        async with workers(queue) as [second]:
            number, bodies = await second.batch()
            assert bodies == [b"a", b"b"]
            second.answer(number, bodies)
            assert [(await job.reply.end()).body for job in jobs] == [b"a", b"b"]
    assert (queue.counters.errors, queue.outstanding) == (0, 0)


async def test_after_two_deaths_rows_run_alone_and_only_the_poison_fails():
    queue = new_queue()
    good, poison, fine = submit(queue, b"good", b"poison", b"fine")
    ends = []
    for _ in range(6):
        if poison.ended and fine.ended:
            break
        async with workers(queue) as [worker]:
            while not (poison.ended and fine.ended):
                number, bodies = await worker.batch()
                if b"poison" in bodies:
                    await worker.die()
                    ends.append(await worker.ended())
                    break
                worker.answer(number, bodies)
                await asyncio.sleep(0.01)
    assert (await good.reply.end()).body == b"good"
    assert (await fine.reply.end()).body == b"fine"
    assert isinstance(await poison.reply.end(), WorkerLost)
    assert [end.poisoned_deaths for end in ends] == [0, 0, 3]
    assert (queue.counters.errors, queue.outstanding) == (1, 0)


async def test_a_model_may_ask_that_no_batch_is_tried_twice():
    queue = new_queue(retry_on_crash=False)
    jobs = submit(queue, b"a", b"b")
    async with workers(queue) as [worker]:
        await worker.batch()
        await worker.die()
        for job in jobs:
            assert isinstance(await job.reply.end(), WorkerLost)


async def test_a_worker_that_dies_idle_costs_no_job():
    queue = new_queue()
    async with workers(queue) as [worker]:
        await worker.die()
        assert (await worker.ended()).jobs == 0
    [job] = submit(queue, b"a")
    assert len(queue) == 1
    assert not job.ended


async def test_a_batch_that_takes_too_long_fails_and_its_worker_is_given_up():
    queue = new_queue(response_s=0.05)
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        await worker.batch()
        assert isinstance(await job.reply.end(), DeadlineExceeded)
        end = await worker.ended()
        assert end == LaneEnd(end.fault, 1)
        assert isinstance(end.fault, DeadlineExceeded)
        await worker.is_cut_off()
    assert queue.counters.errors == 1


async def test_a_callers_own_deadline_ends_its_job_and_spares_the_worker():
    queue = new_queue()
    [hasty] = submit(queue, b"a", timeout_s=0.05)
    [calm] = submit(queue, b"b")
    async with workers(queue) as [worker]:
        batch = await worker.batch()
        assert isinstance(await hasty.reply.end(), DeadlineExceeded)
        worker.answer(*batch)
        assert isinstance(await calm.reply.end(), Prediction)
        assert worker.ends == []


async def test_a_drained_lane_finishes_its_batch_and_takes_no_other():
    queue = new_queue(size=1)
    first, second = submit(queue, b"a", b"b")
    async with workers(queue) as [worker]:
        batch = await worker.batch()
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(worker.lane.drain())
            await asyncio.sleep(0)
            assert not drained.done()
            worker.answer(*batch)
        assert (await first.reply.end()).body == b"a"
        assert not worker.lane.busy
    assert not second.ended
    assert len(queue) == 1


async def test_a_lane_that_is_closed_gives_its_batch_back():
    queue = new_queue()
    [job] = submit(queue, b"a")
    async with workers(queue) as [first]:
        await first.batch()
        first.lane.close()
        await first.is_cut_off()
        assert first.ends == []
    async with workers(queue) as [second]:
        second.answer(*(await second.batch()))
        assert (await job.reply.end()).body == b"a"
    assert job.deaths == 0


async def test_a_reply_that_breaks_does_not_break_the_other_replies():
    queue = new_queue()
    broken, whole = submit(queue, b"a", b"b")
    broken.reply.answered = None
    async with workers(queue) as [worker]:
        worker.answer(*(await worker.batch()))
        assert (await whole.reply.end()).body == b"b"
        assert worker.ends == []


async def test_asking_gives_the_prediction_or_raises_the_fault():
    queue = new_queue(size=1)
    async with workers(queue) as [worker], asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(queue, new_job(b"a").payload, 5))
        worker.answer(*(await worker.batch()))
        assert (await asked).body == b"a"
        asked = tasks.create_task(_fault_of(ask(queue, new_job(b"b").payload, 5)))
        number, _ = await worker.batch()
        worker.fault(number, reason="PredictionFailed", message="no")
        assert isinstance(await asked, PredictionFailed)


async def _fault_of(asked):
    try:
        await asked
    except PredictionFailed as fault:
        return fault


async def test_whoever_stops_asking_abandons_the_job():
    queue = new_queue()
    asked = asyncio.ensure_future(ask(queue, new_job().payload, 5))  # noqa: TID251  cancelled here
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    async with workers(queue) as [worker]:
        queue.submit(new_job(b"next"))
        _, bodies = await worker.batch()
        assert bodies == [b"next"]


async def test_the_limit_of_a_response_bounds_what_a_worker_may_send():
    queue = new_queue()
    submit(queue, b"a")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.send(protocol.HEADER.pack(MAX_RESPONSE_BYTES * 100, number, protocol.Kind.END))
        assert "garbage" in str((await worker.ended()).fault)
