"""Which kind of queue a version has, by its mode."""

from __future__ import annotations

from flambeau_runtime.errors import NoTicket
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.job import Job
from flambeau_runtime.serving.modes import Mode, SequenceHeaders
from flambeau_runtime.serving.sequences import SequenceQueue


class TicketQueue(JobQueue):
    """A JobQueue in which nobody waits: each idle worker is a ticket for one job."""

    __slots__ = ()

    def submit(self, job: Job) -> None:
        """Queue a job for an idle worker.

        Raises:
            NoTicket: every worker is busy, or is about to be.
        """
        if len(self._waiting) >= len(self._idle):
            raise NoTicket(self.spec.model, self.spec.version)
        super().submit(job)


def make_queue(
    spec: VersionSpec, counters: Counters, mode: Mode, headers: SequenceHeaders
) -> JobQueue:
    """Return an empty queue of the right kind; sequences come before tickets."""
    if mode.sequences is not None:
        return SequenceQueue(spec, counters, mode.sequences, headers)
    return (TicketQueue if mode.job_ticket else JobQueue)(spec, counters)
