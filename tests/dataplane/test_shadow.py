"""Copies for a version that only listens: bounded, counted apart, and never in the way."""

import asyncio
import gc
import os
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from flambeau_runtime import protocol
from flambeau_runtime.errors import ModelNotReady, QueueFull
from flambeau_runtime.serving import shadow as subject
from flambeau_runtime.serving.arena import BIG_BODY_BYTES
from flambeau_runtime.serving.desired import Shadow, Tolerance
from flambeau_runtime.serving.job import Prediction
from flambeau_runtime.serving.observed import WorkerCounts
from flambeau_runtime.serving.shadow import Mirror, Shadowed
from flambeau_runtime.worker.context import RowResult
from tests.dataplane.fake_worker import FakeWorker, new_job, new_queue

FAULT = {"reason": "PredictionFailed", "message": "Prediction failed. KeyError: 'x'"}


class Version:
    """A version with a queue of its own and a worker that the test plays."""

    def __init__(self, size=8, response_s=60.0, ready=1):
        self.queue = new_queue(size, response_s)
        self.spec = self.queue.spec
        self.counters = self.queue.counters
        self.ready = ready
        self.refuses = None

    def counts(self):
        return WorkerCounts(1, self.ready)

    def submit(self, job):
        if self.refuses is not None:
            raise self.refuses
        self.queue.submit(job)


class Pair:
    """A default version with a shadow, one worker each."""

    def __init__(self, real, copy, percent=100, tolerances=()):
        self.real, self.copy = real, copy
        self.mirror = Mirror()
        self.mirror.aim(copy, Shadow("2.0", percent, tolerances))
        self.shadowed = Shadowed(real, self.mirror)

    @property
    def counts(self):
        return self.copy.counters.copies

    def ask(self, body=b"1", **how):
        job = new_job(body, **how)
        reply = job.reply
        self.shadowed.submit(job)
        return job, reply

    async def answer(self, body=b"1", said=None):
        """Ask, have the real worker answer, and return what the caller got."""
        _, reply = self.ask(body)
        number, bodies = await self.worker.batch()
        self.worker.answer(number, bodies if said is None else [said])
        return await reply.end()

    async def until(self, claim):
        async with asyncio.timeout(5):
            while not claim():  # noqa: ASYNC110  counters have no event
                await asyncio.sleep(0.001)


@asynccontextmanager
async def pair(real=None, copy=None, **how):
    made = Pair(real or Version(), copy or Version(), **how)
    made.worker = await FakeWorker(made.real.queue).start()
    made.listener = await FakeWorker(made.copy.queue).start()
    try:
        yield made
    finally:
        await made.worker.close()
        await made.listener.close()


async def test_an_answered_request_is_copied_and_the_answers_are_compared():
    async with pair() as both:
        assert (await both.answer(b"5")).body == b"5"
        number, bodies = await both.listener.batch()
        assert bodies == [b"5"]
        both.listener.answer(number, [b"5.0"])
        await both.until(lambda: both.counts.compared == 1)
        assert (both.counts.answered, both.counts.errors, both.counts.different) == (1, 0, 0)
        assert both.counts.latency.count == 1


async def test_a_difference_is_counted_and_the_first_is_kept_in_words():
    async with pair() as both:
        for said in (b'{"a": 2}', b'{"a": 3}'):
            await both.answer(b'{"a": 1}')
            both.listener.answer((await both.listener.batch())[0], [said])
        await both.until(lambda: both.counts.compared == 2)
        assert (both.counts.different, both.counts.difference) == (2, "$.a: 2, not 1")


async def test_answers_within_the_tolerance_are_the_same():
    async with pair(tolerances=(Tolerance("$.a", absolute=0.5),)) as both:
        await both.answer(b'{"a": 1}')
        both.listener.answer((await both.listener.batch())[0], [b'{"a": 1.4}'])
        await both.until(lambda: both.counts.compared == 1)
        assert both.counts.different == 0


async def test_a_copy_carries_everything_that_the_request_did():
    async with pair() as both:
        job, _reply = both.ask(b"x")
        job.payload.headers = b"A: b\r\n"
        job.payload.url_path, job.payload.content_type = "a/b", "text/plain"
        both.worker.answer(*await both.worker.batch())
        _, [row] = await both.listener.rows()
        assert (row.request_id, row.headers, row.url_path) == ("id", b"A: b\r\n", "a/b")
        assert (row.content_type, bytes(row.body)) == ("text/plain", b"x")


async def test_no_copy_goes_before_the_real_answer_has_left():
    async with pair() as both:
        _job, reply = both.ask()
        number, bodies = await both.worker.batch()
        assert len(both.copy.queue) == 0
        both.worker.answer(number, bodies)
        await reply.end()
        assert (await both.listener.batch())[1] == [b"1"]


@pytest.mark.parametrize("percent", [1, 10, 50])
async def test_a_share_of_the_requests_is_copied(percent):
    both = Pair(Version(), Version(), percent)
    copied = 0
    for _ in range(1_000):
        job = new_job()
        reply = job.reply
        both.real.queue.spec = replace(both.real.queue.spec, queue_size=2_000)
        both.shadowed.submit(job)
        copied += job.reply is not reply
    assert copied == pytest.approx(10 * percent, abs=2)
    both.real.queue.fail_all(ModelNotReady("m", "1.0", "over"))


# nothing of it is seen elsewhere


async def test_copies_are_in_no_other_count():
    async with pair() as both:
        for wrong in (False, True):
            await both.answer()
            number, bodies = await both.listener.batch()
            if wrong:
                both.listener.fault(number, **FAULT)
            else:
                both.listener.answer(number, bodies)
        await both.until(lambda: both.counts.errors == 1)
        assert both.counts.answered == 2
        silent = both.copy.counters
        assert (silent.requests, silent.errors, silent.latency.count) == (0, 0, 0)
        assert (silent.queue.count, silent.named.requests, silent.unnamed.requests) == (0, 0, 0)
        assert (both.real.counters.requests, both.real.counters.errors) == (2, 0)


# whatever the shadow does


async def test_a_shadow_that_raises_or_answers_5xx_is_an_error_and_no_difference():
    async with pair() as both:
        await both.answer()
        both.listener.fault((await both.listener.batch())[0], **FAULT)
        await both.answer()
        number, _ = await both.listener.batch()
        both.listener.send(protocol.pack_end(number, [RowResult(b"1", 500)]))
        await both.until(lambda: both.counts.errors == 2)
        assert (both.counts.answered, both.counts.compared) == (2, 0)
        assert both.mirror._answers == 0


async def test_a_shadow_that_dies_twice_is_an_error_of_its_own():
    async with pair(copy=Version()) as both:
        assert (await both.answer()).body == b"1"
        await both.listener.batch()
        await both.listener.die()
        await both.listener.ended()
        second = await FakeWorker(both.copy.queue).start()
        await second.batch()
        await second.die()
        await both.until(lambda: both.counts.errors == 1)
        await second.close()
        assert (await both.answer()).body == b"1"
        assert both.real.counters.errors == 0


async def test_a_shadow_that_hangs_costs_nothing_but_its_copies():
    copy = Version(size=2, response_s=0.2)
    async with pair(copy=copy) as both:
        for number in range(50):
            assert (await both.answer(b"%d" % number)).body == b"%d" % number
        # One batch is with the worker, one waits, all others have found no room.
        await both.until(lambda: both.counts.dropped >= 50 - 4)
        assert len(copy.queue) <= 2
        await both.until(lambda: both.counts.errors > 0)
        assert both.real.counters.errors == 0


async def test_at_most_one_full_batch_per_ready_worker_waits():
    both = Pair(Version(), Version(size=4, ready=2))  # whose workers take nothing
    both.worker = await FakeWorker(both.real.queue).start()
    for _ in range(20):
        await both.answer()
    await both.until(lambda: both.counts.dropped == 12)
    assert len(both.copy.queue) == 8
    both.copy.queue.fail_all(ModelNotReady("m", "2.0", "over"))
    assert (both.counts.dropped, both.counts.errors) == (20, 0)
    assert (both.mirror._answers, both.mirror._bytes) == (0, 0)
    await both.worker.close()


@pytest.mark.parametrize("refusal", [QueueFull("m", "2.0", 1), ModelNotReady("m", "2.0", "no")])
async def test_a_shadow_that_refuses_drops(refusal):
    async with pair() as both:
        both.copy.refuses = refusal
        assert (await both.answer()).body == b"1"
        await both.until(lambda: both.counts.dropped == 1)
        assert (both.mirror._answers, both.mirror._bytes) == (0, 0)


async def test_a_shadow_that_answers_in_pieces_differs():
    async with pair() as both:
        await both.answer()
        number, _ = await both.listener.batch()
        both.listener.pieces(number, b"a")
        await both.until(lambda: both.counts.different == 1)
        assert both.counts.difference == "an answer in pieces, not as one"
        both.listener.answer(number, [b"b"])
        assert (await both.answer()).body == b"1"
        assert (both.counts.answered, both.mirror._answers) == (1, 0)


# what is not copied


async def test_a_stream_is_not_copied():
    async with pair() as both:
        _job, reply = both.ask()
        number, _ = await both.worker.batch()
        both.worker.pieces(number, b"a")
        both.worker.answer(number, [b"b"])
        assert (await reply.end()).body == b"b"
        assert reply.parts == [b"a"]
        await both.answer(b"2")
        assert (await both.listener.batch())[1] == [b"2"]


async def test_a_request_that_the_real_one_failed_is_not_copied():
    async with pair() as both:
        _job, reply = both.ask()
        both.worker.fault((await both.worker.batch())[0], **FAULT)
        await reply.end()
        await both.answer(b"2")
        assert (await both.listener.batch())[1] == [b"2"]


async def test_a_request_whose_client_left_is_not_copied():
    async with pair() as both:
        job, _reply = both.ask()
        number, bodies = await both.worker.batch()
        job.abandon()
        both.worker.answer(number, bodies)
        await both.answer(b"2")
        assert (await both.listener.batch())[1] == [b"2"]


async def test_a_refused_request_is_refused_as_ever():
    both = Pair(Version(), Version())
    both.real.refuses = QueueFull("m", "1.0", 1)
    with pytest.raises(QueueFull):
        both.ask()


async def test_a_body_beyond_the_limit_is_dropped(monkeypatch):
    monkeypatch.setattr(subject, "LARGEST_BODY_BYTES", 10)
    async with pair() as both:
        await both.answer(bytes(11))
        await both.until(lambda: both.counts.dropped == 1)
        await both.answer(bytes(10))
        assert (await both.listener.batch())[1] == [bytes(10)]


async def test_all_bodies_together_have_a_limit(monkeypatch):
    monkeypatch.setattr(subject, "MOST_BODY_BYTES", 10)
    async with pair() as both:
        await both.answer(bytes(8))
        await both.answer(bytes(8))
        await both.until(lambda: both.counts.dropped == 1)
        both.listener.answer(*await both.listener.batch())
        await both.until(lambda: both.counts.compared == 1)
        await both.answer(bytes(8))
        assert (await both.listener.batch())[1] == [bytes(8)]


@pytest.mark.parametrize(("limit", "value"), [("MOST_ANSWERS", 0), ("LARGEST_ANSWER_BYTES", 0)])
async def test_what_cannot_be_kept_is_copied_and_not_compared(monkeypatch, limit, value):
    monkeypatch.setattr(subject, limit, value)
    async with pair() as both:
        await both.answer()
        both.listener.answer((await both.listener.batch())[0], [b"2"])
        await both.until(lambda: both.counts.answered == 1)
        assert (both.mirror._answers, len(both.mirror._open)) == (0, 0)
        assert both.counts.compared == 0


async def test_a_long_comparison_lets_others_in_between():
    async with pair() as both:
        long = b"[" + b"1," * 5_000 + b"1]"
        await both.answer(b"x", long)
        both.listener.answer((await both.listener.batch())[0], [b"[" + b"1.0," * 5_000 + b"1]"])
        await both.until(lambda: both.counts.answered == 1)
        assert both.counts.compared == 0
        assert (await both.answer(b"y", long)).body == long
        await both.until(lambda: both.counts.compared == 1)
        assert both.counts.different == 0


async def test_copies_go_together_and_those_beyond_a_bound_not_at_all(monkeypatch):
    monkeypatch.setattr(subject, "MOST_SEEN", 6)
    async with pair(copy=Version(size=16)) as both:
        asked = [new_job(b"%d" % number) for number in range(8)]
        for job in asked:
            both.mirror.saw(job.payload, Prediction(body=b"1"))
        taken = []
        while len(taken) < 6:
            number, bodies = await both.listener.batch()
            both.listener.answer(number, bodies)
            taken += bodies
        assert taken == [b"%d" % number for number in range(6)]
        assert both.counts.dropped == 2


# bodies in shared memory


def region_job(queue, body):
    region = queue.arena.take(len(body))
    region.view[:] = body
    job = new_job(region.view)
    job.payload.region = region
    return job


async def test_a_body_in_shared_memory_is_copied_to_the_shadows_own():
    body = os.urandom(BIG_BODY_BYTES)
    async with pair() as both:
        job = region_job(both.real.queue, body)
        reply = job.reply
        both.shadowed.submit(job)
        number, _ = await both.worker.rows()
        both.worker.answer(number, [b"1"])
        await reply.end()
        number, [row] = await both.listener.rows()
        there = both.copy.queue.arena.view[row.offset : row.offset + row.size]
        assert bytes(there) == body
        free = both.copy.queue.arena.free_bytes
        both.listener.answer(number, [b"1"])
        del job, there
        await both.until(lambda: both.counts.compared == 1)
        gc.collect()
        assert both.copy.queue.arena.free_bytes > free
        assert both.real.queue.arena.free_bytes == both.copy.queue.arena.free_bytes


async def test_without_room_there_it_goes_through_the_socket():
    body = os.urandom(BIG_BODY_BYTES)
    async with pair() as both:
        taken = both.copy.queue.arena.take(both.copy.queue.arena.free_bytes)
        job = region_job(both.real.queue, body)
        reply = job.reply
        both.shadowed.submit(job)
        number, _ = await both.worker.rows()
        both.worker.answer(number, [b"1"])
        await reply.end()
        assert (await both.listener.batch())[1] == [body]
        del taken


def test_a_kept_answer_does_not_keep_its_frame():
    frame = bytes(1_000_000)
    kept = Mirror()._keep(Prediction(body=memoryview(frame)[:3]))
    assert kept.body == b"\x00\x00\x00"
    assert isinstance(kept.body, bytes)
