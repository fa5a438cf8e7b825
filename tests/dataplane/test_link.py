import asyncio

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from flambeau_runtime import protocol
from flambeau_runtime.errors import LoadFailed, WorkerLost
from flambeau_runtime.protocol import Kind
from flambeau_runtime.worker.context import RowResult
from tests.dataplane.fake_worker import FakeWorker, new_job, new_queue

LOADED = protocol.frame(Kind.LOADED, 0, b'{"pid": 7}')


async def loading(answer):
    worker = await FakeWorker(new_queue()).connect()
    worker.send(answer)
    try:
        return await worker.link.load({"model": "m"}, 5)
    finally:
        await worker.close()


async def test_a_worker_says_that_it_has_loaded():
    assert await loading(LOADED) == {"pid": 7}


async def test_a_worker_says_why_it_cannot_load():
    message = {"reason": "HandlerImportFailed", "message": "ImportError: no", "log": "line"}
    with pytest.raises(LoadFailed, match="ImportError: no") as failed:
        await loading(protocol.frame(Kind.FAULT, 0, orjson.dumps(message)))
    assert (failed.value.reason, failed.value.log_tail) == ("HandlerImportFailed", "line")


async def test_a_worker_that_loads_for_too_long_is_given_up():
    worker = await FakeWorker(new_queue()).connect()
    with pytest.raises(LoadFailed) as failed:
        await worker.link.load({}, 0.01)
    assert failed.value.reason == "StartupTimeout"
    await worker.close()


async def test_a_worker_that_dies_while_it_loads_is_a_failed_load():
    worker = await FakeWorker(new_queue()).connect()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.die())
        with pytest.raises(LoadFailed) as failed:
            await worker.link.load({}, 5)
    assert failed.value.reason == "WorkerDied"
    assert len(worker.lost) == 1
    await worker.close()


async def test_what_a_handler_measured_is_passed_on():
    worker = await FakeWorker(new_queue()).connect()
    measured = protocol.frame(Kind.METRICS, 0, b'[{"name": "Seen", "value": 1}]')
    worker.send(measured + LOADED)
    await worker.link.load({}, 5)
    assert worker.metrics == [[{"name": "Seen", "value": 1}]]
    await worker.close()


async def test_frames_arrive_whole_however_they_are_cut():
    queue = new_queue(size=1)
    worker = await FakeWorker(queue).start()
    for size in (1, 2, 11, 12, 13, 50):
        job = new_job(b"x" * 100)
        queue.submit(job)
        number, [body] = await worker.batch()
        frame = protocol.pack_end(number, [RowResult(body)])
        for start in range(0, len(frame), size):
            worker.send(frame[start : start + size])
            await asyncio.sleep(0)
        assert (await job.reply.end()).body == body
    await worker.close()


async def test_a_large_answer_arrives_whole():
    queue = new_queue(size=1)
    worker = await FakeWorker(queue).start()
    worker.lane.max_response_bytes = 10_000_000
    job = new_job()
    queue.submit(job)
    number, _ = await worker.batch()
    body = bytes(range(256)) * 12_000
    worker.answer(number, [body])
    assert (await job.reply.end()).body == body
    await worker.close()


async def test_after_close_nobody_is_told():
    worker = await FakeWorker(new_queue()).start()
    worker.lane.close()
    await worker.die()
    await asyncio.sleep(0.01)
    assert (worker.lost, worker.ends) == ([], [])


async def attacked(garbage):
    """Return how a lane with one job in flight ends when its worker sends this and dies."""
    queue = new_queue(size=1, retry_on_crash=False)
    worker = await FakeWorker(queue).start()
    job = new_job()
    queue.submit(job)
    await worker.batch()
    worker.send(garbage)
    await worker.die()
    end = await worker.ended()
    await job.reply.end()
    await worker.close()
    assert isinstance(end.fault, WorkerLost)
    assert queue.outstanding == 0
    return job.reply.ends


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_random_bytes_from_a_worker_end_that_worker_and_nothing_else(garbage):
    assert len(asyncio.run(attacked(garbage))) == 1


@given(st.data())
@settings(max_examples=60)
def test_a_mutated_answer_ends_in_an_answer_or_a_lost_worker(data):
    frame = bytearray(protocol.pack_end(1, [RowResult(b"body", 200, "ok", (("a", "b"),))]))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    assert len(asyncio.run(attacked(bytes(frame)))) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(LOADED, id="loaded a second time"),
        pytest.param(protocol.frame(Kind.PREDICT, 1), id="a frame that only the front sends"),
        pytest.param(protocol.pack_end(2, [RowResult(b"")]), id="an answer to another batch"),
        pytest.param(protocol.pack_end(1, []), id="too few rows"),
        pytest.param(protocol.pack_end(1, [RowResult(b"")] * 2), id="too many rows"),
        pytest.param(protocol.frame(Kind.FAULT, 1, b"{"), id="a fault that is no JSON"),
        pytest.param(protocol.frame(Kind.FAULT, 1, b"[]"), id="a fault that is no object"),
        pytest.param(protocol.frame(Kind.METRICS, 0, b"{}"), id="metrics that are no list"),
    ],
)
async def test_frames_that_make_no_sense_lose_the_worker(garbage):
    [end] = await attacked(garbage)
    assert isinstance(end, WorkerLost)
    assert "garbage" in str(end)
