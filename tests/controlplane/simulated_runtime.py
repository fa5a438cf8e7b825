"""One runtime as the operator knows it, without a process: documents go in, facts come out.

It keeps what the runtime promises. The fence; the boot file and the caution after a boot; weights
only for what is ready, and the rest for the default; a swap side by side, worker by worker or one
version after the other; windows of counts that are lost with the process. How a version behaves is
told by its archive's address (`Conduct`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from flambeau_operator.resources.observed import PodFacts, Trouble
from flambeau_operator.resources.pod_state import (
    Document,
    Failure,
    LatencyCounts,
    ModelEntry,
    ModelState,
    PodMemory,
    PodState,
    Swap,
    VersionEntry,
    VersionMemory,
    VersionPhase,
    VersionState,
    Window,
    WorkerCounts,
)
from flambeau_operator.resources.pod_state_json import document_from_json, document_to_json
from tests.builders import NOON, UID

NEXT = {
    VersionPhase.PENDING: VersionPhase.FETCHING,
    VersionPhase.FETCHING: VersionPhase.VERIFYING,
    VersionPhase.VERIFYING: VersionPhase.LOADING,
    VersionPhase.LOADING: VersionPhase.WARMING,
    VersionPhase.WARMING: VersionPhase.READY,
}
DONE = {VersionPhase.READY, VersionPhase.FAILED}
HOLDS_MEMORY = {VersionPhase.LOADING, VersionPhase.WARMING, VersionPhase.READY}
MIB: Final = 2**20
PER_DECADE: Final = 24
DECADES: Final = 6
STARTUP_STEPS: Final = 150
"""How long a version may take to load, before the runtime gives it up."""

BOOM = Failure("InitializeFailed", "boom", "last line")


def _bounds() -> tuple[float, ...]:
    """Return bounds from 0.1 ms to 100 s, log-spaced between 1, 2, 5 and 10 of each decade."""
    parts = ((1.0, 2.0, 7), (2.0, 5.0, 10), (5.0, 10.0, 7))
    within = [a * (b / a) ** (i / n) for a, b, n in parts for i in range(n)]
    decades = [0.1 * 10**decade * each for decade in range(DECADES) for each in within]
    return (*(round(each, 6) for each in decades), 100_000.0)


BOUNDS_MS: Final = _bounds()


class FenceBroken(AssertionError):
    """The operator sent a document that a pod must refuse."""


class ContentChanged(AssertionError):
    """The operator named other content for a version that serves: a pod answers 422."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a version behaves in every pod."""

    fails_in: VersionPhase | None = None  # the phase that it does not survive
    failure: Failure = BOOM
    stays_in: VersionPhase | None = None  # the phase that it does not leave in time
    errs: float = 0.0  # share of its answers that are its workers' errors
    latency_ms: float = 10.0
    kills_worker: float = 0.0  # share of its requests that cost a worker its life
    kills_pod: bool = False  # it takes the whole container down when it has its first request
    differs: float = 0.0  # share of its answers to copies that are not the default version's
    worker_bytes: int = 100 * MIB


WELL_BEHAVED: Final = Conduct()
ConductOf = Callable[[str], Conduct]


@dataclass
class Counts:
    """What a version did since the window of its model changed."""

    requests: int = 0
    errors: int = 0
    restarts: int = 0
    copies: int = 0
    different: int = 0
    latencies: dict[int, int] = field(default_factory=dict)  # bucket → answers

    def latency(self) -> LatencyCounts:
        counts = [0] * (len(BOUNDS_MS) + 1)
        for bucket, answers in self.latencies.items():
            counts[bucket] = answers
        return LatencyCounts(BOUNDS_MS, tuple(counts))


@dataclass
class Shares:
    """Deals out whole requests by shares, so that what is left over counts the next time."""

    owed: dict[object, float] = field(default_factory=dict)

    def take(self, what: object, amount: float) -> int:
        owed = self.owed.get(what, 0.0) + amount
        whole = int(owed + 1e-9)
        self.owed[what] = owed - whole
        return whole


@dataclass
class Loaded:
    """One version inside a simulated pod."""

    entry: VersionEntry
    phase: VersionPhase = VersionPhase.PENDING
    failure: Failure = BOOM
    workers: int = 0
    restarts: int = 0
    stuck: int = 0  # steps that it has been in one phase
    counts: Counts = field(default_factory=Counts)

    @property
    def ready(self) -> bool:
        return self.phase is VersionPhase.READY and self.workers > 0


@dataclass
class SimulatedPod:
    """One runtime."""

    name: str
    template_hash: str
    desired: Document | None = None
    silent: bool = False
    silent_passes: int = 0
    probed: bool = False  # somebody looks whether it is ready, and says so even if it is silent
    started_at: datetime = NOON - timedelta(hours=1)
    restarts: int = 0
    terminating: bool = False
    running: bool = True
    cautious: bool = False
    drain_steps: int = 0  # that a version takes to leave, and a pod to leave the Service
    limit_bytes: int | None = None  # what its control group allows; None: not measured
    workers_to_come: int = 0  # of each version that is ready
    trouble: Trouble | None = None  # why it does not run
    failure: Failure | None = None  # of versions that fail, instead of their conduct's
    loaded: dict[tuple[str, str], Loaded] = field(default_factory=dict)
    defaults: dict[str, str | None] = field(default_factory=dict)
    windows: dict[str, str | None] = field(default_factory=dict)
    leaving: dict[tuple[str, str], int] = field(default_factory=dict)  # steps until it is gone
    out_of_service: dict[str, int] = field(default_factory=dict)  # model → steps it still answers
    shares: Shares = field(default_factory=Shares)

    # what happens to it

    def boot(self, committed: Document | None) -> None:
        """Start (again): the newer of the kept document and the mounted file."""
        self.loaded, self.defaults, self.leaving, self.out_of_service = {}, {}, {}, {}
        self.shares, self.cautious = Shares(), True
        self.see(committed)
        models = self.desired.models if self.desired else ()
        self.windows = {model.name: model.window for model in models}

    def see(self, committed: Document | None) -> None:
        """Adopt the mounted file if it is newer."""
        kept = self.desired
        if committed and (kept is None or committed.sequence > kept.sequence):
            self.cautious = True
            self._want(committed)

    def refuses(self, document: Document) -> bool:
        """Tell whether the fence keeps a document out."""
        held = self.desired
        if held is None:
            return False
        if document.owner.uid != held.owner.uid or document.sequence < held.sequence:
            return True
        return document.sequence == held.sequence and document != held

    def put(self, document: Document) -> None:
        """Take a document, or refuse it as the fence demands."""
        document = document_from_json(document_to_json(document))
        if self.desired and (self.refuses(document) or document.sequence == self.desired.sequence):
            raise FenceBroken(f"{self.name}: {document.sequence} <= {self.desired.sequence}")
        if changed := self._changed_content(document):
            raise ContentChanged(f"{self.name}: {changed} serves something else")
        self.cautious = False
        self._want(document)

    def _want(self, document: Document) -> None:
        self.desired = document
        for model in document.models:
            if self.windows.get(model.name) != model.window:
                self.windows[model.name] = model.window
                for (name, _), loaded in self.loaded.items():
                    if name == model.name:
                        loaded.counts = Counts()
        self._leave_the_service()

    def _changed_content(self, document: Document) -> tuple[str, str] | None:
        """Return the first version that serves now, and is asked for from somewhere else."""
        for model in document.models:
            for each in model.versions:
                loaded = self.loaded.get((model.name, each.version))
                if loaded and loaded.ready and not _same_content(loaded.entry, each):
                    return model.name, each.version
        return None

    def lose_a_worker(self, model: str, version: str) -> None:
        """Let one worker die; another one starts in its place."""
        if (loaded := self.loaded.get((model, version))) and loaded.workers:
            loaded.restarts += 1
            loaded.counts.restarts += 1

    def give_up(self, model: str, version: str) -> None:
        """Let a version crash until the runtime stops trying."""
        if loaded := self.loaded.get((model, version)):
            loaded.phase, loaded.workers, loaded.failure = VersionPhase.FAILED, 0, CRASH_LOOP

    def advance(self, conduct_of: ConductOf) -> None:
        """Let every version take one step: defaults first, then candidates."""
        wanted = self._wanted()
        self._switch_defaults()
        self._leave_the_service()
        for key, loaded in list(self.loaded.items()):
            if key not in wanted or wanted[key][1].source != loaded.entry.source:
                self._unload(key, named=key[0] in {name for name, _ in wanted})
        settled = self._defaults_settled()
        for key, (model, entry) in wanted.items():
            if key in self.leaving:
                self._wait_until_gone(key)
            elif key not in self.loaded:
                self._begin(key, model, entry)
            elif model.default == entry.version or settled:
                self._bring_on(key, model, entry, conduct_of)
        for model in self.desired.models if self.desired else ():
            self._trade_workers(model)
        self._switch_defaults()

    def _begin(self, key: tuple[str, str], model: ModelEntry, entry: VersionEntry) -> None:
        if not self._waits_for_room(model):
            self.loaded[key] = Loaded(entry)

    def _wanted(self) -> dict[tuple[str, str], tuple[ModelEntry, VersionEntry]]:
        return {
            (model.name, entry.version): (model, entry)
            for model in (self.desired.models if self.desired else ())
            for entry in model.versions
        }

    def _unload(self, key: tuple[str, str], *, named: bool) -> None:
        """Let a version go that nothing names; the one that answers goes last."""
        model, version = key
        answers = self.defaults.get(model) == version
        if answers and named and self.out_of_service.get(model) != 0:
            return
        if answers:
            self.defaults[model] = None
            if not named:
                del self.defaults[model]
            self.out_of_service.pop(model, None)
        self.leaving.setdefault(key, self.drain_steps)
        self._wait_until_gone(key)

    def _wait_until_gone(self, key: tuple[str, str]) -> None:
        if self.leaving[key] == 0:
            del self.loaded[key], self.leaving[key]
        else:
            self.leaving[key] -= 1
            self.loaded[key].phase = VersionPhase.DRAINING

    def _leave_the_service(self) -> None:
        """Count down what a swap one after the other leaves to the version that still answers."""
        for model in self.desired.models if self.desired else ():
            answers = self.defaults.get(model.name)
            if model.swap is not Swap.RECREATE or answers in {None, model.default}:
                self.out_of_service.pop(model.name, None)
            elif model.version(answers) is None:
                steps = self.out_of_service.get(model.name, self.drain_steps + 1)
                self.out_of_service[model.name] = max(0, steps - 1)

    def _waits_for_room(self, model: ModelEntry) -> bool:
        """Tell whether a swap one after the other has not come to the new version yet."""
        old_is_here = any(
            name == model.name and model.version(version) is None for name, version in self.loaded
        )
        return model.swap is Swap.RECREATE and old_is_here

    def _bring_on(
        self, key: tuple[str, str], model: ModelEntry, entry: VersionEntry, conduct_of: ConductOf
    ) -> None:
        loaded = self.loaded[key]
        if loaded.phase is VersionPhase.FAILED and loaded.entry != entry:
            if _without_traffic(loaded.entry) == _without_traffic(entry):
                loaded.entry = entry
                return
            loaded.phase = VersionPhase.PENDING
        loaded.entry = entry
        conduct = conduct_of(entry.source.uri)
        if loaded.phase is VersionPhase.VERIFYING and not self._may_load(key, model, conduct_of):
            return
        if self._goes_no_further(loaded, conduct):
            return
        loaded.phase = NEXT.get(loaded.phase, loaded.phase)
        if loaded.phase is VersionPhase.LOADING and not loaded.workers:
            loaded.workers = 1
        if loaded.phase is VersionPhase.READY and model.swap is not Swap.WORKER_BY_WORKER:
            loaded.workers = max(1, entry.workers)

    def _goes_no_further(self, loaded: Loaded, conduct: Conduct) -> bool:
        stays, fails = loaded.phase is conduct.stays_in, loaded.phase is conduct.fails_in
        loaded.stuck += stays
        if fails:
            loaded.phase, loaded.failure = VersionPhase.FAILED, self.failure or conduct.failure
        elif loaded.stuck >= STARTUP_STEPS:
            loaded.phase, loaded.failure = VersionPhase.FAILED, TOO_SLOW
        return stays or fails

    def _may_load(self, key: tuple[str, str], model: ModelEntry, conduct_of: ConductOf) -> bool:
        """Say whether there is room; a version that could not fit gives up by itself."""
        loaded = self.loaded[key]
        if model.swap is Swap.WORKER_BY_WORKER and not self._room_for_a_worker(model):
            return False
        needed = self._conduct(loaded, conduct_of).worker_bytes * max(1, loaded.entry.workers)
        if model.swap is Swap.WORKER_BY_WORKER:
            needed //= max(1, loaded.entry.workers)
        free = self._available(conduct_of)
        if free is None or needed <= free:
            return True
        sibling = max(
            (
                self._conduct(other, conduct_of).worker_bytes
                for (name, version), other in self.loaded.items()
                if name == key[0] and version != key[1] and other.phase in HOLDS_MEMORY
            ),
            default=0,
        )
        told_before = sibling * max(1, loaded.entry.workers) > free
        loaded.phase = VersionPhase.FAILED
        loaded.failure = NO_ROOM if told_before else KILLED
        return False

    def _conduct(self, loaded: Loaded, conduct_of: ConductOf) -> Conduct:
        return conduct_of(loaded.entry.source.uri)

    def _available(self, conduct_of: ConductOf) -> int | None:
        if self.limit_bytes is None:
            return None
        held = sum(
            each.workers * self._conduct(each, conduct_of).worker_bytes
            for each in self.loaded.values()
        )
        return self.limit_bytes - held

    def _room_for_a_worker(self, model: ModelEntry) -> bool:
        held = sum(each.workers for (name, _), each in self.loaded.items() if name == model.name)
        return held < sum(each.workers for each in model.versions)

    def _trade_workers(self, model: ModelEntry) -> None:
        """Let one worker go and another one come, never more than all versions shall have."""
        if model.swap is not Swap.WORKER_BY_WORKER:
            return
        here = [each for (name, _), each in self.loaded.items() if name == model.name]
        for each in here:
            if each.workers > each.entry.workers:
                each.workers -= 1
                return
        for each in here:
            grows = each.phase is VersionPhase.READY and each.workers < each.entry.workers
            if grows and self._room_for_a_worker(model):
                each.workers += 1
                return

    def _switch_defaults(self) -> None:
        for model in self.desired.models if self.desired else ():
            loaded = self.loaded.get((model.name, model.default or ""))
            if loaded and loaded.ready and (model.name, model.default) not in self.leaving:
                self.defaults[model.name] = model.default
                self.out_of_service.pop(model.name, None)

    def _defaults_settled(self) -> bool:
        models = self.desired.models if self.desired else ()
        found = [self.loaded.get((m.name, m.default)) for m in models if m.default]
        return all(each is not None and each.phase in DONE for each in found)

    # requests

    def serve(self, model: str, requests: int, conduct_of: ConductOf) -> dict[str, int]:
        """Answer requests that name no version; returns how many each version got."""
        shares = self.weights(model)
        default = next(iter(shares))
        got = {
            version: self.shares.take((model, version), requests * weight / 100)
            for version, weight in shares.items()
            if version != default
        }
        got[default] = requests - sum(got.values())
        for version, number in got.items():
            self._answer(self.loaded[model, version], number, conduct_of)
        self._copy(model, got[default], conduct_of)
        return got

    def weights(self, model: str) -> Mapping[str, int]:
        """Return percent of the requests per version, the default first; empty: nobody answers."""
        entry = self.desired.model(model) if self.desired else None
        default = self._answering(model, entry)
        if default is None:
            return {}
        shares = {
            each.version: each.weight
            for each in (entry.versions if entry and not self.cautious else ())
            if each.weight and each.version not in {default, entry and entry.default}
            if (loaded := self.loaded.get((model, each.version))) and loaded.ready
            if (model, each.version) not in self.leaving
        }
        return {default: 100 - sum(shares.values()), **shares}

    def _answering(self, model: str, entry: ModelEntry | None) -> str | None:
        """Return the default: as asked for, if that is ready, else what answered before."""
        for version in (entry.default if entry else None, self.defaults.get(model)):
            loaded = self.loaded.get((model, version or ""))
            if loaded and loaded.ready and (model, version) not in self.leaving:
                return version
        return None

    def _answer(self, loaded: Loaded, number: int, conduct_of: ConductOf) -> None:
        conduct, about = self._conduct(loaded, conduct_of), loaded.entry
        if not number:
            return
        deaths = self.shares.take((about.version, "deaths"), number * conduct.kills_worker)
        errors = self.shares.take((about.version, "errors"), number * conduct.errs)
        loaded.restarts += deaths
        loaded.counts.restarts += deaths
        loaded.counts.requests += number
        loaded.counts.errors += min(number, errors + deaths)
        bucket = next(
            (i for i, b in enumerate(BOUNDS_MS) if conduct.latency_ms <= b), len(BOUNDS_MS)
        )
        spread = {bucket - 1: number // 4, bucket: number - number // 4 - number // 8}
        spread[bucket + 1] = number // 8
        for each, answers in spread.items():
            held = loaded.counts.latencies.get(each, 0)
            loaded.counts.latencies[each] = held + answers

    def _copy(self, model: str, answers: int, conduct_of: ConductOf) -> None:
        entry = self.desired.model(model) if self.desired else None
        shadow = entry.shadow if entry else None
        listens = self.loaded.get((model, shadow.version)) if shadow else None
        if shadow is None or listens is None or not listens.ready or self.cautious:
            return
        copies = self.shares.take((model, "copies"), answers * shadow.percent / 100)
        differ = copies * self._conduct(listens, conduct_of).differs
        listens.counts.copies += copies
        listens.counts.different += self.shares.take((model, "different"), differ)

    # what can be asked

    def ready(self) -> bool:
        """Whether every required model has its wanted default, or still an earlier one."""
        models = self.desired.models if self.desired else ()
        return self.desired is not None and all(
            self.weights(model.name) and model.name not in self.out_of_service
            for model in models
            if model.required
        )

    def phase(self, model: str, version: str) -> VersionPhase | None:
        loaded = self.loaded.get((model, version))
        return loaded.phase if loaded else None

    def phases(self) -> dict[tuple[str, str], tuple[VersionPhase, int]]:
        """Return how far it is with every version, and with how many workers."""
        return {key: (each.phase, each.workers) for key, each in self.loaded.items()}

    def facts(self, conduct_of: ConductOf = lambda _: WELL_BEHAVED) -> PodFacts:
        """What a pass sees of it."""
        told = None if self.silent or not self.running else self.state(conduct_of)
        return PodFacts(
            name=self.name,
            uid=self.name,
            owner_uid=UID,
            template_hash=self.template_hash,
            running=self.running,
            terminating=self.terminating,
            restarts=self.restarts,
            started_at=self.started_at,
            state=told,
            silent_passes=self.silent_passes,
            probed_ready=self.ready() if self.probed else None,
            trouble=self.trouble,
        )

    def state(self, conduct_of: ConductOf = lambda _: WELL_BEHAVED) -> PodState:
        """What it answers when it is asked."""
        names = sorted({model for model, _ in self.loaded})
        return PodState(
            process_id=f"{self.name}/{self.restarts}",
            desired=self.desired,
            ready=self.ready(),
            models=tuple(self._model_state(name, conduct_of) for name in names),
            cautious=self.cautious,
            memory=PodMemory(self.limit_bytes, self._available(conduct_of)),
        )

    def _model_state(self, name: str, conduct_of: ConductOf) -> ModelState:
        entry = self.desired.model(name) if self.desired else None
        return ModelState(
            name=name,
            required=entry.required if entry else False,
            default=self.defaults.get(name),
            ready=bool(self.weights(name)),
            versions=tuple(
                self._version_state(name, loaded, conduct_of)
                for (model, _), loaded in sorted(self.loaded.items())
                if model == name
            ),
        )

    def _version_state(self, model: str, loaded: Loaded, conduct_of: ConductOf) -> VersionState:
        version, counts, window = loaded.entry.version, loaded.counts, self.windows.get(model)
        ready = loaded.phase is VersionPhase.READY
        return VersionState(
            version=version,
            phase=loaded.phase,
            weight=self.weights(model).get(version, 0),
            workers=WorkerCounts(
                wanted=loaded.entry.workers,
                ready=loaded.workers - self.workers_to_come if ready else 0,
                starting=self.workers_to_come,
                restarts=loaded.restarts,
            ),
            digest=_digest(loaded.entry),
            bytes=1000,
            failure=loaded.failure if loaded.phase is VersionPhase.FAILED else None,
            window=Window(
                id=window,
                requests=counts.requests,
                errors=counts.errors,
                restarts=counts.restarts,
                latency=counts.latency(),
                copies=counts.copies,
                compared=counts.copies,
                different=counts.different,
            )
            if window
            else None,
            memory=VersionMemory(
                self._conduct(loaded, conduct_of).worker_bytes if self.limit_bytes else 0
            ),
        )


CRASH_LOOP: Final = Failure("WorkersCrashed", "its workers die again and again", "killed")
NO_ROOM: Final = Failure("InsufficientMemory", "less memory is free than a worker holds")
TOO_SLOW: Final = Failure("StartupTimeout", "it was not loaded in time")
KILLED: Final = Failure("OutOfMemory", "its worker was killed for want of memory")


def _digest(entry: VersionEntry) -> str:
    return entry.source.digest or f"sha256:{entry.version}"


def _same_content(held: VersionEntry, wanted: VersionEntry) -> bool:
    if wanted.source.digest:
        return wanted.source.digest == _digest(held)
    return wanted.source.uri == held.source.uri


def _without_traffic(entry: VersionEntry) -> tuple[object, ...]:
    """Return what makes a version that failed worth another try: all but weights and workers."""
    return (
        entry.version,
        entry.source,
        (entry.max_size, entry.max_delay_s, entry.response_s, entry.startup_s),
        tuple(sorted(entry.env.items())),
        entry.warmup,
    )
