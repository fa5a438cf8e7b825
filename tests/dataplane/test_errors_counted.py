"""Which ends of a request count as errors of a version: those that its workers cause."""

import asyncio

import pytest

from flambeau_runtime import protocol
from flambeau_runtime.errors import ModelNotReady, WorkerLost
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.modes import SequenceLimits
from flambeau_runtime.serving.sequences import SequenceQueue
from flambeau_runtime.worker.context import RowResult
from tests.dataplane.fake_worker import new_job, new_queue
from tests.dataplane.test_lane import submit, workers


def seen(queue):
    return queue.counters.requests, queue.counters.errors


@pytest.mark.parametrize(
    ("row", "errors"),
    [
        pytest.param(RowResult(b"", 200), 0, id="an answer"),
        pytest.param(RowResult(b"", 404), 0, id="a handler that finds nothing"),
        pytest.param(RowResult(b"", 500), 1, id="a handler that says it failed"),
        pytest.param(RowResult(b"", 503), 1, id="a handler that is not well"),
        pytest.param(RowResult(b"{}", protocol.ROW_FAULT), 1, id="a row that raised"),
        pytest.param(
            RowResult(b'{"reason":"HandlerRefused","message":"","status":422}', protocol.ROW_FAULT),
            0,
            id="a row that was refused as a bad request",
        ),
        pytest.param(
            RowResult(b'{"reason":"HandlerRefused","message":"","status":507}', protocol.ROW_FAULT),
            1,
            id="a row that was refused for the server's sake",
        ),
    ],
)
async def test_of_answers_only_those_that_the_handler_failed(row, errors):
    queue = new_queue()
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.send(protocol.pack_end(number, [row]))
        await job.reply.end()
    assert seen(queue) == (1, errors)


async def test_a_batch_that_is_refused_as_a_bad_request_is_no_error():
    queue = new_queue()
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.fault(number, reason="HandlerRefused", message="no cats", status=422)
        await job.reply.end()
    assert seen(queue) == (1, 0)


async def test_a_deadline_that_passes_in_the_queue_is_no_error():
    queue = new_queue(size=1)
    first, late = submit(queue, b"a"), submit(queue, b"b", timeout_s=0.05)
    async with workers(queue) as [worker]:
        batch = await worker.batch()
        await late[0].reply.end()
        worker.answer(*batch)
        await first[0].reply.end()
    assert seen(queue) == (2, 0)


async def test_a_deadline_that_passes_while_a_worker_has_the_request_is_one():
    queue = new_queue()
    [late] = submit(queue, b"a", timeout_s=0.05)
    async with workers(queue) as [worker]:
        batch = await worker.batch()
        await late.reply.end()
        worker.answer(*batch)
    assert seen(queue) == (1, 1)


async def test_a_client_who_leaves_counts_for_nothing():
    queue = new_queue()
    [gone] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        batch = await worker.batch()
        gone.abandon()
        worker.answer(*batch)
        [stays] = submit(queue, b"b")
        worker.answer(*await worker.batch())
        await stays.reply.end()
    assert seen(queue) == (1, 0)


async def test_a_stream_that_breaks_because_its_worker_is_stopped_is_no_error():
    queue = new_queue()
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.send(protocol.pack_end(number, [RowResult(b"part")], protocol.Kind.PART))
        await job.reply.has_parts(1)
        worker.lane.close()
        assert isinstance(await job.reply.end(), WorkerLost)
    assert (seen(queue), queue.outstanding) == ((0, 0), 0)


async def test_a_stream_that_breaks_because_its_worker_died_is_one():
    queue = new_queue()
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        number, _ = await worker.batch()
        worker.send(protocol.pack_end(number, [RowResult(b"part")], protocol.Kind.PART))
        await job.reply.has_parts(1)
        await worker.die()
        assert isinstance(await job.reply.end(), WorkerLost)
    assert seen(queue) == (1, 1)


async def test_a_death_is_blamed_also_where_no_other_worker_comes():
    queue = new_queue()
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        await worker.batch()
        await worker.die()
        await worker.ended()
    [waits] = submit(queue, b"b")
    queue.fail_all(ModelNotReady("m", "1.0", "has no worker"))
    await asyncio.gather(job.reply.end(), waits.reply.end())
    assert seen(queue) == (1, 1)


async def test_a_worker_that_is_killed_with_its_version_is_not_to_blame():
    queue = new_queue()
    submit(queue, b"a")
    queue.leaving = True
    async with workers(queue) as [worker]:
        await worker.batch()
        await worker.die()
        await worker.ended()
    queue.fail_all(ModelNotReady("m", "1.0", "is being unloaded."))
    assert seen(queue) == (0, 0)


async def test_a_sequence_whose_worker_dies_is_an_error():
    limits = SequenceLimits(max_idle_s=60, max_count=9, queue_size=9)
    queue = SequenceQueue(new_queue().spec, Counters(), limits)
    [job] = submit(queue, b"a")
    async with workers(queue) as [worker]:
        await worker.batch()
        await worker.die()
        assert isinstance(await job.reply.end(), WorkerLost)
    assert seen(queue) == (1, 1)


async def test_a_full_queue_is_no_request_that_was_answered():
    queue = new_queue(size=1)
    job = new_job()
    for _ in range(queue.spec.queue_size):
        queue.submit(new_job())
    with pytest.raises(Exception, match="full job queue"):
        queue.submit(job)
    assert seen(queue) == (0, 0)
