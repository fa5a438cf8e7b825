"""What feeds one worker for as long as it lives, and what its death means for the jobs it had."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from flambeau_runtime import protocol
from flambeau_runtime.errors import (
    DeadlineExceeded,
    HandlerRefused,
    PredictionFailed,
    RuntimeFault,
    WorkerLost,
)
from flambeau_runtime.protocol import Answered, Garbage
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.counters import FIRST_SERVER_ERROR
from flambeau_runtime.serving.job import Job, Prediction
from flambeau_runtime.serving.link import Link, row_fault

log = logging.getLogger(__name__)

ROW_OVERHEAD_BYTES = 256 * 1024
"""Room in a frame for the headers of one row."""

LAST_BATCH_ID = 2**32 - 1

BY_ITS_OWN_WISH = 0.999
"""A deadline nearer than this share of the model's timeout was set by the client."""


@dataclass(frozen=True, slots=True)
class LaneEnd:
    """Why a lane ended on its own: the worker is lost, or it did not answer in time: kill it."""

    fault: RuntimeFault  # WorkerLost or DeadlineExceeded
    jobs: int  # how many jobs the worker had then
    poisoned_deaths: int = 0
    """> 0: so many deaths, this one included, are traced to one row and not the worker's fault."""


class Lane:
    """Feeds one worker whose model is loaded.

    `on_end` is called once, on the loop, when the worker is lost or has to be killed; the lane has
    then already let go of its jobs and closed the link. It is not called after `close()`.
    """

    last_id = LAST_BATCH_ID

    __slots__ = (
        "_batch",
        "_cancelled",
        "_drained",
        "_heard_at",
        "_held",
        "_number",
        "_open",
        "_sent_at",
        "_watch",
        "_watch_at",
        "batches",
        "busy_s",
        "link",
        "max_response_bytes",
        "on_end",
        "queue",
    )

    def __init__(
        self,
        queue: JobQueue,
        link: Link,
        on_end: Callable[[LaneEnd], None],
        max_response_bytes: int,
    ) -> None:
        self.queue = queue
        self.link = link
        self.on_end = on_end
        self.max_response_bytes = max_response_bytes
        self.batches = 0  # that are over
        self.busy_s = 0.0  # time with a batch in flight, for saturation
        self._batch: list[Job] = []
        self._number = 0
        self._cancelled = 0  # the batch of which the worker was told that nobody waits
        self._sent_at = 0.0
        self._heard_at = 0.0  # when the last pieces came that somebody waited for
        self._held: set[Job] = set()  # those in flight whose readers are slow
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        self._drained: asyncio.Event | None = None
        self._open = False

    def start(self) -> None:
        """Attach to the queue and pull."""
        self._open = True
        self.link.receiver = self
        self.queue.attach(self)

    @property
    def busy(self) -> bool:
        """Whether a batch is in flight."""
        return bool(self._batch)

    def take(self, batch: list[Job]) -> None:
        """Send one batch to the worker."""
        now = time.monotonic()
        self._batch = batch
        self._sent_at = now
        self._number = number = self._number + 1 if self._number < self.last_id else 1
        due = now + self.queue.spec.timeouts.response_s
        for job in batch:
            job.sent_at = now
            if job.deadline < due:  # noqa: PLR1730  once per request
                due = job.deadline
        self.link.send(protocol.pack_predict(number, [job.payload for job in batch]))
        if self._watch is None or due < self._watch_at:
            self._watch_until(due, now)

    async def drain(self) -> None:
        """Take no new batch, and return when the one in flight is over."""
        self.queue.detach(self)
        if self._batch:
            self._drained = self._drained or asyncio.Event()
            await self._drained.wait()

    def close(self) -> None:
        """Detach, give a batch in flight back to the queue, close the link: the worker exits."""
        if self._open:
            jobs = self._end_unfinished(self._let_go())
            if jobs:
                self.queue.again([jobs])
        self.link.close()

    # what the link calls

    def frame_limit(self) -> int:
        """Return how many bytes a PART or END frame may have."""
        rows = max(len(self._batch), 1)
        return min(rows * (self.max_response_bytes + ROW_OVERHEAD_BYTES), protocol.MAX_FRAME_BYTES)

    def ended(self, batch: int, rows: list[Answered]) -> None:
        """Answer the jobs of the batch in flight."""
        jobs = self._batch
        if batch != self._number or len(rows) != len(jobs):
            raise Garbage(
                f"{len(rows)} answers to batch {batch}, not {len(jobs)} to {self._number}"
            )
        now = self._over()
        counters = self.queue.counters
        for job, row in zip(jobs, rows, strict=True):
            if job.ended:
                continue
            queued_at = job.queued_at
            waited_s = self._sent_at - queued_at
            status = row[0]
            if status == protocol.ROW_FAULT:
                self._fail(job, row_fault(row[3]), now)
                continue
            if status < FIRST_SERVER_ERROR:
                counters.answered(now - queued_at, waited_s, job.named)
            else:
                counters.failed(now - queued_at, waited_s, job.named)
            job.resolve(Prediction(*row))

    def parted(self, batch: int, rows: list[Answered]) -> None:
        """Pass on pieces of the answers of the batch in flight."""
        jobs = self._batch
        if batch != self._number or len(rows) != len(jobs):
            raise Garbage(f"{len(rows)} pieces of batch {batch}, not {len(jobs)} of {self._number}")
        now = time.monotonic()
        if not all(job.ended for job in jobs):
            self._heard_at = now  # pieces that nobody waits for buy the worker no time
        for job, row in zip(jobs, rows, strict=True):
            self._part(job, row, now)
        self._cancel_if_unwanted()

    def faulted(self, batch: int, fault: PredictionFailed) -> None:
        """Fail the jobs of the batch in flight: the handler raised."""
        jobs = self._batch
        if batch != self._number or not jobs:
            raise Garbage(f"a fault of batch {batch}, not of {self._number}")
        now = self._over()
        for job in jobs:
            self._fail(job, fault, now)

    def lost(self, fault: WorkerLost) -> None:
        """Hand the batch on, or find the row that kills workers; then tell the end."""
        jobs = self._let_go()
        poisoned = self._sort_out(self._end_streams(jobs, fault), fault)
        self.on_end(LaneEnd(fault, len(jobs), poisoned))

    # what a streaming job calls

    def hold(self, job: Job) -> None:
        """Read no more of what the worker says: its handler waits with the next piece."""
        if job in self._batch:
            self._held.add(job)
            self.link.pause()

    def go_on(self, job: Job) -> None:
        """Read again, once no reader of the batch is slow."""
        if job in self._held:
            self._held.discard(job)
            self._heard_at = time.monotonic()
            if not self._held:
                self.link.resume()

    def left(self, job: Job) -> None:
        """Hold nobody up for a reader who left; tell the worker when it was the last."""
        self.go_on(job)
        self._cancel_if_unwanted()

    # inside

    def _part(self, job: Job, row: Answered, now: float) -> None:
        if job.ended or row[0] == protocol.ROW_ABSENT:
            return
        if row[0] == protocol.ROW_FAULT:
            self._fail(job, row_fault(row[3]), now)
            return
        if job.feed is None:
            self._unbind(job)
        job.part(Prediction(*row), self)

    def _unbind(self, job: Job) -> None:
        """Have the model's timeout hold between pieces; a deadline of the client's own stays."""
        if job.deadline - job.queued_at >= BY_ITS_OWN_WISH * self.queue.spec.timeouts.response_s:
            job.deadline = float("inf")

    def _cancel_if_unwanted(self) -> None:
        if self._cancelled == self._number or not all(job.ended for job in self._batch):
            return
        if self._batch:
            self._cancelled = self._number
            self.link.send([protocol.frame(protocol.Kind.CANCEL, self._number)])

    def _end_streams(self, jobs: list[Job], fault: RuntimeFault) -> list[Job]:
        """Fail the jobs of which the client has had a part; return those to be tried again."""
        begun = [job for job in jobs if job.feed is not None]
        self._give_up(begun, fault)
        return [job for job in jobs if job.feed is None]

    def _end_unfinished(self, jobs: list[Job]) -> list[Job]:
        """Break the streams of a worker that is stopped, not by its fault; return the rest."""
        stopped = WorkerLost("Worker died. It was stopped before the end of the stream.")
        begun = [job for job in jobs if job.feed is not None]
        self.queue.outstanding -= len(begun)
        for job in begun:
            job.fail(stopped)
        return [job for job in jobs if job.feed is None]

    def _over(self) -> float:
        """Take note that the batch in flight is over; the worker may be busy again on return."""
        now = time.monotonic()
        spent = now - self._sent_at
        jobs = len(self._batch)
        self.busy_s += spent
        self.batches += 1
        self._batch = []
        if self._held:
            self._held.clear()
            self.link.resume()
        if self._drained is not None:
            self._drained.set()
        self.queue.finished(self, jobs, spent, now)
        return now

    def _fail(self, job: Job, fault: RuntimeFault, now: float) -> None:
        if not job.ended:
            counters = self.queue.counters
            count = counters.failed if self._is_to_blame(fault) else counters.answered
            count(now - job.queued_at, (job.sent_at or now) - job.queued_at, job.named)
            job.fail(fault)

    def _is_to_blame(self, fault: RuntimeFault) -> bool:
        """Say whether it is the worker's fault, not the request's, nor of whoever stopped it."""
        if isinstance(fault, HandlerRefused):
            return fault.status >= FIRST_SERVER_ERROR
        return not (self.queue.leaving and isinstance(fault, WorkerLost))

    def _let_go(self) -> list[Job]:
        """Detach and return the jobs in flight that somebody still waits for."""
        self._open = False
        self.queue.detach(self, lost=True)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        jobs, self._batch = self._batch, []
        if jobs:
            self.busy_s += time.monotonic() - self._sent_at
        if self._drained is not None:
            self._drained.set()
        live = [job for job in jobs if not job.ended]
        self.queue.outstanding -= len(jobs) - len(live)
        return live

    def _sort_out(self, jobs: list[Job], fault: WorkerLost) -> int:
        """Decide what becomes of the jobs of a dead worker; return deaths traced to one row."""
        for job in jobs:
            job.deaths += 1
        if not jobs:
            return 0
        deaths = jobs[0].deaths
        retry = self.queue.spec.retry_on_crash
        if retry and deaths == 1:
            self.queue.again([jobs])
        elif retry and len(jobs) > 1:
            for job in jobs:
                job.alone = True
            self.queue.again([[job] for job in jobs])
        else:
            self._give_up(jobs, fault)
            return deaths if retry else 0
        return 0

    def _give_up(self, jobs: list[Job], fault: RuntimeFault) -> None:
        now = time.monotonic()
        self.queue.outstanding -= len(jobs)
        for job in jobs:
            self._fail(job, fault, now)

    def _watch_until(self, due: float, now: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch_at = due
        self._watch = asyncio.get_running_loop().call_later(max(due - now, 0), self._on_due)

    def _on_due(self) -> None:
        """End what is late: jobs at their own deadline, the worker after the model's timeout."""
        self._watch = None
        if not self._batch:
            return  # the next batch arms it again: one timer serves thousands of batches
        now = time.monotonic()
        timeout_s = self.queue.spec.timeouts.response_s
        if self._held:
            self._heard_at = now  # a reader is late, and its connection has a bound of its own
        dead_at = max(self._sent_at, self._heard_at) + timeout_s
        if now >= dead_at:
            self._kill(DeadlineExceeded(self.queue.spec.model, timeout_s))
            return
        due = dead_at
        for job in self._batch:
            if job.deadline <= now:
                late = DeadlineExceeded(self.queue.spec.model, job.deadline - job.queued_at)
                self._fail(job, late, now)
            elif not job.ended:
                due = min(due, job.deadline)
        if self._heard_at > self._sent_at:
            self._cancel_if_unwanted()
        self._watch_until(due, now)

    def _kill(self, fault: DeadlineExceeded) -> None:
        had = len(self._batch)
        jobs = self._let_go()
        self.link.close()
        self._give_up(jobs, fault)
        self.on_end(LaneEnd(fault, had))
