"""Measures the memory of this runtime when somebody wants to know, at most once a second.

Looking at a big process takes milliseconds, a driver may take seconds: it is done in a thread. What
was measured while a worker still loaded says little of it: once it serves, it is measured again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.device_memory import NOTHING, DeviceMemory, measure_devices
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.memory import (
    HERE,
    Places,
    Room,
    held_bytes,
    in_words,
    measure_room,
)
from flambeau_runtime.serving.supervisor import Supervisor

SHORTEST_AGE_S = 1.0
UNKNOWN = Room()


@dataclass(frozen=True, slots=True)
class Held:
    """What the largest worker of a version holds, in bytes; 0: not known."""

    worker_bytes: int = 0
    device_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured last; `held` is of the workers that served then."""

    room: Room = UNKNOWN
    held: Mapping[int, int] = field(default_factory=dict)  # by process id
    devices: DeviceMemory = NOTHING

    @property
    def device_available_bytes(self) -> int | None:
        """What is free on the device with the most room; None: no device, or nobody tells."""
        return max(self.devices.free.values(), default=None)


class MemoryMeter:
    """Reads the memory of one runtime; callers within a second share a reading while it holds."""

    def __init__(
        self,
        supervisor: Supervisor,
        declared_bytes: int | None = None,
        devices: Sequence[int] = (),
        places: Places = HERE,
    ) -> None:
        self.last = Reading()
        self._supervisor = supervisor
        self._declared_bytes = declared_bytes
        self._devices = tuple(devices)
        self._places = places
        self._read_at: float | None = None
        self._serving: tuple[int, ...] = ()  # when that was
        self._reading = asyncio.Lock()

    async def read(self, max_age_s: float = SHORTEST_AGE_S) -> Reading:
        """Return a reading that is no older than this, of the workers that serve now."""
        now = asyncio.get_running_loop().time
        async with self._reading:
            serving = self._supervisor.serving_pids()
            aged = self._read_at is None or now() - self._read_at >= max_age_s
            if aged or serving != self._serving:
                every = [os.getpid(), self._supervisor.template_pid, *self._supervisor.pids()]
                look = partial(self._look, serving, [pid for pid in every if pid is not None])
                self.last = await asyncio.to_thread(look)
                self._read_at, self._serving = now(), serving
        return self.last

    def _look(self, serving: Sequence[int], every: Sequence[int]) -> Reading:
        held = {pid: held_bytes(pid, self._places.proc) for pid in serving}
        room = measure_room(self._declared_bytes, every, self._places)
        return Reading(room, held, measure_devices(self._devices))

    def of(self, live: LiveVersion | None) -> Held:
        """Return what the last reading says of a version."""
        if live is None:
            return Held()
        last = self.last
        beside = Counter(device for it in self._supervisor.lives for device in it.devices())
        here = [(it.pid, it.devices) for it in live.places if it.pid is not None]
        here = [(pid, devices) for pid, devices in here if pid in last.held]
        on_device = [
            last.devices.held_by(pid, devices[0], beside[devices[0]])
            for pid, devices in here
            if devices
        ]
        return Held(
            max((last.held[pid] for pid, _ in here), default=0),
            max(on_device, default=0),
        )

    async def shortage(self, spec: VersionSpec, beside: LiveVersion) -> str | None:
        """Return why there is no memory for a version beside the one that serves; None: there is.

        Its workers are taken to need what a worker of the other holds, and so are those of the
        model's versions that are being loaded; what was not measured forbids nothing.
        """
        reading = await self.read()
        held = self.of(beside)
        siblings = [it for it in self._supervisor.lives if it.spec.model == spec.model]
        loading = sum(live.wanted for live in siblings if not live.warm)
        workers = spec.workers + loading
        host = Need(workers, held.worker_bytes, reading.room.available_bytes)
        per_device = -(-workers // max(len(self._devices), 1))
        device = Need(per_device, held.device_bytes, reading.device_available_bytes)
        return host.shortage("memory", beside) or device.shortage("memory on the device", beside)


@dataclass(frozen=True, slots=True)
class Need:
    """So many workers of a size, and what there is for them."""

    workers: int
    each_bytes: int
    available_bytes: int | None

    @property
    def is_short(self) -> bool:
        """Whether there is less than that; what was not measured forbids nothing."""
        needed = self.workers * self.each_bytes
        return self.available_bytes is not None and needed > self.available_bytes

    def shortage(self, what: str, beside: LiveVersion) -> str | None:
        """Return the sentence that says what is missing; None: nothing is, or nobody knows."""
        if self.available_bytes is None or not self.is_short:
            return None
        needed = self.workers * self.each_bytes
        return (
            f"not enough {what} beside version {beside.spec.version}: {self.workers} worker(s) of "
            f"{in_words(self.each_bytes)} need {in_words(needed)}, "
            f"{in_words(self.available_bytes)} are free"
        )
