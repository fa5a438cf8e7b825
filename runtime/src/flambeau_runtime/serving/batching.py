"""What goes to a worker together: the queue of one version, and the rule that forms its batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from flambeau_runtime.errors import DeadlineExceeded, QueueFull, RuntimeFault
from flambeau_runtime.serving.arena import Arena
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.job import Job

SHARE_OF_BATCH_TIME = 0.15
"""An idle worker waits at most this share of a batch time for companions."""

SHORTEST_WAIT_S = 0.0003
"""Below this a wait costs more than it brings."""

SHORTEST_PAUSE_S = 0.1
WELL_FILLED = 0.9
LONGEST_PENALTY = 32
LONGEST_BATCH_BYTES = 2**30
"""A batch that has reached this takes no more rows: its frame has a limit."""

SWEEP_EVERY_S = 0.25
"""How late a job may be told that its deadline passed while it waited."""


class BatchPolicy:
    """How many jobs go together, and how long an idle worker waits for them (pure: no clock).

    Target: enough that all workers together take what was outstanding lately. Waiting: a little,
    and not again for a while after it did not pay (1, 3, 7, … 32 batches).
    """

    __slots__ = (
        "_now_peak",
        "_old_peak",
        "_penalty",
        "_rolled_at",
        "_skip",
        "batch_s",
        "max_delay_s",
        "max_size",
    )

    def __init__(self, max_size: int, max_delay_s: float) -> None:
        self.max_size = max_size
        self.max_delay_s = max_delay_s
        self.batch_s = 0.0  # moving average of a worker's time for one batch
        self._now_peak = 0
        self._old_peak = 0
        self._rolled_at = 0.0
        self._penalty = 0
        self._skip = 0

    def saw(self, outstanding: int) -> None:
        """Take note of how many jobs wait or are with a worker."""
        if outstanding > self._now_peak:  # noqa: PLR1730  once per request: half of max()'s price
            self._now_peak = outstanding

    def target(self, workers: int) -> int:
        """Return how many jobs make an idle worker go at once; at least 1."""
        peak = max(self._now_peak, self._old_peak, 1)
        return min(self.max_size, -(-peak // max(workers, 1)))

    def patience_s(self) -> float:
        """Return how long an idle worker waits for a batch below the target; 0: not at all."""
        if self._skip:
            return 0.0
        patience = SHARE_OF_BATCH_TIME * self.batch_s
        if patience < SHORTEST_WAIT_S:
            return 0.0
        return min(patience, self.max_delay_s)

    def went(self) -> None:
        """Take note that a batch went without a wait."""
        if self._skip:
            self._skip -= 1

    def waited(self, size: int, target: int) -> None:
        """Take note of what a wait brought."""
        if size >= WELL_FILLED * target:
            self._penalty = 0
        else:
            self._penalty = min(2 * self._penalty + 1, LONGEST_PENALTY)
            self._skip = self._penalty

    def finished(self, batch_s: float, outstanding: int, now: float) -> None:
        """Take note of a batch that is over: its time, and what is outstanding without it."""
        self.batch_s = (
            batch_s if not self.batch_s else self.batch_s + 0.2 * (batch_s - self.batch_s)
        )
        age = now - self._rolled_at
        if age >= self.batch_s:
            # After a pause neither window says anything about now. What is short is no pause: where
            # the front is slower than its workers, a round of all callers takes many batch times.
            paused = age > max(3 * self.batch_s, SHORTEST_PAUSE_S)
            self._old_peak = outstanding if paused else self._now_peak
            self._now_peak = outstanding
            self._rolled_at = now


class Puller(Protocol):
    """A lane as its queue sees it."""

    def take(self, batch: list[Job]) -> None:
        """Send one batch to the worker, which is idle."""


class JobQueue:
    """The jobs of one version that wait, in order, and the workers that are idle.

    Every lane of the version is attached to it. Batching, limits and timeouts come from the spec
    and may change while it serves. It belongs to the event loop's thread.
    """

    __slots__ = (
        "_again",
        "_attached",
        "_idle",
        "_late",
        "_sweep",
        "_turn",
        "_wait",
        "_waiting",
        "arena",
        "counters",
        "leaving",
        "outstanding",
        "policy",
        "spec",
    )

    def __init__(self, spec: VersionSpec, counters: Counters) -> None:
        self.spec = spec
        self.counters = counters
        self.policy = BatchPolicy(spec.batching.max_size, spec.batching.max_delay_s)
        self.arena = Arena.create()
        self.outstanding = 0  # jobs that wait or are with a worker
        self.leaving = False  # its workers are killed on purpose: what that breaks is not theirs
        self._waiting: deque[Job] = deque()
        self._again: deque[list[Job]] = deque()  # batches whose worker died, to be run as they are
        self._idle: list[Puller] = []  # the last one to become idle is the first to be used
        self._attached: set[Puller] = set()
        self._late: list[Job] = []  # expired, and to be told once the queue is in order again
        self._turn: asyncio.Handle | None = None
        self._wait: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def arena_fd(self) -> int | None:
        """The memory for big bodies that this version's workers share with the front."""
        return None if self.arena is None else self.arena.fd

    def apply(self, spec: VersionSpec) -> None:
        """Take over batching, queue size, timeouts and retry_on_crash of a new spec at once."""
        self.spec = spec
        self.policy.max_size = spec.batching.max_size
        self.policy.max_delay_s = spec.batching.max_delay_s

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting) + sum(map(len, self._again))

    def oldest_wait_s(self) -> float:
        """How long the job at the head has waited; 0 when none does."""
        heads = [batch[0] for batch in self._again] + list(self._waiting)[:1]
        return time.monotonic() - min(job.queued_at for job in heads) if heads else 0.0

    def submit(self, job: Job) -> None:
        """Queue a job; an idle worker gets it at the latest when the loop turns.

        Raises:
            QueueFull: there is no room.
        """
        waiting = self._waiting
        if len(waiting) >= self.spec.queue_size:
            self._drop_ended()
            if len(waiting) >= self.spec.queue_size:
                raise QueueFull(self.spec.model, self.spec.version, self.spec.queue_size)
        waiting.append(job)
        self.outstanding += 1
        self.policy.saw(self.outstanding)
        if self._idle:
            if len(waiting) >= self.policy.target(len(self._attached)):
                self._go()
            elif self._turn is None and self._wait is None:
                # At the end of the turn: what else has arrived by then goes along, free of charge.
                self._turn = asyncio.get_running_loop().call_soon(self._on_turn)
        elif self._sweep is None:
            self._sweep_later()

    def attach(self, lane: Puller) -> None:
        """Take in a worker; it is idle."""
        self._attached.add(lane)
        self.idle(lane)

    @property
    def end_header(self) -> str | None:
        """The header of an answer that names sequences which are over; None: there are none."""
        return None

    def end(self, keys: Iterable[str]) -> None:
        """End sequences because their handler said so."""

    def detach(self, lane: Puller, *, lost: bool = False) -> None:  # noqa: ARG002  for those who know jobs apart
        """Forget a worker; it gets no more batches. `lost`: nor does it finish the one it has."""
        self._attached.discard(lane)
        if lane in self._idle:
            self._idle.remove(lane)
            self.consider()

    def idle(self, lane: Puller) -> None:
        """Take note that a worker can take a batch."""
        self._idle.append(lane)
        self.consider()

    def finished(self, lane: Puller, jobs: int, batch_s: float, now: float) -> None:
        """Take note that a batch is over; the worker may get the next one before this returns."""
        self.outstanding -= jobs
        self.policy.finished(batch_s, self.outstanding, now)
        if lane in self._attached:
            self.idle(lane)

    def more(self, lane: Puller, room: int) -> list[Job]:
        """Return what may join the batch of a worker that never ends it; not while tried ones wait.

        They are counted as this worker's from now on.
        """
        if self._again or lane not in self._attached:
            return []
        return self._collect(room)

    def partly(self, lane: Puller, over: list[Job], batch_s: float, now: float) -> None:  # noqa: ARG002  for those who know jobs apart
        """Take note that some jobs of a worker's batch are over, while it goes on with others."""
        self.outstanding -= len(over)
        self.policy.finished(batch_s, self.outstanding, now)
        self._tell_late()

    def consider(self) -> None:
        """See whether an idle worker should go now, at the end of this turn, or after a wait."""
        if not (self._waiting or self._again):
            return
        if not self._idle:
            self._sweep_later()
        elif self._again or len(self._waiting) >= self.policy.target(len(self._attached)):
            self._go()
        elif self._turn is None and self._wait is None:
            self._turn = asyncio.get_running_loop().call_soon(self._on_turn)

    def again(self, batches: list[list[Job]]) -> None:
        """Take back batches whose worker died; each goes to the next idle worker as it is."""
        self._again.extend(batches)
        self.consider()

    def sequence_of(self, headers: bytes) -> str | None:  # noqa: ARG002  for those who keep them
        """Return the sequence that a request names; None: this queue knows none."""
        return None

    def holds(self, sequence: str) -> bool:  # noqa: ARG002  for those who keep them
        """Return whether a sequence has begun here and is not over."""
        return False

    def fail_all(self, fault: RuntimeFault) -> None:
        """End every waiting job, because no worker will come."""
        jobs = [*self._waiting, *(job for batch in self._again for job in batch)]
        self._waiting.clear()
        self._again.clear()
        self.outstanding -= len(jobs)
        for job in jobs:
            self._blame(job)
            job.fail(fault)

    def _blame(self, job: Job) -> None:
        """Count a job that fails because the workers that had it died."""
        if job.deaths and not job.ended and not self.leaving:
            waited_s = job.sent_at - job.queued_at
            self.counters.failed(time.monotonic() - job.queued_at, waited_s, job.named)

    def _on_turn(self) -> None:
        self._turn = None
        if not self._idle or not self._waiting:
            return
        patience = self.policy.patience_s()
        if patience and len(self._waiting) < self.policy.target(len(self._attached)):
            self._wait = asyncio.get_running_loop().call_later(patience, self._on_waited)
        else:
            self._go()

    def _on_waited(self) -> None:
        self._wait = None
        if self._idle and self._waiting:
            self.policy.waited(len(self._waiting), self.policy.target(len(self._attached)))
            self._send()

    def _go(self) -> None:
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
            self.policy.waited(1, 1)
        else:
            self.policy.went()
        self._send()

    def _send(self) -> None:
        """Give an idle worker what waits, tried batches first; see whether another should go."""
        batch = self._tried() or self._collect(self.policy.max_size)
        if batch:
            self._idle.pop().take(batch)
            self.consider()
        self._tell_late()

    def _tried(self) -> list[Job]:
        """Return the live jobs of a batch whose worker died; may be none."""
        while self._again:
            batch = self._again.popleft()
            live = self._live(batch)
            if live:
                return live
        return []

    def _collect(self, room: int) -> list[Job]:
        """Return the next jobs in order, at most `room`; abandoned and expired ones fall out."""
        waiting = self._waiting
        now = time.monotonic()
        batch: list[Job] = []
        room_bytes = LONGEST_BATCH_BYTES
        while waiting and room > 0 and room_bytes > 0:
            job = waiting.popleft()
            if job.ended:
                self.outstanding -= 1
            elif job.deadline <= now:
                self._expire(job, now)
            else:
                batch.append(job)
                room -= 1
                room_bytes -= len(job.payload.body)
        return batch

    def _live(self, jobs: list[Job]) -> list[Job]:
        """Return those that somebody still waits for, and let go of the others."""
        now = time.monotonic()
        live = []
        for job in jobs:
            if job.ended:
                self.outstanding -= 1
            elif job.deadline <= now:
                self._expire(job, now)
            else:
                live.append(job)
        return live

    def _expire(self, job: Job, now: float) -> None:
        self.outstanding -= 1
        # Badly answered, but by nobody's fault but the queue's; unless a worker died that had it.
        count = self.counters.failed if job.deaths else self.counters.answered
        count(now - job.queued_at, now - job.queued_at, job.named)
        self._late.append(job)

    def _tell_late(self) -> None:
        """Fail what has expired; a caller may submit its next request before this returns."""
        while self._late:
            job = self._late.pop(0)
            job.fail(DeadlineExceeded(self.spec.model, job.deadline - job.queued_at))

    def _drop_ended(self) -> None:
        live = self._live(list(self._waiting))
        self._waiting.clear()
        self._waiting.extend(live)
        self._tell_late()

    def _sweep_later(self) -> None:
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_EVERY_S, self._on_sweep)

    def _on_sweep(self) -> None:
        """End jobs whose deadline passes while no worker is there to collect them."""
        self._sweep = None
        self._again = deque(live for batch in self._again if (live := self._live(batch)))
        self._drop_ended()
        if self._waiting or self._again:
            self._sweep_later()
