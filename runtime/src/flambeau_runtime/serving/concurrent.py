"""Many batches in flight with one worker, for handlers that are coroutines (asyncCommunication).

Each slot is a lane of its own, so that deadlines, retries and streams are as ever; all share the
worker's link. A batch's id on the wire tells its slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from flambeau_runtime.errors import PredictionFailed, WorkerLost
from flambeau_runtime.protocol import HEADER, Answered, Buffer, Garbage
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.lane import Lane, LaneEnd
from flambeau_runtime.serving.link import Receiver, WorkerLink

SLOT_BITS = 8
SLOTS = 1 << SLOT_BITS
"""How many batches a worker has at once; TorchServe has no bound but its queue's."""


class SlotLane(Lane):
    """A lane whose batch ids leave room for its slot."""

    __slots__ = ()

    last_id = 2 ** (32 - SLOT_BITS) - 1


class _SlotLink:
    """The worker's link as one slot sees it."""

    def __init__(self, team: Team, slot: int) -> None:
        self.receiver: Receiver | None = None
        self._team = team
        self._slot = slot

    def send(self, parts: Sequence[Buffer]) -> None:
        """Write one frame, its batch id marked with the slot."""
        size, batch, kind = HEADER.unpack(parts[0][: HEADER.size])
        head = HEADER.pack(size, batch << SLOT_BITS | self._slot, kind)
        self._team.link.send([head, parts[0][HEADER.size :], *parts[1:]])

    def pause(self) -> None:
        """Read no more of what the worker says, about this slot or another."""
        self._team.slow.add(self._slot)
        self._team.link.pause()

    def resume(self) -> None:
        """Read again, once no slot has a slow reader."""
        self._team.slow.discard(self._slot)
        if not self._team.slow:
            self._team.link.resume()

    def close(self) -> None:
        """Nothing: the link is the team's."""


class Team:
    """All slots of one worker; to the worker's place it is a lane, to the link a receiver."""

    def __init__(
        self,
        queue: JobQueue,
        link: WorkerLink,
        on_end: Callable[[LaneEnd], None],
        max_response_bytes: int,
    ) -> None:
        self.queue = queue
        self.link = link
        self.slow: set[int] = set()
        self._on_end = on_end
        self._ends: list[LaneEnd] = []
        self._over = False
        self._slots = [
            SlotLane(queue, _SlotLink(self, slot), self._slot_ended, max_response_bytes)
            for slot in range(SLOTS)
        ]

    @property
    def batches(self) -> int:
        """How many are over."""
        return sum(slot.batches for slot in self._slots)

    @property
    def busy_s(self) -> float:
        """How long the busiest slot had a batch in flight."""
        return max(slot.busy_s for slot in self._slots)

    def start(self) -> None:
        """Attach every slot to the queue and pull."""
        self.link.receiver = self
        for slot in self._slots:
            slot.start()

    async def drain(self) -> None:
        """Take no new batch, and return when those in flight are over."""
        async with asyncio.TaskGroup() as draining:
            for slot in self._slots:
                draining.create_task(slot.drain())

    def close(self) -> None:
        """Detach, give batches in flight back to the queue, close the link."""
        self._over = True
        self._detach()
        for slot in self._slots:
            slot.close()
        self.link.close()

    # what the link calls

    def frame_limit(self) -> int:
        """Return how many bytes a PART or END frame may have."""
        return max(slot.frame_limit() for slot in self._slots)

    def ended(self, batch: int, rows: list[Answered]) -> None:
        """Take the answers of a batch."""
        self._slot(batch).ended(batch >> SLOT_BITS, rows)

    def parted(self, batch: int, rows: list[Answered]) -> None:
        """Take pieces of the answers of a batch."""
        self._slot(batch).parted(batch >> SLOT_BITS, rows)

    def faulted(self, batch: int, fault: PredictionFailed) -> None:
        """Take the fault of a whole batch."""
        self._slot(batch).faulted(batch >> SLOT_BITS, fault)

    def lost(self, fault: WorkerLost) -> None:
        """Hand on what every slot had; then tell the end."""
        self._finish(fault)

    # inside

    def _slot(self, batch: int) -> SlotLane:
        slot = self._slots[batch & (SLOTS - 1)]
        if not slot.busy:
            raise Garbage(f"an answer to batch {batch}, which is not in flight")
        return slot

    def _slot_ended(self, end: LaneEnd) -> None:
        """Take note of the end of a slot; one that was late takes the worker with it."""
        self._ends.append(end)
        if not self._over:
            self._finish(WorkerLost("Worker died. Another request of it was not answered in time."))

    def _finish(self, fault: WorkerLost) -> None:
        self._over = True
        self._detach()
        for slot in self._slots:
            slot.lost(fault)
        self.link.close()
        jobs = sum(end.jobs for end in self._ends)
        poisoned = max((end.poisoned_deaths for end in self._ends), default=0)
        self._on_end(LaneEnd(self._ends[0].fault, jobs, poisoned))

    def _detach(self) -> None:
        """Let go of the queue first: a dead slot's jobs must not go to the next slot to die."""
        for slot in self._slots:
            self.queue.detach(slot)
