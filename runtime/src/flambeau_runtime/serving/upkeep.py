"""Looks after workers while they serve: how many for the load, and how much each may hold."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from flambeau_runtime.serving.autoscale import RULES, Demand, Rules, is_spare, workers_for
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.desired import Swap
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.memory import in_words, resident_bytes
from flambeau_runtime.serving.memory_meter import MemoryMeter
from flambeau_runtime.serving.observed import Failure
from flambeau_runtime.serving.worker_place import WorkerPlace
from flambeau_runtime.serving.worker_state import WorkerState

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
LOOK_AT_MEMORY_EVERY_S = 1.0
SMOOTHED_OVER_S = 5.0
FAR_BEYOND = 1.5
"""Times its limit: no time left to end a batch."""

EXCEEDED = "WorkerMemoryExceeded"


@dataclass(slots=True)
class _Memory:
    """What is remembered of one version between two looks."""

    busy_s: float
    looked_at: float
    spare_since: float | None = None
    busy: float = 0.0


class Upkeep:
    """Async context manager around the task that looks; enter it after the supervisor.

    A worker that holds more than its limit is replaced: the fresh one comes first where there is
    memory for both, and the old one ends its batch. That is counted as a restart and told as
    WorkerMemoryExceeded, but it is no death: it costs nothing of the crash budget, so a model that
    leaks and serves goes on serving. Far beyond its limit a worker is killed at once. That is a
    death, and any batch that was answered since the last one makes good for it; so only a version
    whose workers go far beyond their limit before they have answered anything fails in the end. So
    does one whose worker exceeds its limit before the version is warm.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        meter: MemoryMeter,
        rules: Rules = RULES,
    ) -> None:
        self._catalogue = catalogue
        self._meter = meter
        self._rules = rules
        self._memories: dict[LiveVersion, _Memory] = {}
        self._memory_due = 0.0
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self._look_again_and_again())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        cancelled = isinstance(error, asyncio.CancelledError)
        told = (kind, error, traceback) if cancelled else (None, None, None)
        await self._tasks.__aexit__(*told)

    async def _look_again_and_again(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._scale_all(loop.time())
                if loop.time() >= self._memory_due:
                    self._memory_due = loop.time() + LOOK_AT_MEMORY_EVERY_S
                    await self._hold_to_limits()
            except Exception:
                # A look that fails must not end the runtime; the next one is due at once.
                log.exception("a look at the workers failed")

    # how many

    async def _scale_all(self, now: float) -> None:
        lives = [live for live in self._catalogue.lives() if live.most > live.spec.workers > 0]
        self._memories = {live: it for live, it in self._memories.items() if live in lives}
        for live in lives:
            demand = self._demand(live, now)
            if self._may_scale(live):
                await self._scale(live, demand)

    def _may_scale(self, live: LiveVersion) -> bool:
        """Return whether the load decides: not during a swap, nor where workers keep state."""
        model = self._catalogue.model(live.spec.model)
        if model is None or live.mode.sequences is not None:
            return False
        alive = [it for it in self._catalogue.lives() if it.spec.model == model.name]
        wanted = {spec.version for spec in model.versions}
        if any(it.spec.version not in wanted for it in alive):
            return False  # one drains, or answers until its successor is there
        if model.swap is Swap.SIDE_BY_SIDE or len(wanted) == 1:
            return live.warm
        live.scale(0)
        return False

    async def _scale(self, live: LiveVersion, demand: Demand) -> None:
        workers = workers_for(demand, self._rules)
        if workers > demand.wanted:
            demand = replace(demand, room=await self._room_for_workers(live))
            workers = workers_for(demand, self._rules)
            live.tight = workers == demand.wanted
        if workers == demand.wanted:
            return
        self._memories[live].spare_since = None
        extra = {"model": live.spec.model, "version": live.spec.version}
        log.info("workers follow the load", extra={**extra, "wanted": workers})
        live.scale(workers)

    def _demand(self, live: LiveVersion, now: float) -> Demand:
        counts = live.counts()
        memory = self._memories.setdefault(live, _Memory(live.busy_seconds(), now))
        passed = now - memory.looked_at
        if passed > 0:
            grown = max(live.busy_seconds() - memory.busy_s, 0.0)
            busy = grown / (passed * max(counts.ready, 1))
            # Busy time is told when a batch ends: smoothed, a long batch is no burst.
            memory.busy += (busy - memory.busy) * (1 - math.exp(-passed / SMOOTHED_OVER_S))
            memory.busy_s, memory.looked_at = live.busy_seconds(), now
        demand = Demand(
            least=live.spec.workers,
            most=live.most,
            wanted=live.wanted,
            ready=counts.ready,
            starting=counts.starting,
            queued=len(live.queue),
            per_batch=live.spec.batching.max_size,
            wait_s=live.queue_wait_s(),
            batch_s=live.queue.policy.batch_s,
            busy=memory.busy,
        )
        if not is_spare(demand, self._rules):
            memory.spare_since = None
        elif memory.spare_since is None:
            memory.spare_since = now
        since = memory.spare_since
        return replace(demand, spare_for_s=0.0 if since is None else now - since)

    async def _room_for_workers(self, live: LiveVersion) -> int | None:
        """Return how many workers like those there is memory for; None: nobody knows."""
        reading = await self._meter.read()
        held = self._meter.of(live)
        rooms = [
            available // each
            for each, available in (
                (held.worker_bytes, reading.room.available_bytes),
                (held.device_bytes, reading.device_available_bytes),
            )
            if each and available is not None
        ]
        return min(rooms, default=None)

    # how much

    async def _hold_to_limits(self) -> None:
        for live in tuple(self._catalogue.lives()):
            limit = live.spec.worker_memory_bytes
            if limit is None:
                continue
            for place in tuple(live.places):
                size = resident_bytes(place.pid)
                if size > limit:
                    await self._outgrew(live, place, size, limit)

    async def _outgrew(self, live: LiveVersion, place: WorkerPlace, size: int, limit: int) -> None:
        at_once = size > FAR_BEYOND * limit
        if not at_once and (place.outgrown or place.state is WorkerState.DRAINING):
            return  # it goes already
        message = f"worker {place.number} holds {in_words(size)}, its limit is {in_words(limit)}"
        available = (await self._meter.read()).room.available_bytes
        live.tight = available is not None and available < size
        log.warning(
            "worker holds too much memory",
            extra={"worker": place.name, "bytes": size, "limit_bytes": limit, "killed": at_once},
        )
        live.outgrew(place, Failure(EXCEEDED, message, place.log_tail()), at_once=at_once)
