"""Turns what is wanted into what is: asks `plan_steps` again and again, and carries it out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from flambeau_runtime.archive.package import Package
from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import (
    LoadFailed,
    ModelNotFound,
    RuntimeFault,
    VersionNotFound,
)
from flambeau_runtime.serving import memory, warmup
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.desired import Document, Swap, VersionSpec
from flambeau_runtime.serving.entry import Entry
from flambeau_runtime.serving.failures import error_of, failure_of
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.steps import (
    ARRIVED,
    Apply,
    Fetch,
    Key,
    Load,
    Retire,
    SetAway,
    SetDefault,
    Stage,
    Step,
    Warm,
    every_version,
    plan_steps,
)
from flambeau_runtime.serving.supervisor import Supervisor
from flambeau_runtime.serving.swap import capacity_of

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""How long a failed version waits for its next attempt; the last one repeats."""

PROGRESS_EVERY_S = 0.5
"""A download shows its progress at most this often, so that long polls are not woken per chunk."""

NO_ERROR = (None, None, None)


class Converger:
    """Async context manager; owns the task that converges and the tasks that fetch, warm and drain.

    Enter it after the supervisor and leave it before: leaving stops converging, workers stay.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        supervisor: Supervisor,
        store: Store,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        swap_delay_s: float = 0.0,
        shortage: Callable[[VersionSpec, LiveVersion], Awaitable[str | None]] | None = None,
    ) -> None:
        """Build; nothing runs yet.

        Args:
            catalogue: what is wanted and what exists.
            supervisor: of the workers.
            store: of the archives.
            retry_delays_s: how long a failed version waits for its next attempt.
            swap_delay_s: how long requests are answered after this runtime has become unready
                because an old version has to go before the new one may come.
            shortage: says why there is no memory for a version beside the one that serves; None if
                there is.
        """
        self.catalogue = catalogue
        self._supervisor = supervisor
        self._store = store
        self._retry_delays_s = retry_delays_s
        self._swap_delay_s = swap_delay_s
        self._shortage = shortage
        self._cautious = False
        self._awake = asyncio.Event()
        self._looked = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._discarding: set[Key] = set()  # unloaded, and their files not deleted yet

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._supervisor.changed.append(self._awake.set)
        self._main = self._start(self._converge())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._supervisor.changed.remove(self._awake.set)
        for task in self._running:
            task.cancel()
        # An error of the caller's own is not wrapped into the group of these tasks.
        cancelled = isinstance(error, asyncio.CancelledError)
        await self._tasks.__aexit__(*((kind, error, traceback) if cancelled else NO_ERROR))

    def want(self, document: Document, *, cautious: bool = False) -> None:
        """Replace the wish; `cautious` (a boot) lets candidates wait until the defaults serve."""
        self._retry_in_another_way(document)
        self.catalogue.wanted = document
        self._cautious = self.catalogue.cautious = cautious
        capacities = {it.name: bound for it in document.models if (bound := capacity_of(it))}
        self._supervisor.bound(capacities)
        self.catalogue.touch()
        self._awake.set()

    def _retry_in_another_way(self, document: Document) -> None:
        """Try at once what failed, where the swap is another one: now there may be room for it."""
        before = {model.name: model.swap for model in self.catalogue.wanted.models}
        for model in document.models:
            for (name, _), entry in self.catalogue.entries.items():
                if name == model.name and before.get(name, model.swap) is not model.swap:
                    entry.retry_at = 0.0

    async def settled(self, model: str, version: str, timeout_s: float) -> bool:
        """Wait until the version is as wanted; return whether it is in time.

        Raises:
            LoadFailed: it failed (and is retried as long as it stays wanted).
            VersionNotFound, ModelNotFound: it is not wanted any more.
        """
        return await self._until(lambda: self._is_settled(model, version), timeout_s)

    async def gone(self, model: str, version: str | None, timeout_s: float) -> bool:
        """Wait until a version (None: every version) that is not wanted any more is unloaded."""
        return await self._until(
            lambda: (
                not any(
                    name == model and version in {None, known}
                    for name, known in (*self.catalogue.entries, *self._discarding)
                )
            ),
            timeout_s,
        )

    async def _until(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while not reached():
                    await self._looked.wait()
        except TimeoutError:
            return False
        return True

    def _is_settled(self, model: str, version: str) -> bool:
        spec = self._wanted(model, version)
        entry = self.catalogue.entries.get((model, version))
        if entry is None or entry.spec != spec:
            return False
        if entry.failed and entry.failure is not None:
            raise error_of(entry.failure)
        if entry.stage() not in ARRIVED or entry.live is None:
            return False
        return entry.live.counts().ready >= spec.workers

    def _wanted(self, model: str, version: str) -> VersionSpec:
        wanted = self.catalogue.model(model)
        if wanted is None:
            raise ModelNotFound(model)
        for spec in wanted.versions:
            if spec.version == version:
                return spec
        raise VersionNotFound(model, version)

    async def _converge(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._awake.clear()
            # Steps are immediate (what takes time goes on in a task), so the next answer is asked
            # for at once: no await lies between two looks, and observers see the end only.
            while steps := self._plan(now := loop.time()):
                for step in steps:
                    self._carry_out(step)
            self.catalogue.touch()
            self._looked.set()
            self._looked = asyncio.Event()
            await self._wait_until(self._next_moment(now))

    def _plan(self, now: float) -> tuple[Step, ...]:
        facts = self.catalogue.facts(now, cautious=self._cautious)
        return plan_steps(self.catalogue.wanted, facts)

    def _next_moment(self, now: float) -> float | None:
        """Return when to look again though nobody calls: a retry is due, a delay is over."""
        due = [entry.retry_at for entry in self.catalogue.entries.values() if entry.failed]
        due += [moment for moment in self.catalogue.leaving.values() if moment > now]
        return min(due, default=None)

    async def _wait_until(self, moment: float | None) -> None:
        try:
            async with asyncio.timeout_at(moment):
                await self._awake.wait()
        except TimeoutError:
            pass

    def _carry_out(self, step: Step) -> None:
        match step:
            case Fetch(spec):
                self._fetch(spec)
            case Load(spec):
                self._load(spec)
            case Warm(spec):
                self._warm(spec)
            case Apply(spec):
                self._apply(spec)
            case SetDefault(model, version):
                self._set_default(model, version)
            case Retire(model, version):
                self._retire((model, version))
            case SetAway(model, away):
                self._set_away(model, away=away)

    def _fetch(self, spec: VersionSpec) -> None:
        key = (spec.model, spec.version)
        before = self.catalogue.entries.get(key)
        entry = self.catalogue.entries[key] = Entry(spec)
        if before is not None and before.spec == spec:
            entry.failure = before.failure
        self._begin(entry, self._bring)

    async def _bring(self, entry: Entry) -> None:
        source = entry.spec.source
        progress = self._progress(entry)
        path = await self._store.fetch(source.uri, source.digest, progress, source.credentials)
        entry.verifying = True
        self.catalogue.touch()
        try:
            package = await self._store.open(
                path,
                source.digest,
                model=entry.spec.model,
                version=entry.spec.version,
                handler=entry.spec.handler,
            )
        finally:
            entry.verifying = False
        entry.fetched_bytes = package.size_bytes
        try:
            await self._refuse_without_room(entry.spec)
        finally:
            entry.package = package

    async def _refuse_without_room(self, spec: VersionSpec) -> None:
        """Refuse what has no room beside the version that serves, rather than have both killed.

        TorchServe's verbs try it all the same, as theirs do: who uses them is there to see.
        """
        if self.catalogue.wanted.owner is None:
            return
        model = self.catalogue.model(spec.model)
        serving = self.catalogue.defaults.get(spec.model)
        if model is None or model.swap is not Swap.SIDE_BY_SIDE or self._shortage is None:
            return
        if serving is None or serving == spec.version:
            return
        live = self.catalogue.live(spec.model, serving)
        if live is None:
            return
        if why := await self._shortage(spec, live):
            raise LoadFailed("InsufficientMemory", why)

    def _progress(self, entry: Entry) -> Callable[[int, int | None], None]:
        loop = asyncio.get_running_loop()
        shown_at = -PROGRESS_EVERY_S

        def show(so_far: int, in_all: int | None) -> None:
            nonlocal shown_at
            entry.fetched_bytes, entry.total_bytes = so_far, in_all
            if loop.time() - shown_at >= PROGRESS_EVERY_S or so_far == in_all:
                shown_at = loop.time()
                self.catalogue.note_progress()

        return show

    def _load(self, spec: VersionSpec) -> None:
        entry = self.catalogue.entries[spec.model, spec.version]
        if entry.package is None:
            return
        entry.spec = spec
        with self._failing(entry):
            entry.live = self._supervisor.add(spec, entry.package)

    def _apply(self, spec: VersionSpec) -> None:
        entry = self.catalogue.entries[spec.model, spec.version]
        if entry.live is None:
            return
        with self._failing(entry):
            entry.live.apply(spec)
        entry.spec = spec
        # Workers that start after a rest are as cold as those of a new version.
        entry.warm = entry.live.warm = entry.warm and spec.workers > 0

    def _warm(self, spec: VersionSpec) -> None:
        entry = self.catalogue.entries[spec.model, spec.version]
        if entry.live is None:
            return
        if not spec.warmup:
            self._arrived(entry)
            return
        entry.warming = True
        self._begin(entry, self._send_warmup)

    async def _send_warmup(self, entry: Entry) -> None:
        if entry.live is None:
            return
        killed = memory.oom_kills()
        try:
            await warmup.send(entry.live, entry.spec)
        except LoadFailed as fault:
            if memory.oom_kills() > killed:
                raise LoadFailed("OutOfMemory", f"{fault}: the kernel found no memory") from fault
            raise
        finally:
            entry.warming = False
        self._arrived(entry)

    def _arrived(self, entry: Entry) -> None:
        entry.warm = True
        if entry.live is not None:
            entry.live.warm = True
        entry.failure = None
        log.info("version is ready", extra=_named(entry.spec))

    def _set_default(self, model: str, version: str | None) -> None:
        before = self.catalogue.defaults.pop(model, None)
        if version is not None:
            self.catalogue.defaults[model] = version
        log.info(
            "default version moved", extra={"model": model, "version": version, "before": before}
        )

    def _set_away(self, model: str, *, away: bool) -> None:
        if not away:
            del self.catalogue.leaving[model]
            log.info("is back in its services", extra={"model": model})
            return
        until = asyncio.get_running_loop().time() + self._swap_delay_s
        self.catalogue.leaving[model] = until
        log.info(
            "leaves its services: the old version goes before the new one comes",
            extra={"model": model, "answers_on_for_s": self._swap_delay_s},
        )

    def _retire(self, key: Key) -> None:
        entry = self.catalogue.entries[key]
        if entry.stage() is Stage.BROKEN and not entry.failed and entry.live is not None:
            self._note_failure(entry, error_of(entry.live.last_failure()))
        if entry.task is not None:
            entry.task.cancel()
        entry.draining = True
        log.info("version is being unloaded", extra=_named(entry.spec))
        entry.task = self._start(self._unload(key, entry))

    async def _unload(self, key: Key, entry: Entry) -> None:
        if entry.live is not None:
            with self._failing(entry):
                # Nothing that a failed version has queued can be answered.
                await self._supervisor.remove(entry.live, self._drain_s(entry))
        entry.live = None
        entry.draining = False
        wanted = {(spec.model, spec.version) for spec in every_version(self.catalogue.wanted)}
        if not entry.failed or key not in wanted:
            del self.catalogue.entries[key]
            self._discarding.add(key)
            try:
                await self._discard(entry)
            finally:
                self._discarding.discard(key)
        self._awake.set()

    def _drain_s(self, entry: Entry) -> float | None:
        if entry.failed:
            return 0.0
        model = self.catalogue.model(entry.spec.model)
        return None if model is None else model.drain_s

    async def _discard(self, gone: Entry) -> None:
        """Delete the extracted files, unless another version uses them or may be about to."""
        package = gone.package
        if package is None or any(
            entry.stage() is Stage.FETCHING or _shares(entry.package, package)
            for entry in self.catalogue.entries.values()
        ):
            return
        if any(_shares_environment(it.package, package) for it in self.catalogue.entries.values()):
            package = replace(package, environment=None)  # that stays
        try:
            await self._store.remove(package)
        except (OSError, RuntimeFault) as error:
            log.warning("package was not removed", extra={"why": str(error)})

    def _begin(self, entry: Entry, work: Callable[[Entry], Awaitable[None]]) -> None:
        entry.task = self._start(self._guarded(entry, work))

    async def _guarded(self, entry: Entry, work: Callable[[Entry], Awaitable[None]]) -> None:
        with self._failing(entry):
            await work(entry)
        self._awake.set()

    @contextmanager
    def _failing(self, entry: Entry) -> Iterator[None]:
        """Turn whatever goes wrong inside into a failure of this version alone."""
        try:
            yield
        except RuntimeFault as fault:
            self._note_failure(entry, fault)
        except Exception as error:  # one version's trouble must not stop the others
            log.exception("version met an unexpected error", extra=_named(entry.spec))
            self._note_failure(entry, error)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _note_failure(self, entry: Entry, error: Exception) -> None:
        attempts = 1 if entry.failure is None else entry.failure.attempts + 1
        delay_s = self._retry_delays_s[min(attempts, len(self._retry_delays_s)) - 1]
        failure = failure_of(error, entry.live, attempts)
        entry.failure, entry.failed = failure, True
        entry.retry_at = asyncio.get_running_loop().time() + delay_s
        log.warning(
            "version failed",
            extra={
                **_named(entry.spec),
                "reason": failure.reason,
                "why": failure.message,
                "attempts": attempts,
                "retry_in_s": delay_s,
            },
        )


def _shares(one: Package | None, other: Package) -> bool:
    return one is not None and one.directory == other.directory


def _shares_environment(one: Package | None, other: Package) -> bool:
    return one is not None and one.environment == other.environment


def _named(spec: VersionSpec) -> dict[str, str]:
    return {"model": spec.model, "version": spec.version}
