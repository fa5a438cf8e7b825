"""Whatever happens: no job waits for long beside an idle worker, and none is lost.

Time is virtual: where nothing is to be done at once, the loop's clock jumps to the next timer.
"""

import asyncio
import selectors
import types
from unittest.mock import patch

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flambeau_runtime.errors import QueueFull
from flambeau_runtime.serving import batching
from flambeau_runtime.serving.batching import SWEEP_EVERY_S, JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Batching, Source, VersionSpec
from flambeau_runtime.serving.job import Job, Payload, Prediction

MAX_DELAY_S = 0.1
SETTLED_S = SWEEP_EVERY_S + MAX_DELAY_S + 0.05
"""So long after the last event every wait of the queue's own is over."""


class Jump(selectors.SelectSelector):
    """A selector that does not wait: it lets virtual time pass instead."""

    now = 1_000.0

    def select(self, timeout=None):
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.jump = Jump()
        super().__init__(self.jump)

    def time(self):
        return self.jump.now


class Worker:
    def __init__(self):
        self.batch = []
        self.sent_at = 0.0
        self.alive = True


class Caller:
    """A reply that may have the next request at hand, as a connection with pipelined ones has."""

    def __init__(self, world, more):
        self.world = world
        self.more = more
        self.ends = 0

    def answered(self, _job, _prediction):
        self.ended()

    def failed(self, _job, _fault):
        self.ended()

    def ended(self):
        self.ends += 1
        if self.more:
            self.world.submit_one(30.0, self.more - 1)


class QueueAndWorkers(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = VirtualLoop()
        clock = types.SimpleNamespace(monotonic=self.loop.time)
        self.patched = patch.object(batching, "time", clock)
        self.patched.start()
        spec = VersionSpec(
            "m", "1.0", Source("file:///m"), batching=Batching(4, MAX_DELAY_S), queue_size=12
        )
        self.queue = JobQueue(spec, Counters())
        self.workers = []
        self.jobs = []

    def teardown(self):
        self.patched.stop()
        self.loop.close()

    def turn(self, act, seconds=0.0):
        """Do something on the loop, and let so much time pass."""

        async def there():
            act()
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(there())

    def submit_one(self, timeout_s, more=0):
        now = self.loop.time()
        job = Job(Payload("id", b"", b"", ""), Caller(self, more), now, now + timeout_s)
        self.jobs.append(job)
        try:
            self.queue.submit(job)
        except QueueFull as fault:
            job.fail(fault)

    def attached(self):
        return [worker for worker in self.workers if worker.alive]

    def busy(self):
        return [worker for worker in self.attached() if worker.batch]

    @rule(
        asks=st.lists(
            st.tuples(st.sampled_from([0.01, 0.3, 60.0]), st.integers(0, 2)), min_size=1, max_size=6
        )
    )
    def requests_come(self, asks):
        self.turn(lambda: [self.submit_one(*ask) for ask in asks])

    @precondition(lambda self: len(self.attached()) < 3)
    @rule()
    def a_worker_comes(self):
        worker = Worker()

        def take(batch):
            assert not worker.batch, "a busy worker got a second batch"
            assert worker.alive, "a worker that had left got a batch"
            worker.batch, worker.sent_at = batch, self.loop.time()

        worker.take = take
        self.workers.append(worker)
        self.turn(lambda: self.queue.attach(worker))

    @precondition(busy)
    @rule(which=st.integers(0, 2))
    def a_batch_is_answered(self, which):
        worker = self.busy()[which % len(self.busy())]

        def answer():
            jobs, worker.batch = worker.batch, []
            now = self.loop.time()
            self.queue.finished(worker, len(jobs), now - worker.sent_at, now)
            for job in jobs:
                job.resolve(Prediction())

        self.turn(answer)

    @precondition(attached)
    @rule(which=st.integers(0, 2), one_by_one=st.booleans())
    def a_worker_dies(self, which, one_by_one):
        worker = self.attached()[which % len(self.attached())]

        def die():
            worker.alive = False
            self.queue.detach(worker)
            live = [job for job in worker.batch if not job.ended]
            self.queue.outstanding -= len(worker.batch) - len(live)
            worker.batch = []
            if live:
                self.queue.again([[job] for job in live] if one_by_one else [live])

        self.turn(die)

    @rule(which=st.integers(0, 20))
    def a_caller_leaves(self, which):
        live = [job for job in self.jobs if not job.ended]
        if live:
            self.turn(live[which % len(live)].abandon)

    @rule(size=st.integers(1, 4), delay_s=st.sampled_from([0.0, MAX_DELAY_S]))
    def batching_is_edited(self, size, delay_s):
        before = self.queue.spec
        self.turn(
            lambda: self.queue.apply(
                VersionSpec("m", "1.0", before.source, batching=Batching(size, delay_s),
                            queue_size=before.queue_size)
            )
        )  # fmt: skip

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.2, 2.0]))
    def time_passes(self, seconds):
        self.turn(lambda: None, seconds)

    @rule()
    def all_is_quiet_for_a_while(self):
        self.turn(lambda: None, SETTLED_S)
        waiting = [job for job in self.unheld() if not job.ended]
        now = self.loop.time()
        assert not [job for job in waiting if job.deadline < now - SWEEP_EVERY_S], "late, not told"
        if any(not worker.batch for worker in self.attached()):
            assert not waiting, f"{len(waiting)} jobs wait beside an idle worker"

    def unheld(self):
        """Return the jobs that no worker has."""
        held = {id(job) for worker in self.workers for job in worker.batch}
        return [job for job in self.jobs if id(job) not in held]

    @invariant()
    def every_job_is_somewhere(self):
        waiting = [*self.queue._waiting, *(job for batch in self.queue._again for job in batch)]
        places = {id(job) for job in waiting}
        lost = [job for job in self.unheld() if not job.ended and id(job) not in places]
        assert not lost, f"{len(lost)} jobs are nowhere"
        held = sum(len(worker.batch) for worker in self.workers)
        assert self.queue.outstanding == len(waiting) + held

    @invariant()
    def every_job_ends_at_most_once(self):
        assert all(job.reply.ends <= 1 for job in self.jobs)


class TestQueueAndWorkers(QueueAndWorkers.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40)
