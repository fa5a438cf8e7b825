"""What feeds one worker for as long as it lives, and decides what its death means for the jobs it had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flambeau_runtime.errors import RuntimeFault
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.job import Job
from flambeau_runtime.serving.link import WorkerLink


@dataclass(frozen=True, slots=True)
class LaneEnd:
    """Why a lane ended on its own: its worker is lost, or was given up because it did not answer in time."""

    fault: RuntimeFault  # WorkerLost or DeadlineExceeded
    jobs: int  # how many jobs the worker had then
    poisoned_deaths: int = 0  # > 0: this many deaths are traced to one row and not the worker's fault, this one included


class Lane:
    """Feeds one worker whose model is loaded.

    `on_end` is called once, on the loop, when the worker is lost or has to be killed; the lane has then already let go
    of its jobs. It is not called after `close()`.
    """

    def __init__(
        self,
        queue: JobQueue,
        link: WorkerLink,
        on_end: Callable[[LaneEnd], None],
    ) -> None:
        self.queue = queue
        self.link = link
        self.on_end = on_end
        self.busy_s = 0.0  # time with a batch in flight, for saturation

    def start(self) -> None:
        """Attach to the queue and pull."""
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether a batch is in flight."""
        raise NotImplementedError

    def take(self, batch: list[Job]) -> None:
        """Send one batch to the worker."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Take no new batch, and return when the one in flight is over."""
        raise NotImplementedError

    def close(self) -> None:
        """Detach, give a batch in flight back to the queue, and close the link: the worker sees EOF and exits."""
        raise NotImplementedError
