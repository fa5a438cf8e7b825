"""What to do next so that this runtime becomes what the document wants: a pure function of facts.

The converger carries the answer out and asks again. Nothing here waits, and nothing here remembers:
a version that is on its way (fetching, loading, warming, draining) is left alone until its facts
change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from flambeau_runtime.serving.desired import Document, ModelSpec, Source, Swap, VersionSpec
from flambeau_runtime.serving.swap import takes_turns

Key = tuple[str, str]
"""Model and version."""


class Stage(StrEnum):
    """Where one version stands now, read from facts."""

    FETCHING = "fetching"  # its archive is being brought, verified and opened
    FETCHED = "fetched"  # the package is here; no worker was asked for
    LOADING = "loading"  # workers start; never served yet
    LOADED = "loaded"  # as many workers as wanted are ready, none is warm
    WARMING = "warming"  # warm-up requests are under way
    SERVING = "serving"  # ready and warm
    RESTING = "resting"  # no worker is wanted, none is there
    BROKEN = "broken"  # its workers or its warm-up failed; what is left of it must go
    FAILED = "failed"  # nothing is left of it but the reason
    DRAINING = "draining"  # takes no new work, answers what it has, goes


ARRIVED = frozenset({Stage.SERVING, Stage.RESTING})
ALIVE = ARRIVED | {Stage.LOADING, Stage.LOADED, Stage.WARMING}


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version that this runtime knows, wanted or not.

    `spec` is the wish that was last acted upon, `digest` that of the content which is here.
    `retry_due` means something for FAILED only.
    """

    stage: Stage
    spec: VersionSpec
    digest: str | None = None
    retry_due: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the plan looks at.

    `defaults` are the effective ones, per model. `cautious` holds from a boot until somebody
    speaks: candidates then wait until the defaults serve, so that a candidate which brings the
    container down cannot do it twice. `leaving` names the models for whose swap this runtime has
    left its Services, and whether everybody had time to notice.
    """

    versions: Mapping[Key, VersionFacts] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    cautious: bool = False
    leaving: Mapping[str, bool] = field(default_factory=dict)

    def stage(self, model: str, version: str | None) -> Stage | None:
        """Return where a version stands; None: nobody knows it."""
        fact = None if version is None else self.versions.get((model, version))
        return None if fact is None else fact.stage


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring the archive here, verify and open it."""

    spec: VersionSpec


@dataclass(frozen=True, slots=True)
class Load:
    """Start the workers of a fetched version."""

    spec: VersionSpec


@dataclass(frozen=True, slots=True)
class Warm:
    """Send the warm-up requests; without any the version is warm at once."""

    spec: VersionSpec


@dataclass(frozen=True, slots=True)
class Apply:
    """Take changed workers, batching, timeouts, env or warm-up over into a living version."""

    spec: VersionSpec


@dataclass(frozen=True, slots=True)
class SetDefault:
    """Let this version answer requests that name none; None: no version does."""

    model: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Retire:
    """Give the version no new work, let it drain, unload it, forget all but why it broke."""

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class SetAway:
    """Be not ready while the model's old version goes before its new one comes, or no more so.

    Requests are answered on for a while, until all who send them have noticed.
    """

    model: str
    away: bool


Step = Fetch | Load | Warm | Apply | SetDefault | Retire | SetAway


def same_content(wanted: Source, present: Source, digest: str | None) -> bool:
    """Return whether `wanted` names what is here already, `digest` being that of what is here."""
    if wanted.digest is not None:
        known = digest or present.digest
        return wanted.digest == known or (known is None and wanted == present)
    return wanted.uri == present.uri


def every_version(document: Document) -> Iterator[VersionSpec]:
    """Yield every wanted version of every wanted model, in the document's order."""
    for model in document.models:
        yield from model.versions


def plan_steps(document: Document, facts: Facts) -> tuple[Step, ...]:
    """Return every step that is safe now; nothing when all is as wanted or on its way.

    The order is the policy: defaults move before versions leave, so that a model that answers keeps
    answering.
    """
    return (
        *_default_moves(document, facts),
        *_departures(document, facts),
        *_arrivals(document, facts),
    )


def _default_moves(document: Document, facts: Facts) -> Iterator[Step]:
    models = {model.name: model for model in document.models}
    for name in sorted(facts.defaults.keys() - models.keys()):
        yield SetDefault(name, None)
    for name in sorted(facts.leaving):
        if not _is_away(models.get(name), facts):
            yield SetAway(name, away=False)
    for model in document.models:
        if model.default != facts.defaults.get(model.name):
            yield from _default_move(model, facts)


def _default_move(model: ModelSpec, facts: Facts) -> Iterator[Step]:
    current = facts.defaults.get(model.name)
    if model.default is None or _default_arrived(model, facts):
        yield SetDefault(model.name, model.default)
    elif current is not None and (model.name, current) not in facts.versions:
        yield SetDefault(model.name, None)
    elif _goes_first(model, facts) and facts.stage(model.name, model.default) is Stage.FETCHED:
        # What could not even be fetched takes no runtime out of its Services.
        if model.name not in facts.leaving:
            yield SetAway(model.name, away=True)
        elif facts.leaving[model.name]:
            yield SetDefault(model.name, None)


def _goes_first(model: ModelSpec, facts: Facts) -> bool:
    """Return whether the version that answers now has to be gone before the wanted one may come."""
    current = facts.defaults.get(model.name)
    keeps_workers = any(it.version == current and it.workers for it in model.versions)
    return takes_turns(model) and current is not None and not keeps_workers


def _is_away(model: ModelSpec | None, facts: Facts) -> bool:
    """Return whether a model whose old version goes, or is gone, still waits for its new one."""
    if model is None or model.default is None:
        return False
    current = facts.defaults.get(model.name)
    return current is None or (current != model.default and _goes_first(model, facts))


def _wants(model: ModelSpec, version: str) -> bool:
    return any(spec.version == version for spec in model.versions)


def _departures(document: Document, facts: Facts) -> Iterator[Step]:
    models = {model.name: model for model in document.models}
    wanted = {(spec.model, spec.version) for spec in every_version(document)}
    for key, fact in facts.versions.items():
        if key in wanted or fact.stage is Stage.DRAINING:
            continue
        model = models.get(key[0])
        if model is None or not _still_answers(model, key, facts):
            yield Retire(*key)
        elif model.swap is Swap.WORKER_BY_WORKER and fact.spec.workers > 1:
            yield Apply(replace(fact.spec, workers=1))  # the last one goes when the default moved


def _still_answers(model: ModelSpec, key: Key, facts: Facts) -> bool:
    """Return whether a version nobody wants must stay until the wanted default has arrived."""
    return (
        model.default is not None
        and facts.defaults.get(model.name) == key[1]
        and facts.versions[key].stage is Stage.SERVING
    )


def _arrivals(document: Document, facts: Facts) -> Iterator[Step]:
    candidates_may_start = not facts.cautious or _defaults_serve(document, facts)
    for model in document.models:
        for wish in model.versions:
            fact = facts.versions.get((wish.model, wish.version))
            spec = _for_now(model, wish, facts)
            step = _next_for(spec, fact)
            may_start = candidates_may_start or spec.version == model.default
            if isinstance(step, Fetch) and not may_start:
                continue
            if isinstance(step, Load) and takes_turns(model) and _others_are_here(model, facts):
                continue
            if step is not None:
                yield step


def _for_now(model: ModelSpec, spec: VersionSpec, facts: Facts) -> VersionSpec:
    """Return the wish with as many workers as it may have until the default has moved.

    The version that answers keeps workers that it loses afterwards: all of them, or the last one
    where workers are exchanged one by one. There, a version that replaces one which nobody wants
    any more has to be content with all but that worker's place.
    """
    current = facts.defaults.get(model.name)
    by_worker = model.swap is Swap.WORKER_BY_WORKER and not takes_turns(model)
    if current is None or current == model.default or _default_arrived(model, facts):
        return spec
    fact = facts.versions.get((spec.model, spec.version))
    if spec.version == current and fact is not None:
        least = min(fact.spec.workers, 1) if by_worker else fact.spec.workers
        return replace(spec, workers=max(spec.workers, least))
    one_stays = not _wants(model, current) and facts.stage(model.name, current) is Stage.SERVING
    if spec.version == model.default and by_worker and one_stays:
        capacity = sum(it.workers for it in model.versions)
        return replace(spec, workers=min(spec.workers, capacity - 1))
    return spec


def _others_are_here(model: ModelSpec, facts: Facts) -> bool:
    """Return whether anything of a version that has to go first is still alive."""
    return any(
        name == model.name
        and not _wants(model, version)
        and fact.stage in ALIVE | {Stage.BROKEN, Stage.DRAINING}
        for (name, version), fact in facts.versions.items()
    )


def _defaults_serve(document: Document, facts: Facts) -> bool:
    return all(
        _default_arrived(model, facts) for model in document.models if model.default is not None
    )


def _default_arrived(model: ModelSpec, facts: Facts) -> bool:
    """Return whether the wanted default serves, with the content that is wanted."""
    for spec in model.versions:
        fact = facts.versions.get((spec.model, spec.version))
        if spec.version == model.default and fact is not None:
            return fact.stage in ARRIVED and not _must_be_replaced(spec, fact)
    return False


def _next_for(spec: VersionSpec, fact: VersionFacts | None) -> Step | None:
    if fact is None:
        return Fetch(spec)
    if fact.stage is Stage.FAILED:
        return Fetch(spec) if fact.retry_due or spec != fact.spec else None
    if fact.stage is Stage.DRAINING:
        return None
    if fact.stage is Stage.BROKEN or _must_be_replaced(spec, fact):
        return Retire(spec.model, spec.version)
    return _onward(spec, fact)


def _must_be_replaced(spec: VersionSpec, fact: VersionFacts) -> bool:
    return spec.handler != fact.spec.handler or not same_content(
        spec.source, fact.spec.source, fact.digest
    )


def _onward(spec: VersionSpec, fact: VersionFacts) -> Step | None:
    if fact.stage is Stage.FETCHED:
        return Load(spec)
    if fact.stage in ALIVE and spec != fact.spec:
        return Apply(spec)
    return Warm(spec) if fact.stage is Stage.LOADED else None
