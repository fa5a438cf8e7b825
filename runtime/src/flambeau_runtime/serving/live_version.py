"""One version of one model while it lives: its queue, its workers, and what is known about them."""

from __future__ import annotations

from flambeau_runtime.archive.package import Package
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.job import Job
from flambeau_runtime.serving.observed import Failure, WorkerCounts, WorkerFacts


class LiveVersion:
    """A version with workers; made by `Supervisor.add`, ended by `Supervisor.remove`.

    Everything but `until_ready` and `drain` is immediate; all of it belongs to the event loop's thread.
    """

    spec: VersionSpec
    package: Package
    counters: Counters

    def submit(self, job: Job) -> None:
        """Queue one job; it is answered through its reply.

        Raises:
            QueueFull: the queue has no room.
            ModelNotReady: no worker is wanted, the version failed for good, or it is being drained.
        """
        raise NotImplementedError

    def resize(self, workers: int) -> None:
        """Want that many workers; the newest are drained first."""
        raise NotImplementedError

    def apply(self, spec: VersionSpec) -> None:
        """Take the wish over without a pause; a changed env replaces the workers one by one."""
        raise NotImplementedError

    def retry(self) -> None:
        """Start a version that failed for good once more, with a fresh crash budget."""
        raise NotImplementedError

    def workers(self) -> tuple[WorkerFacts, ...]:
        """Every worker that is wanted or still draining, oldest first."""
        raise NotImplementedError

    def counts(self) -> WorkerCounts:
        """Workers by what they can do now."""
        raise NotImplementedError

    def failure(self) -> Failure | None:
        """Why the version does not serve; None while it serves or has not failed yet."""
        raise NotImplementedError

    def log_tail(self) -> str:
        """The last lines (at most 2 KiB) of the worker that wrote last."""
        raise NotImplementedError

    def busy_seconds(self) -> float:
        """How long workers have been busy so far, summed over workers; its growth is saturation."""
        raise NotImplementedError

    def queue_wait_s(self) -> float:
        """How long the oldest queued job has waited; 0 when nothing is queued."""
        raise NotImplementedError

    async def until_ready(self, count: int, timeout_s: float | None = None) -> None:
        """Wait until `count` workers are ready.

        Raises:
            LoadFailed: a load of a version that never served failed, the crash budget is spent, or the
                time is over (reason StartupTimeout).
        """
        raise NotImplementedError

    async def drain(self, timeout_s: float) -> None:
        """Take no new job, answer the queued ones, then stop the workers; kill what is left."""
        raise NotImplementedError
