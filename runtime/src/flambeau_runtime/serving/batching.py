"""What goes to a worker together: the queue of one version, and the rule that forms batches from it."""

from __future__ import annotations

from typing import Protocol

from flambeau_runtime.errors import RuntimeFault
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.job import Job


class Puller(Protocol):
    """A lane as its queue sees it."""

    def take(self, batch: list[Job]) -> None:
        """Send one batch to the worker, which is idle."""


class JobQueue:
    """The jobs of one version that wait, in order, and the workers that are idle.

    Every lane of the version is attached to it. Batching, limits and timeouts come from the spec and may change
    while it serves.
    """

    def __init__(self, spec: VersionSpec, counters: Counters) -> None:
        self.spec = spec
        self.counters = counters

    def apply(self, spec: VersionSpec) -> None:
        """Take over batching, queue size, timeouts and retry_on_crash of a new spec at once."""
        self.spec = spec

    def submit(self, job: Job) -> None:
        """Queue a job; an idle worker gets it at the latest when the loop turns.

        Raises:
            QueueFull: there is no room.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        """How many jobs wait."""
        raise NotImplementedError

    @property
    def outstanding(self) -> int:
        """How many jobs wait or are with a worker."""
        raise NotImplementedError

    def oldest_wait_s(self) -> float:
        """How long the job at the head has waited."""
        raise NotImplementedError

    def fail_all(self, fault: RuntimeFault) -> None:
        """End every waiting job, because no worker will come."""
        raise NotImplementedError
