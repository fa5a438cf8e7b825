import asyncio
import time

import pytest

from flambeau_runtime.errors import DeadlineExceeded, QueueFull, WorkerLost
from flambeau_runtime.serving.batching import BatchPolicy, JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Batching, Source, VersionSpec
from tests.dataplane.fake_worker import new_job


class Worker:
    """A lane that keeps what it takes."""

    def __init__(self):
        self.batches = []
        self.took = asyncio.Event()

    def take(self, batch):
        self.batches.append(batch)
        self.took.set()


def queue(size=8, max_delay_s=0.1, room=100):
    batching = Batching(size, max_delay_s)
    spec = VersionSpec("m", "1.0", Source("file:///m"), batching=batching, queue_size=room)
    return JobQueue(spec, Counters())


def submit(to, count, **how):
    jobs = [new_job(**how) for _ in range(count)]
    for one in jobs:
        to.submit(one)
    return jobs


@pytest.mark.parametrize(
    ("size", "outstanding", "workers", "target"),
    [
        pytest.param(8, 0, 1, 1, id="nothing seen yet: whoever comes first goes at once"),
        pytest.param(8, 1, 1, 1, id="a lone caller never waits"),
        pytest.param(8, 5, 1, 5, id="five callers are worth a batch of five"),
        pytest.param(8, 50, 1, 8, id="never more than the batch size"),
        pytest.param(16, 16, 2, 8, id="two workers share sixteen callers evenly"),
        pytest.param(16, 17, 2, 9, id="shares are rounded up"),
        pytest.param(8, 5, 0, 5, id="no worker counts as one"),
    ],
)
def test_target(size, outstanding, workers, target):
    policy = BatchPolicy(size, 0.1)
    policy.saw(outstanding)
    assert policy.target(workers) == target


@pytest.mark.parametrize(
    ("batch_s", "max_delay_s", "patience_s"),
    [
        pytest.param(0.0, 0.1, 0.0, id="before the first batch nobody waits"),
        pytest.param(0.001, 0.1, 0.0, id="a wait below 0.3 ms is not worth it"),
        pytest.param(0.1, 0.1, 0.015, id="15 % of a batch time"),
        pytest.param(2.0, 0.1, 0.1, id="never beyond the model's own delay"),
        pytest.param(2.0, 0.0, 0.0, id="a model without delay never waits"),
    ],
)
def test_patience(batch_s, max_delay_s, patience_s):
    policy = BatchPolicy(8, max_delay_s)
    if batch_s:
        policy.finished(batch_s, 0, 1.0)
    assert policy.patience_s() == pytest.approx(patience_s)


def test_waits_that_do_not_pay_are_left_out_for_1_3_7_15_31_and_then_32_batches():
    policy = BatchPolicy(8, 0.1)
    policy.finished(0.1, 0, 1.0)
    left_out = []
    for _ in range(7):
        policy.waited(1, 8)
        count = 0
        while not policy.patience_s():
            policy.went()
            count += 1
        left_out.append(count)
    assert left_out == [1, 3, 7, 15, 31, 32, 32]


def test_a_wait_that_pays_is_forgiven_at_once():
    policy = BatchPolicy(10, 0.1)
    policy.finished(0.1, 0, 1.0)
    policy.waited(1, 10)
    policy.went()
    policy.waited(9, 10)
    assert policy.patience_s() > 0


def test_a_crowd_is_forgotten_after_two_batch_times():
    policy = BatchPolicy(32, 0.1)
    policy.saw(32)
    policy.finished(0.01, 1, 1.00)
    assert policy.target(1) == 1  # nothing known before: the first window counts as a pause
    policy.saw(32)
    policy.finished(0.01, 1, 1.011)
    assert policy.target(1) == 32
    policy.finished(0.01, 1, 1.022)
    assert policy.target(1) == 1


def test_a_round_that_takes_many_batch_times_is_no_pause():
    policy = BatchPolicy(32, 0.1)
    policy.finished(0.0002, 0, 1.0)
    policy.saw(32)
    policy.finished(0.0002, 0, 1.01)
    assert policy.target(1) == 32


async def test_a_lone_job_goes_to_an_idle_worker_at_once():
    jobs, worker = queue(), Worker()
    jobs.attach(worker)
    [only] = submit(jobs, 1)
    assert worker.batches == [[only]]


async def test_jobs_that_arrive_in_one_turn_go_together():
    jobs, worker = queue(), Worker()
    jobs.attach(worker)
    submit(jobs, 1)
    jobs.finished(worker, 0, 0.0001, time.monotonic())  # busy again: the next three wait
    jobs.detach(worker)
    submit(jobs, 3)
    jobs.attach(worker)
    await asyncio.sleep(0)
    assert [len(batch) for batch in worker.batches] == [1, 3]


async def test_a_batch_is_never_larger_than_the_model_allows():
    jobs, worker = queue(size=4), Worker()
    submit(jobs, 10)
    jobs.attach(worker)
    assert [len(batch) for batch in worker.batches] == [4]


async def test_the_idle_worker_waits_a_little_for_a_better_batch():
    jobs, worker = queue(size=8), Worker()
    jobs.policy.finished(0.2, 0, time.monotonic())
    jobs.policy.saw(8)
    jobs.attach(worker)
    submit(jobs, 2)
    await asyncio.sleep(0)
    assert worker.batches == []
    submit(jobs, 6)
    assert [len(batch) for batch in worker.batches] == [8]


async def test_a_wait_ends_by_itself():
    jobs, worker = queue(size=8), Worker()
    jobs.policy.finished(0.05, 0, time.monotonic())
    jobs.policy.saw(8)
    jobs.attach(worker)
    submit(jobs, 2)
    async with asyncio.timeout(5):
        await worker.took.wait()
    assert len(worker.batches[0]) == 2


async def test_a_full_queue_refuses_and_names_its_size():
    jobs = queue(room=3)
    submit(jobs, 3)
    with pytest.raises(QueueFull, match="3 jobs"):
        submit(jobs, 1)


async def test_jobs_whose_callers_left_make_room():
    jobs = queue(room=3)
    gone, *_ = submit(jobs, 3)
    gone.abandon()
    submit(jobs, 1)
    assert len(jobs) == 3


async def test_abandoned_and_expired_jobs_fall_out_when_a_batch_is_formed():
    jobs, worker = queue(), Worker()
    [gone] = submit(jobs, 1)
    [late] = submit(jobs, 1, timeout_s=-1.0)
    [live] = submit(jobs, 1)
    gone.abandon()
    jobs.attach(worker)
    await asyncio.sleep(0)
    assert worker.batches == [[live]]
    assert isinstance(late.reply.ends[0], DeadlineExceeded)
    assert gone.reply.ends == []
    assert jobs.outstanding == 1


async def test_a_deadline_passes_even_where_no_worker_is():
    jobs = queue()
    [late] = submit(jobs, 1, timeout_s=0.01)
    assert isinstance(await late.reply.end(), DeadlineExceeded)
    assert (len(jobs), jobs.outstanding) == (0, 0)
    assert (jobs.counters.requests, jobs.counters.errors) == (1, 0)  # no worker had it


async def test_a_deadline_passes_while_a_batch_waits_for_a_worker_in_place_of_the_dead_one():
    jobs, worker = queue(), Worker()
    jobs.attach(worker)
    [late] = submit(jobs, 1, timeout_s=0.01)
    await worker.took.wait()
    jobs.detach(worker)
    jobs.again(worker.batches)
    assert isinstance(await late.reply.end(), DeadlineExceeded)
    assert (len(jobs), jobs.outstanding) == (0, 0)


async def test_who_asks_again_when_told_to_be_late_takes_no_ones_place():
    jobs, worker = queue(), Worker()
    [live] = submit(jobs, 1)
    [late] = submit(jobs, 1, timeout_s=-1.0)
    next_one = new_job()
    late.reply.failed = lambda *_: jobs.submit(next_one)
    jobs.attach(worker)
    await asyncio.sleep(0)
    assert worker.batches == [[live]]
    assert (len(jobs), jobs.outstanding) == (1, 2)


async def test_a_batch_whose_worker_died_goes_first_and_as_it_was():
    jobs, worker = queue(), Worker()
    submit(jobs, 2)
    tried = [new_job(), new_job(), new_job()]
    jobs.outstanding += 3
    jobs.again([tried])
    jobs.attach(worker)
    assert worker.batches == [tried]


async def test_a_live_change_of_the_batch_size_holds_for_the_next_batch():
    jobs, worker = queue(size=1), Worker()
    submit(jobs, 6)
    spec = jobs.spec
    jobs.apply(VersionSpec("m", "1.0", spec.source, batching=Batching(4, 0.1)))
    jobs.attach(worker)
    assert [len(batch) for batch in worker.batches] == [4]


async def test_everything_that_waits_can_be_told_that_no_worker_will_come():
    jobs = queue()
    waiting = submit(jobs, 3)
    jobs.fail_all(WorkerLost("Worker died."))
    assert all(isinstance(one.reply.ends[0], WorkerLost) for one in waiting)
    assert (len(jobs), jobs.outstanding) == (0, 0)
