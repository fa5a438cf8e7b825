"""Pieces of answers on their way from a worker's socket to whoever waits."""

import asyncio
import time
from contextlib import asynccontextmanager

import orjson
import pytest

from flambeau_runtime import protocol
from flambeau_runtime.errors import (
    DeadlineExceeded,
    HandlerRefused,
    PredictionFailed,
    WorkerLost,
)
from flambeau_runtime.protocol import Kind
from flambeau_runtime.serving.job import Prediction, ask
from flambeau_runtime.worker.context import RowResult
from tests.dataplane.fake_worker import MAX_RESPONSE_BYTES, FakeWorker, new_job, new_queue


@asynccontextmanager
async def streaming(*bodies, response_s=60.0, timeout_s=60.0):
    """Yield a worker, the number of its batch and the jobs in it."""
    queue = new_queue(response_s=response_s)
    jobs = [new_job(body, timeout_s=timeout_s) for body in bodies]
    for job in jobs:
        queue.submit(job)
    worker = await FakeWorker(queue).start()
    try:
        number, _ = await worker.batch()
        yield worker, number, jobs
    finally:
        await worker.close()


async def test_pieces_come_in_order_and_what_the_handler_returns_is_the_last():
    async with streaming(b"a") as (worker, number, [job]):
        worker.pieces(number, b"one")
        worker.pieces(number, b"two")
        assert await job.reply.has_parts(2) == [b"one", b"two"]
        assert not job.ended
        worker.answer(number, [b"three"])
        assert (await job.reply.end()).body == b"three"


async def test_rows_that_stream_and_rows_that_do_not_share_a_batch():
    async with streaming(b"a", b"b") as (worker, number, [streams, waits]):
        worker.pieces(number, b"one", None)
        await streams.reply.has_parts(1)
        worker.answer(number, [b"two", b"all"])
        assert [(await job.reply.end()).body for job in (streams, waits)] == [b"two", b"all"]
        assert waits.reply.parts == []


async def test_a_row_can_be_refused_before_the_batch_is_over():
    async with streaming(b"a", b"b") as (worker, number, [refused, other]):
        why = orjson.dumps({"reason": "HandlerRefused", "message": "no", "status": 418})
        rows = [RowResult(why, protocol.ROW_FAULT), RowResult(b"piece")]
        worker.send(protocol.pack_end(number, rows, Kind.PART))
        fault = await refused.reply.end()
        assert isinstance(fault, HandlerRefused)
        assert (fault.status, str(fault)) == (418, "no")
        assert await other.reply.has_parts(1) == [b"piece"]


async def test_a_handler_that_raises_after_the_first_piece_ends_the_stream_with_a_fault():
    async with streaming(b"a") as (worker, number, [job]):
        worker.pieces(number, b"one")
        worker.fault(number, reason="PredictionFailed", message="Prediction failed. no")
        assert isinstance(await job.reply.end(), PredictionFailed)
        assert worker.ends == []


async def test_what_has_begun_is_never_tried_again_and_the_rest_is():
    async with streaming(b"a", b"b") as (worker, number, [begun, fresh]):
        worker.pieces(number, b"one", None)
        await begun.reply.has_parts(1)
        await worker.die()
        assert isinstance(await begun.reply.end(), WorkerLost)
        queue = worker.lane.queue
        second = await FakeWorker(queue).start()
        again = await second.batch()
        assert again[1] == [b"b"]
        second.answer(*again)
        assert (await fresh.reply.end()).body == b"b"
        assert queue.outstanding == 0
        await second.close()


async def test_a_worker_that_is_stopped_in_mid_stream_ends_the_stream_with_a_fault():
    async with streaming(b"a") as (worker, number, [job]):
        worker.pieces(number, b"one")
        await job.reply.has_parts(1)
        worker.lane.close()
        assert isinstance(await job.reply.end(), WorkerLost)
        assert worker.lane.queue.outstanding == 0


async def test_the_models_timeout_holds_between_pieces_and_not_for_the_whole():
    async with streaming(b"a", response_s=1, timeout_s=1) as (worker, number, [job]):
        began = time.monotonic()
        for turn in range(5):
            worker.pieces(number, b"piece")
            await job.reply.has_parts(turn + 1)
            await asyncio.sleep(0.25)
        assert not job.ended
        assert isinstance(await job.reply.end(), DeadlineExceeded)
        assert time.monotonic() - began > 2
        assert isinstance((await worker.ended()).fault, DeadlineExceeded)


async def test_a_deadline_of_the_clients_own_holds_for_the_whole():
    async with streaming(b"a", response_s=60, timeout_s=0.2) as (worker, number, [job]):
        worker.pieces(number, b"piece")
        assert isinstance(await job.reply.end(), DeadlineExceeded)
        assert (await worker.frame())[:2] == (Kind.CANCEL, number)
        assert worker.ends == []


async def test_the_last_reader_who_leaves_cancels_the_batch():
    async with streaming(b"a", b"b") as (worker, number, [first, last]):
        worker.pieces(number, b"one", b"one")
        await last.reply.has_parts(1)
        first.abandon()
        last.abandon()
        assert (await worker.frame())[:2] == (Kind.CANCEL, number)
        worker.fault(number, reason="PredictionFailed", message="the readers left")
        job = new_job(b"next")
        worker.lane.queue.submit(job)
        worker.answer(*(await worker.batch()))
        assert (await job.reply.end()).body == b"next"


async def test_a_reader_who_leaves_alone_changes_nothing_for_the_others():
    async with streaming(b"a", b"b") as (worker, number, [leaves, stays]):
        worker.pieces(number, b"one", b"one")
        await stays.reply.has_parts(1)
        leaves.abandon()
        worker.pieces(number, b"two", b"two")
        await stays.reply.has_parts(2)
        worker.answer(number, [b"three", b"three"])
        assert (await stays.reply.end()).body == b"three"
        assert leaves.reply.parts == [b"one"]


async def test_a_batch_that_everybody_left_before_its_first_piece_is_cancelled_with_it():
    async with streaming(b"a") as (worker, number, [job]):
        job.abandon()
        worker.pieces(number, b"one")
        assert (await worker.frame())[:2] == (Kind.CANCEL, number)


async def test_pieces_that_nobody_waits_for_buy_a_worker_no_time():
    async with streaming(b"a", response_s=0.3) as (worker, number, [job]):
        worker.pieces(number, b"one")
        await job.reply.has_parts(1)
        job.abandon()
        while not worker.ends:
            worker.pieces(number, b"more")
            await asyncio.sleep(0.02)
        assert isinstance(worker.ends[0].fault, DeadlineExceeded)


async def test_a_slow_reader_holds_the_worker_up():
    async with streaming(b"a") as (worker, number, [job]):
        worker.pieces(number, b"first")
        await job.reply.has_parts(1)
        job.hold()
        sent = await _send_until_it_blocks(worker, number)
        assert len(job.reply.parts) == 1
        job.go_on()
        await job.reply.has_parts(1 + sent)


async def test_a_slow_reader_who_leaves_holds_nobody_up():
    async with streaming(b"a", b"b") as (worker, number, [slow, quick]):
        worker.pieces(number, b"one", b"one")
        await quick.reply.has_parts(1)
        slow.hold()
        slow.abandon()
        worker.pieces(number, b"two", b"two")
        assert await quick.reply.has_parts(2) == [b"one", b"two"]


async def test_a_worker_is_not_blamed_for_a_slow_reader():
    async with streaming(b"a", response_s=0.2) as (worker, number, [job]):
        worker.pieces(number, b"one")
        await job.reply.has_parts(1)
        job.hold()
        await asyncio.sleep(0.5)
        assert worker.ends == []
        job.go_on()
        worker.answer(number, [b"two"])
        assert (await job.reply.end()).body == b"two"


async def test_the_next_batch_is_not_held_up_by_the_reader_of_the_last():
    async with streaming(b"a") as (worker, number, [job]):
        worker.pieces(number, b"one")
        await job.reply.has_parts(1)
        frame = protocol.pack_end(number, [RowResult(b"two")])
        worker.send(frame)
        await job.reply.end()
        job.hold()
        following = new_job(b"next")
        worker.lane.queue.submit(following)
        worker.answer(*(await worker.batch()))
        assert (await following.reply.end()).body == b"next"


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(protocol.pack_end(99, [RowResult(b"")], Kind.PART), id="of another batch"),
        pytest.param(protocol.pack_end(1, [], Kind.PART), id="without the rows of its batch"),
        pytest.param(
            protocol.HEADER.pack(MAX_RESPONSE_BYTES * 100, 1, Kind.PART), id="beyond the limit"
        ),
    ],
)
async def test_pieces_that_make_no_sense_end_the_worker(frame):
    async with streaming(b"a") as (worker, _, _):
        worker.send(frame)
        assert "garbage" in str((await worker.ended()).fault)


async def test_whoever_asks_for_one_answer_gets_the_pieces_in_one():
    queue = new_queue(size=1)
    worker = await FakeWorker(queue).start()
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(queue, new_job(b"a").payload, 5))
        number, _ = await worker.batch()
        first = RowResult(b"one ", 201, "Made", (("a", "b"),))
        worker.send(protocol.pack_end(number, [first], Kind.PART))
        worker.answer(number, [b"two"])
        whole = await asked
    assert isinstance(whole, Prediction)
    assert (whole.status, whole.phrase, whole.headers) == (201, "Made", (("a", "b"),))
    assert whole.body == b"one two"
    await worker.close()


async def test_pieces_in_one_have_a_bound(monkeypatch):
    monkeypatch.setattr("flambeau_runtime.serving.job.LONGEST_JOINED", 10)
    queue = new_queue(size=1)
    worker = await FakeWorker(queue).start()
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(_fault_of(ask(queue, new_job(b"a").payload, 5)))
        number, _ = await worker.batch()
        for _ in range(3):
            worker.pieces(number, b"12345")
        assert "longer than 10 bytes" in str(await asked)
    assert (await worker.frame())[:2] == (Kind.CANCEL, number)
    await worker.close()


async def _fault_of(asked):
    try:
        await asked
    except PredictionFailed as fault:
        return fault


async def _send_until_it_blocks(worker, number):
    """Send pieces until the socket takes no more; return how many."""
    sent = 0
    transport = worker.writer.transport
    while transport.get_write_buffer_size() < 512 * 1024:
        worker.pieces(number, bytes(50_000))
        sent += 1
        await asyncio.sleep(0)
        assert sent < 1000
    return sent
