"""One version of one model while it lives: its queue, its workers, and what is known about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from flambeau_runtime.archive.package import Package
from flambeau_runtime.errors import NO_WORKER, LoadFailed, ModelNotReady, NoWorker
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.job import Job
from flambeau_runtime.serving.memory import resident_bytes
from flambeau_runtime.serving.modes import USUAL_HEADERS, SequenceHeaders, read_mode
from flambeau_runtime.serving.observed import Failure, WorkerCounts, WorkerFacts
from flambeau_runtime.serving.queues import make_queue
from flambeau_runtime.serving.staffing import LEAVING, PlaceFacts, staff
from flambeau_runtime.serving.swap import Allotment, Crew
from flambeau_runtime.serving.worker_place import WorkerPlace
from flambeau_runtime.serving.worker_state import WorkerState

POLL_S = 0.02
GETTING_READY = frozenset({WorkerState.STARTING, WorkerState.LOADING, WorkerState.BACKING_OFF})
"""A worker that backs off after a death will be started: it counts as starting."""

OUTGROWN_KNOWN_S = 300.0
"""How long it is told that a worker held too much memory."""

UNLOADING = "is being unloaded."


class LiveVersion:
    """A version with workers; made by `Supervisor.add`, ended by `Supervisor.remove`.

    Everything but `until_ready` and `drain` is immediate; all of it belongs to the loop's thread.
    """

    def __init__(
        self,
        spec: VersionSpec,
        package: Package,
        employ: Callable[[LiveVersion], WorkerPlace],
        changed: Callable[[], None],
        counters: Counters | None = None,
        sequence_headers: SequenceHeaders = USUAL_HEADERS,
    ) -> None:
        self.spec = spec
        self.package = package
        self.mode = read_mode(package.config)
        self.counters = counters or Counters()
        self.queue = make_queue(spec, self.counters, self.mode, sequence_headers)
        self.places: list[WorkerPlace] = []
        self.listens_only = False  # its handlers' own numbers are told to nobody
        self.warm = False  # its warm-up is over: said by the converger
        self.allot: Callable[[LiveVersion], Allotment] | None = None  # what others leave it
        self.scales = False  # it may have up to workers.max of them when requests wait
        self.tight = False  # there is no memory for one worker more
        self._employ = employ
        self._changed = changed
        self._closing = False
        self._scaled = 0
        self._outgrown: Failure | None = None  # the last worker that held too much memory
        self._outgrown_at = 0.0
        self._served = False
        self._past_restarts = 0
        self._past_busy_s = 0.0
        self._refusal: str | None = NO_WORKER
        self._look_due: asyncio.Handle | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def submit(self, job: Job) -> None:
        """Queue one job; it is answered through its reply.

        Raises:
            QueueFull: the queue has no room.
            ModelNotReady: no worker is wanted, the version failed for good, or it is being drained;
                NoTicket and SequenceRefused when the model limits what it takes.
        """
        if self._refusal is not None:
            raise self._not_ready()
        if self.mode.client_timeout_s is not None:
            job.deadline = min(job.deadline, job.queued_at + self.mode.client_timeout_s)
        self.queue.submit(job)

    def listen(self, *, only: bool) -> None:
        """Only listen, as a shadow, or answer; who only listens lets others have the CPU first."""
        self.listens_only = only
        for place in self.places:
            place.give_way(yes=only)

    # wishes

    def resize(self, workers: int) -> None:
        """Want that many workers; the newest are drained first."""
        self.apply(replace(self.spec, workers=workers))

    def apply(self, spec: VersionSpec) -> None:
        """Take the wish over without a pause; a changed env replaces the workers one by one."""
        self.spec = spec
        self.queue.apply(spec)
        self._look()

    def scale(self, workers: int) -> None:
        """Want more workers than the least, for as long as the spec allows them."""
        self._scaled = workers
        self._look()

    @property
    def wanted(self) -> int:
        """How many workers are wanted now: the least, or more for the load there is."""
        least = self.spec.workers
        return least if least == 0 else min(max(least, self._scaled), self.most)

    @property
    def most(self) -> int:
        """How many workers may ever be wanted of this spec."""
        most = self.spec.max_workers if self.scales else None
        return max(self.spec.workers, most or 0)

    @property
    def possible(self) -> int:
        """How many workers could serve here.

        Where the load may bring more of them, another pod is needed only when those are busy, too;
        but not those that there is no memory for.
        """
        ready = self.counts().ready
        return max(ready, self.most) if self.scales and not self.tight else ready

    def outgrew(self, place: WorkerPlace, failure: Failure, *, at_once: bool) -> None:
        """Have a fresh worker in the place of one that holds too much memory.

        It ends its batch, unless it has to go at once; then that is a death like any other.
        """
        self._outgrown, self._outgrown_at = failure, asyncio.get_running_loop().time()
        if at_once or place.state is not WorkerState.READY:
            place.kill(failure)
        else:
            place.outgrown = failure
        self._look()

    def retry(self) -> None:
        """Start workers that failed for good once more, with a fresh crash budget."""
        for place in self.places:
            place.retry()
        self._look()

    def forgive(self) -> None:
        """Forget the deaths so far: they turned out to be a row's fault."""
        for place in self.places:
            place.budget.reset()

    async def drain(self, timeout_s: float) -> None:
        """Take no new job, answer the queued ones, then stop the workers; kill what is left."""
        self._closing = True
        self.resize(0)
        try:
            async with asyncio.timeout(timeout_s):
                while self.places:
                    await self._next_change()
        except TimeoutError:
            self.abandon()
            while self.places:
                await self._next_change()

    def abandon(self) -> None:
        """End everything now: jobs are refused, workers killed; `drain` sees the last one go."""
        self._closing = self.queue.leaving = True
        self.spec = replace(self.spec, workers=0)
        self._abandon_jobs()
        for place in self.places:
            place.drain()
            place.kill()

    # facts

    def workers(self) -> tuple[WorkerFacts, ...]:
        """Every worker that is wanted or still draining, oldest first."""
        return tuple(place.facts(resident_bytes(place.pid)) for place in self.places)

    def counts(self) -> WorkerCounts:
        """Workers by what they can do now."""
        states = [place.state for place in self.places]
        return WorkerCounts(
            wanted=self.wanted,
            ready=states.count(WorkerState.READY),
            starting=sum(state in GETTING_READY for state in states),
            failed=states.count(WorkerState.FAILED),
            restarts=self._past_restarts + sum(place.restarts for place in self.places),
        )

    def crew(self) -> Crew:
        """Its workers as the other versions of the model have to reckon with them."""
        staying = [place for place in self.places if place.state not in LEAVING]
        ready = sum(place.state is WorkerState.READY for place in staying)
        return Crew(self.wanted, len(self.places), len(staying), ready, self._closing)

    def failure(self) -> Failure | None:
        """Why the version does not serve; None while it serves or has not failed yet.

        A worker that holds too much memory before the version is warm is a load that failed.
        """
        if not self.warm and self._outgrown is not None:
            return self._outgrown
        return None if self.counts().ready else self._loss()

    def last_failure(self) -> Failure | None:
        """Why a worker is missing, also while others serve; None once it is back.

        That a worker held too much memory stays known for a while: its successor is there at once.
        """
        if (loss := self._loss()) is not None:
            return loss
        known = self._outgrown is not None and (
            not self.warm
            or asyncio.get_running_loop().time() < self._outgrown_at + OUTGROWN_KNOWN_S
        )
        return self._outgrown if known else None

    def _loss(self) -> Failure | None:
        """Return why a place has no process that serves; None: none was lost, or it is back."""
        failed = [place for place in self.places if place.failure is not None]
        latest = max(failed, key=lambda place: place.failed_at, default=None)
        return None if latest is None else latest.failure

    def log_tail(self) -> str:
        """The last lines (at most 2 KiB) of the newest worker that has written any."""
        return next((tail for p in reversed(self.places) if (tail := p.log_tail())), "")

    def devices(self) -> tuple[int, ...]:
        """The devices that its workers are on, each as often as a worker is."""
        return tuple(device for place in self.places for device in place.devices)

    def busy_seconds(self) -> float:
        """How long workers have been busy so far, summed over workers; its growth is saturation."""
        return self._past_busy_s + sum(place.busy_s for place in self.places)

    def queue_wait_s(self) -> float:
        """How long the oldest queued job has waited; 0 when nothing is queued."""
        return self.queue.oldest_wait_s()

    async def until_ready(self, count: int, timeout_s: float | None = None) -> None:
        """Wait until `count` workers are ready.

        Raises:
            LoadFailed: a load of a version that never served failed, too many workers failed for
                good, the version is being unloaded, or the time is over (reason StartupTimeout).
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.counts().ready < count:
                    self._raise_if_hopeless(count)
                    await self._next_change()
        except TimeoutError:
            raise LoadFailed(
                "StartupTimeout",
                f"not {count} workers were ready within {timeout_s:g} s",
                self.log_tail(),
            ) from None

    # inside

    def changed(self) -> None:
        """Note that a worker changed; what follows from it happens once, at the next turn."""
        if self._look_due is None:
            self._look_due = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Let the workers follow the wish, and tell those who wait for a change."""
        if self._look_due is not None:
            self._look_due.cancel()
            self._look_due = None
        self._forget_stopped()
        self._staff()
        self._served = self._served or self.counts().ready > 0
        self._refusal = self._why_refuse()
        if self._refusal is not None and not self._serves_the_rest():
            self._abandon_jobs()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        self._changed()

    def _forget_stopped(self) -> None:
        for place in self.places:
            if place.state is WorkerState.STOPPED:
                self._past_restarts += place.restarts
                self._past_busy_s += place.busy_s
        self.places = [place for place in self.places if place.state is not WorkerState.STOPPED]

    def _staff(self) -> None:
        if self.spec.workers == 0 and self._serves_the_rest():
            # Nothing new is taken, but what is queued is still answered; then look again.
            self._look_due = asyncio.get_running_loop().call_later(POLL_S, self._look)
            return
        facts = [
            PlaceFacts(
                place.number,
                place.outgrown is None and _same_kind(place.spec, self.spec),
                place.state,
            )
            for place in self.places
        ]
        allotment = self._allotment()
        step = staff(facts, allotment.keep, allotment.room)
        for place in [place for place in self.places if place.number in step.drain]:
            place.drain()
        for _ in range(step.start):
            self.places.append(self._employ(self))  # one by one: each counts for the next's device

    def _allotment(self) -> Allotment:
        allotment = Allotment(self.wanted) if self.allot is None else self.allot(self)
        if allotment.room is None and self.tight:
            return Allotment(allotment.keep, max(self.wanted - len(self.places), 0))
        return allotment

    def _serves_the_rest(self) -> bool:
        """Tell whether what is queued will be answered: by a worker that is there or comes back."""
        if not len(self.queue):
            return False
        counts = self.counts()
        return counts.ready > 0 or (self._served and counts.starting > 0)

    def _why_refuse(self) -> str | None:
        if self._closing:
            return UNLOADING
        if self.spec.workers == 0:
            return NO_WORKER
        staying = [place for place in self.places if place.state not in LEAVING]
        if staying and all(place.state is WorkerState.FAILED for place in staying):
            failure = self.last_failure()
            return f"{NO_WORKER}. The last one failed: {failure.message}" if failure else NO_WORKER
        return None

    def _abandon_jobs(self) -> None:
        self.queue.fail_all(self._not_ready())

    def _not_ready(self) -> ModelNotReady:
        kind = ModelNotReady if self._closing else NoWorker
        return kind(self.spec.model, self.spec.version, self._refusal or UNLOADING)

    def _raise_if_hopeless(self, count: int) -> None:
        failure = self.last_failure()
        if self._closing:
            raise LoadFailed("WorkerDied", "the version was unloaded meanwhile")
        counts = self.counts()
        if failure and (not self._served or counts.wanted - counts.failed < count):
            raise LoadFailed(failure.reason, failure.message, failure.log_tail)

    async def _next_change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future


def _same_kind(born: VersionSpec, wanted: VersionSpec) -> bool:
    """Whether a worker born with one spec is what the other wants; the rest is applied live."""
    return (
        dict(born.env) == dict(wanted.env)
        and born.handler == wanted.handler
        and born.split_json_arrays == wanted.split_json_arrays
    )
