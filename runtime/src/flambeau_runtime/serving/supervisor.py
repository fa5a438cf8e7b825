"""Who owns every worker process: starts them, sees them die, and leaves none behind."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Self

from flambeau_runtime.archive.fetch import credentials
from flambeau_runtime.archive.model_config import read_model_config
from flambeau_runtime.archive.package import Package
from flambeau_runtime.serving import memory, placement, torch_need, worker_environment
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.cpu_share import threads_per_worker, usable_cpus
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.modes import SequenceHeaders, read_mode
from flambeau_runtime.serving.spawn import Birth, Spawner
from flambeau_runtime.serving.swap import Allotment, Crew, allot
from flambeau_runtime.serving.template_link import TemplateLink
from flambeau_runtime.serving.worker_place import Site, WorkerPlace
from flambeau_runtime.serving.worker_state import WorkerState
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import DEFAULT_VERSION, Telemetry

NO_ERROR = (None, None, None)
PRELOAD_ANYWAY_S = 5.0
"""Without any version for so long, torch is imported for whatever comes."""


def without_hidden(environment: Mapping[str, str], hidden: str | None) -> dict[str, str]:
    """Return what workers may see.

    No variable whose whole name matches the expression, and none that opens the sources of
    archives: a handler is code from there.
    """
    return {
        name: value
        for name, value in environment.items()
        if not credentials.is_hidden(name) and not (hidden and re.fullmatch(hidden, name))
    }


class Supervisor:
    """Async context manager around all workers of this process.

    Entering starts the template process, which imports torch beside everything else once a version
    wants it, or when none is known after a while: a long download, or nobody's wish yet. Leaving
    drains every version, or kills the workers when an error is on its way.

    `changed` holds callbacks without arguments, called whenever any fact about any worker changes.
    `expected_workers` is how many workers there will be at least (all versions together): a worker
    gets its share of the CPUs when it starts, so say it before the first version is added.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.changed: list[Callable[[], None]] = []
        self.expected_workers = 0
        self._settings = settings
        self._telemetry = telemetry
        seen = os.environ if environment is None else environment
        self._environment = without_hidden(seen, settings.hidden_env)
        self._environment |= worker_environment.told(settings)
        self._lives: list[LiveVersion] = []
        self._sites: dict[LiveVersion, Site] = {}
        self._bounds: Mapping[str, int] = {}
        self._crews: dict[LiveVersion, Crew] = {}
        self._oom_kills = memory.oom_kills()
        self._sequence_headers = SequenceHeaders(
            settings.sequence_id_header,
            settings.sequence_start_header,
            settings.sequence_end_header,
        )
        self._numbers = count(settings.first_worker_id)
        self._tasks = asyncio.TaskGroup()
        self._template: TemplateLink | None = None
        self._template_tasks: list[asyncio.Task[None]] = []
        self._spawner = Spawner(self._environment, None)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        # Forking is for the CPU: a library that sees a device may touch it when it is imported.
        if self._settings.preload_torch and self._may_fork:
            threads = threads_per_worker(usable_cpus(), workers=1)
            self._template = TemplateLink(
                worker_environment.for_template(self._environment, threads)
            )
            self._template.start()
            self._template_tasks = [
                self._tasks.create_task(self._template.run()),
                self._tasks.create_task(self._preload_for_the_unknown(self._template)),
            ]
        self._spawner = Spawner(self._environment, self._template)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        timeout_s = 0.0 if error else self._settings.limits.drain_timeout_s
        try:
            async with asyncio.TaskGroup() as draining:
                for live in self._lives:
                    draining.create_task(live.drain(timeout_s))
        finally:
            for live in self._lives:  # none has workers left but when the draining was cancelled
                live.abandon()
            for task in self._template_tasks:
                task.cancel()
            # An error of the caller's own is not wrapped into the group of the workers' tasks.
            cancelled = isinstance(error, asyncio.CancelledError)
            await self._tasks.__aexit__(*((kind, error, traceback) if cancelled else NO_ERROR))

    def add(self, spec: VersionSpec, package: Package) -> LiveVersion:
        """Bring a version to life: its queue opens and `spec.workers` workers start."""
        counters = Counters(
            self._telemetry.asked_of(spec.model, spec.version),
            self._telemetry.asked_of(spec.model, DEFAULT_VERSION),
            self._telemetry.recorder,
        )
        live = LiveVersion(
            spec,
            package,
            self._employ,
            self._tell,
            counters,
            self._sequence_headers,
        )
        live.allot = self._allot
        live.scales = self._settings.managed is not None  # as in TorchServe, verbs scale nothing
        self._sites[live] = self._site(live)
        self._lives.append(live)
        if self._template is not None and _wants_torch(spec, package):
            self._template.preload()
        live.apply(spec)
        return live

    async def remove(self, live: LiveVersion, timeout_s: float | None = None) -> None:
        """Drain a version (default: the settings' drain timeout) and forget it."""
        limit_s = self._settings.limits.drain_timeout_s if timeout_s is None else timeout_s
        await live.drain(limit_s)
        if live in self._lives:
            self._lives.remove(live)
            del self._sites[live]
            self._crews.pop(live, None)
            self._tell()  # its places are free

    def bound(self, capacities: Mapping[str, int]) -> None:
        """Let the models named here have at most so many workers in all their versions."""
        if capacities == self._bounds:
            return
        self._bounds = dict(capacities)
        for live in tuple(self._lives):
            live.changed()

    async def settle(self, timeout_s: float) -> None:
        """Have every idle worker say what its handler has measured, or wait no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as asking:
                for place in self._places():
                    asking.create_task(place.settle())

    def pids(self) -> tuple[int, ...]:
        """Process ids of all workers that exist now."""
        return tuple(place.pid for place in self._places() if place.pid is not None)

    def serving_pids(self) -> tuple[int, ...]:
        """Process ids of the workers that have loaded what they serve."""
        ready = (place for place in self._places() if place.state is WorkerState.READY)
        return tuple(place.pid for place in ready if place.pid is not None)

    @property
    def template_pid(self) -> int | None:
        """The process that workers are forked from, if there is one now."""
        return None if self._template is None else self._template.pid

    @property
    def template_ready(self) -> bool:
        """Whether the template has imported everything."""
        return self._template is not None and self._template.ready

    async def _preload_for_the_unknown(self, template: TemplateLink) -> None:
        await asyncio.sleep(PRELOAD_ANYWAY_S)
        if not self._lives:
            template.preload()

    @property
    def lives(self) -> tuple[LiveVersion, ...]:
        """Every version that has workers or gets some."""
        return tuple(self._lives)

    def _places(self) -> list[WorkerPlace]:
        return [place for live in self._lives for place in live.places]

    def _tell(self) -> None:
        self._tell_siblings()
        for callback in self.changed:
            callback()

    def _tell_siblings(self) -> None:
        """Let versions that share a bound look again when one of them has other workers now."""
        for live in self._lives:
            crew = live.crew()
            if live.spec.model in self._bounds and self._crews.get(live) != crew:
                for other in self._lives:
                    if other is not live and other.spec.model == live.spec.model:
                        other.changed()
            self._crews[live] = crew

    def _allot(self, live: LiveVersion) -> Allotment:
        capacity = self._bounds.get(live.spec.model)
        if capacity is None:
            return Allotment(live.wanted)
        crews = [it for it in self._lives if it.spec.model == live.spec.model]
        return allot([it.crew() for it in crews], crews.index(live), capacity)

    def _ran_out_of_memory(self) -> bool:
        """Return whether the kernel has killed one more process than was known."""
        counted = memory.oom_kills()
        known, self._oom_kills = self._oom_kills, min(self._oom_kills + 1, counted)
        return counted > known

    def _employ(self, live: LiveVersion) -> WorkerPlace:
        config = read_model_config(live.package.config)
        allowed = placement.permitted(self._settings.devices, config)
        taken = Counter(device for place in self._places() for device in place.devices)
        devices = placement.least_loaded(allowed, taken, config.devices_per_worker)
        place = WorkerPlace(next(self._numbers), live.spec, devices, self._sites[live])
        self._tasks.create_task(place.run(), name=place.name)
        return place

    def _site(self, live: LiveVersion) -> Site:
        return Site(
            queue=live.queue,
            mode=live.mode,
            spawner=self._spawner,
            telemetry=self._telemetry,
            measured=partial(self._measured, live),
            load_message=partial(self._load_message, live.package),
            birth=partial(self._birth, live.package),
            changed=live.changed,
            forgive=live.forgive,
            ran_out_of_memory=self._ran_out_of_memory,
            max_response_bytes=self._settings.limits.max_response_bytes,
            retry_window_s=read_model_config(live.package.config).max_retry_timeout_s,
        )

    def _measured(self, live: LiveVersion, updates: list[Any]) -> None:
        if not live.listens_only:
            self._telemetry.handler_measured(updates)

    def _birth(
        self, package: Package, spec: VersionSpec, devices: tuple[int, ...], name: str
    ) -> Birth:
        # What may come when requests wait has its share from the start: threads are for life.
        planned = sum(live.most for live in self._lives)
        share = threads_per_worker(usable_cpus(), max(planned, self.expected_workers))
        threads = worker_environment.thread_count(self._environment, share)
        own = package.environment
        return Birth(
            name=name,
            directory=str(package.directory),
            wants_torch=_wants_torch(spec, package),
            additions=worker_environment.for_sequences(self._environment, self._sequence_headers)
            | worker_environment.additions(
                self._environment,
                spec.env,
                threads,
                {**self._visible(package, devices), **worker_environment.packages(own)},
            ),
            threads=threads,
            may_fork=not spec.env and self._may_fork and (own is None or own.suits_a_fork),
            python=str(own.python) if own and own.python else sys.executable,
        )

    @property
    def _may_fork(self) -> bool:
        return worker_environment.may_fork_beside(self._environment, self._settings.devices)

    def _visible(self, package: Package, devices: tuple[int, ...]) -> Mapping[str, str]:
        """Return the variables that show a worker its own devices; none where it may see all."""
        if not self._settings.devices or not self._sees_its_own(package):
            return {}
        return worker_environment.visibility(self._environment, devices)

    def _sees_its_own(self, package: Package) -> bool:
        # TorchServe, too, shows a worker of several devices no others.
        several = read_model_config(package.config).parallel_level > 0
        return several or self._settings.device_visibility != "all"

    def _load_message(
        self, package: Package, spec: VersionSpec, devices: tuple[int, ...]
    ) -> dict[str, Any]:
        device = devices[0] if devices else None
        own = device is not None and self._sees_its_own(package)
        mode = read_mode(package.config)
        return {
            "model": spec.model,
            "version": spec.version,
            "modelDir": str(package.directory),
            "manifest": dict(package.manifest),
            "handler": spec.handler or package.handler,
            "modelConfig": dict(package.config),
            "batchSize": spec.batching.max_size,
            "splitJsonArrays": spec.split_json_arrays,
            "continuousBatching": mode.continuous,
            "asyncCommunication": mode.concurrent,
            "gpuId": 0 if own else device,
            "deviceType": "cpu" if device is None else "gpu",
            "decodeInputRequest": self._settings.decode_input_request,
            "limitMaxImagePixels": self._settings.limit_max_image_pixels,
            "envelope": self._settings.envelope,
            "maxResponseBytes": self._settings.limits.max_response_bytes,
            "everyMeasurement": self._telemetry.recorder is not None,
        }


def _wants_torch(spec: VersionSpec, package: Package) -> bool:
    return torch_need.wants_torch(package.directory, spec.handler or package.handler)
