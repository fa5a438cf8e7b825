"""Sequences: in order, with one worker, within limits."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from flambeau_runtime.errors import DeadlineExceeded, ModelNotReady, SequenceRefused, WorkerLost
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.modes import SequenceHeaders, SequenceLimits
from flambeau_runtime.serving.sequences import SequenceQueue
from tests.dataplane.fake_worker import FakeWorker, new_job, new_queue

ROOMY = SequenceLimits(max_idle_s=60, max_count=100, queue_size=100)


def queue_of(limits=ROOMY, size=8, **how):
    return SequenceQueue(new_queue(size=size).spec, Counters(), limits, **how)


def submit(queue, key, body=b"", timeout_s=60.0):
    job = new_job(body, timeout_s=timeout_s)
    if key is not None:
        job.payload.headers = b"ts_request_sequence_id: %b\r\n" % key.encode()
    queue.submit(job)
    return job


@asynccontextmanager
async def workers(queue, count=1):
    made = [await FakeWorker(queue).start() for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            await one.close()


async def test_one_job_of_a_sequence_is_at_work_at_a_time_and_they_keep_their_order():
    queue = queue_of()
    jobs = [submit(queue, "s", body) for body in (b"1", b"2", b"3")]
    async with workers(queue) as [worker]:
        for body in (b"1", b"2", b"3"):
            number, bodies = await worker.batch()
            assert bodies == [body]
            worker.answer(number, bodies)
        assert [(await job.reply.end()).body for job in jobs] == [b"1", b"2", b"3"]
    assert queue.outstanding == 0


async def test_different_sequences_share_a_batch():
    queue = queue_of()
    async with workers(queue) as [worker]:
        for key in ("a", "b", "c"):
            submit(queue, key, key.encode())
        assert (await worker.batch())[1] == [b"a", b"b", b"c"]


async def test_a_sequence_stays_with_its_worker_and_others_go_to_whoever_has_fewest():
    queue = queue_of()
    async with workers(queue, 2) as both:
        for turn in range(3):
            for key in ("a", "b"):
                submit(queue, key, key.encode())
            batches = [await worker.batch() for worker in both]
            assert sorted(bodies for _, bodies in batches) == [[b"a"], [b"b"]]
            first = first if turn else [bodies for _, bodies in batches]  # noqa: F821  of turn 0
            assert [bodies for _, bodies in batches] == first
            for worker, batch in zip(both, batches, strict=True):
                worker.answer(*batch)
            await asyncio.sleep(0.01)


async def test_a_request_that_names_no_sequence_begins_one_of_its_own():
    queue = queue_of()
    async with workers(queue) as [worker]:
        submit(queue, None)
        submit(queue, "")
        _, rows = await worker.rows()
        heads = [row.headers.decode().split("\r\n") for row in rows]
        ids = [head[-2].removeprefix("ts_request_sequence_id: ") for head in heads]
        assert all(key.startswith("ts-seq-") for key in ids)
        assert ids[0] != ids[1]
        assert all(head[-3] == "ts_request_sequence_start: true" for head in heads)


async def test_the_headers_may_have_other_names_and_any_case():
    names = SequenceHeaders("X-Seq", "X-Begin", "X-End")
    queue = queue_of(SequenceLimits(60, 0, max_count=1, queue_size=5), headers=names)
    for name in (b"X-Seq", b"x-seq"):
        job = new_job()
        job.payload.headers = name + b": one\r\n"
        queue.submit(job)
    assert len(queue) == 2
    with pytest.raises(SequenceRefused):
        submit(queue, "ts_request_sequence_id is no name here")


async def test_there_are_no_more_sequences_than_the_limit():
    queue = queue_of(SequenceLimits(60, 0, max_count=2, queue_size=5))
    submit(queue, "a")
    submit(queue, "b")
    with pytest.raises(ModelNotReady, match="exceeds maxSequenceJobQueueSize"):
        submit(queue, "c")
    submit(queue, "a")


async def test_no_more_jobs_of_a_sequence_wait_than_the_limit_behind_the_one_at_work():
    queue = queue_of(SequenceLimits(60, 0, max_count=2, queue_size=2))
    async with workers(queue) as [worker]:
        for _ in range(3):
            submit(queue, "a")
        await worker.batch()
        with pytest.raises(SequenceRefused):
            submit(queue, "a")
        submit(queue, "b")


async def test_a_sequence_that_is_idle_for_too_long_makes_room():
    queue = queue_of(SequenceLimits(0.1, 0, max_count=1, queue_size=1))
    async with workers(queue) as [worker]:
        submit(queue, "a")
        worker.answer(*(await worker.batch()))
        await asyncio.sleep(0.05)
        with pytest.raises(SequenceRefused):
            submit(queue, "b")
        await asyncio.sleep(0.15)
        submit(queue, "b", b"b")
        assert (await worker.batch())[1] == [b"b"]


async def test_a_request_in_time_keeps_its_sequence_alive():
    queue = queue_of(SequenceLimits(0.2, 0, max_count=1, queue_size=1))
    async with workers(queue) as [worker]:
        for _ in range(4):
            submit(queue, "a")
            worker.answer(*(await worker.batch()))
            await asyncio.sleep(0.1)
        with pytest.raises(SequenceRefused):
            submit(queue, "b")


async def test_a_sequence_that_is_too_old_ends_once_nothing_waits():
    queue = queue_of(SequenceLimits(60, 0.15, max_count=1, queue_size=5))
    async with workers(queue) as [worker]:
        jobs = [submit(queue, "a") for _ in range(3)]
        for _ in range(3):
            batch = await worker.batch()
            await asyncio.sleep(0.1)
            worker.answer(*batch)
        for job in jobs:
            await job.reply.end()
        await asyncio.sleep(0.05)
        submit(queue, "b", b"b")
        assert (await worker.batch())[1] == [b"b"]


async def test_a_job_whose_worker_dies_is_not_tried_by_one_without_the_state():
    queue = queue_of()
    async with workers(queue, 2) as [first, second]:
        at_work, waits = submit(queue, "a", b"1"), submit(queue, "a", b"2")
        reading = [asyncio.create_task(worker.batch()) for worker in (first, second)]
        await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        dies, other = (first, second) if reading[0].done() else (second, first)
        await dies.die()
        assert isinstance(await at_work.reply.end(), WorkerLost)
        number, bodies = await reading[1 if dies is first else 0]
        assert bodies == [b"2"]
        other.answer(number, bodies)
        assert (await waits.reply.end()).body == b"2"
    assert queue.outstanding == 0


async def test_a_worker_that_is_drained_finishes_its_job_before_the_next_goes_elsewhere():
    queue = queue_of()
    async with workers(queue) as [first]:
        submit(queue, "a", b"1")
        batch = await first.batch()
        submit(queue, "a", b"2")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first.lane.drain())
            await asyncio.sleep(0)
            second = await FakeWorker(queue).start()
            await asyncio.sleep(0.02)
            assert len(queue) == 1
            first.answer(*batch)
        assert (await second.batch())[1] == [b"2"]
        await second.close()


async def test_workers_share_the_sequences_that_may_be():
    queue = queue_of(SequenceLimits(60, 0, max_count=2, queue_size=5))
    queue.apply(new_queue(size=8).spec.__class__(**{**_fields(queue.spec), "workers": 2}))
    async with workers(queue) as [only]:
        submit(queue, "a", b"a")
        submit(queue, "b", b"b")
        assert (await only.batch())[1] == [b"a"]
        second = await FakeWorker(queue).start()
        assert (await second.batch())[1] == [b"b"]
        await second.close()


async def test_a_job_that_waits_too_long_expires_and_those_behind_it_go_on():
    queue = queue_of()
    late, fine = submit(queue, "a", b"1", timeout_s=0.05), submit(queue, "a", b"2")
    assert isinstance(await late.reply.end(), DeadlineExceeded)
    async with workers(queue) as [worker]:
        assert (await worker.batch())[1] == [b"2"]
    assert not fine.reply.parts


async def test_a_client_that_left_is_passed_by():
    queue = queue_of()
    gone, stays = submit(queue, "a", b"1"), submit(queue, "a", b"2")
    gone.abandon()
    async with workers(queue) as [worker]:
        worker.answer(*(await worker.batch()))
        assert (await stays.reply.end()).body == b"2"
    assert queue.outstanding == 0


async def test_everything_that_waits_can_be_failed():
    queue = queue_of()
    jobs = [submit(queue, key) for key in ("a", "a", "b")]
    queue.fail_all(ModelNotReady("m", "1.0", "no"))
    for job in jobs:
        assert isinstance(await job.reply.end(), ModelNotReady)
    assert (len(queue), queue.outstanding, queue.oldest_wait_s()) == (0, 0, 0.0)


async def test_a_handler_can_end_a_sequence():
    queue = queue_of(SequenceLimits(60, 0, max_count=1, queue_size=5))
    async with workers(queue) as [worker]:
        job = submit(queue, "a")
        worker.answer(*(await worker.batch()))
        await job.reply.end()
        queue.end(["nobody", "a"])
        submit(queue, "b", b"b")
        assert (await worker.batch())[1] == [b"b"]


def _fields(spec):
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}
