"""A lane whose batch never ends: rows join it and leave it between the calls of the handler."""

from __future__ import annotations

import time
from copy import copy

from flambeau_runtime import protocol
from flambeau_runtime.protocol import Answered, Garbage
from flambeau_runtime.serving.counters import FIRST_SERVER_ERROR
from flambeau_runtime.serving.job import Job, Payload, Prediction
from flambeau_runtime.serving.lane import Lane
from flambeau_runtime.serving.link import row_fault

NEXT = "ts_stream_next"
"""The header of a row that wants to be called again: "true"."""


class _WithWorker:
    """The place of a body that the handler has had in an earlier call."""

    offset = 0
    flag = protocol.WITH_WORKER


WITH_WORKER = _WithWorker()


class ContinuousLane(Lane):
    """Calls the handler again and again with the rows that it has not finished.

    A row's first answers are pieces of a stream, its last one the end. Between two calls whoever
    waits takes the places that have become free, without a wait of its own.
    """

    __slots__ = ()

    def ended(self, batch: int, rows: list[Answered]) -> None:
        """Answer the rows of one call, and make the next."""
        jobs = self._batch
        if batch != self._number or len(rows) != len(jobs):
            raise Garbage(
                f"{len(rows)} answers to batch {batch}, not {len(jobs)} to {self._number}"
            )
        results = list(zip(jobs, rows, strict=True))
        going = [job for job, row in results if _goes_on(job, row)]
        for job in going:
            if job.payload.region is not WITH_WORKER:
                self._begin(job)
        now = self._call_again(going) if going else self._over()
        for job, row in results:
            self._deliver(job, row, now, more=job in going)
        if self.queue.end_header is not None:
            self._end_sequences(rows, self.queue.end_header)

    def _end_sequences(self, rows: list[Answered], name: str) -> None:
        said = [value for row in rows for key, value in row[2] if key == name]
        self.queue.end(key.strip() for value in said for key in value.split(";"))

    def left(self, job: Job) -> None:
        """Hold nobody up for a reader who left; its row is not in the next call."""
        self.go_on(job)

    def _begin(self, job: Job) -> None:
        """Make a stream of a job whose first call was not its last."""
        self._unbind(job)
        job.feed = self
        job.payload = _known(job.payload)

    def _call_again(self, going: list[Job]) -> float:
        """Call with what goes on and what may join; return when the last call was over."""
        now = time.monotonic()
        spent = now - self._sent_at
        self.busy_s += spent
        self.batches += 1
        over = [job for job in self._batch if job not in going]
        for job in over:
            self.go_on(job)
        alone = any(job.alone for job in going)
        room = 0 if alone else self.queue.policy.max_size - len(going)
        first_sent = [job.sent_at for job in going]
        self.take(going + self.queue.more(self, room))
        for job, sent_at in zip(going, first_sent, strict=True):
            job.sent_at = sent_at
        self.queue.partly(self, over, spent, now)
        return now

    def _deliver(self, job: Job, row: Answered, now: float, *, more: bool) -> None:
        if job.ended:
            return
        if row[0] == protocol.ROW_FAULT:
            self._fail(job, row_fault(row[3]), now)
        elif more:
            job.part(Prediction(*row), self)
        else:
            waited_s = job.sent_at - job.queued_at
            counters = self.queue.counters
            count = counters.answered if row[0] < FIRST_SERVER_ERROR else counters.failed
            count(now - job.queued_at, waited_s, job.named)
            job.resolve(Prediction(*row))


def _goes_on(job: Job, row: Answered) -> bool:
    return not job.ended and row[0] != protocol.ROW_FAULT and (NEXT, "true") in row[2]


def _known(payload: Payload) -> Payload:
    """Return the row of a request whose body the handler has had."""
    known = copy(payload)
    known.body = b""
    known.region = WITH_WORKER
    return known
