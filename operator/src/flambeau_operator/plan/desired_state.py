"""What a starting pod must load, and the document that each running pod shall have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from flambeau_operator.plan.canary import workers_of_step
from flambeau_operator.plan.entries import (
    entry_hash,
    other_entries,
    shadow_entry,
    sticky_entry,
)
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.rollout import Act, Decision, kept_version
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.plan.swap_mode import FEWEST_TO_SHARE
from flambeau_operator.resources.deployment_status import Status
from flambeau_operator.resources.pod_state import Document, ModelEntry, Swap, VersionEntry
from flambeau_operator.resources.quantities import share_of
from flambeau_operator.resources.rollout import Hot, Rollout


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long the version that was replaced stays."""

    hot: Hot
    now: datetime


def committed_before(
    committed: Document | None, fleet: Fleet, owner_uid: str, status: Status
) -> tuple[ModelEntry, ...] | None:
    """Return what is committed, or what it must have been, told by the pods' documents.

    Where pods differ (one version at a time in each of them), the version that was active counts,
    then the newest document.
    """
    if committed and committed.owner.uid == owner_uid:
        return committed.models
    told = [pod.desired for pod in fleet.reporters if pod.desired]
    if not told:
        return None
    newest = sorted(told, key=lambda document: document.sequence, reverse=True)
    return tuple(_as_told(model, newest, status) for model in newest[0].models if model.default)


def _as_told(model: ModelEntry, newest: Sequence[Document], status: Status) -> ModelEntry:
    active = status.model(model.name).active_version
    known = (found for document in newest if (found := document.model(model.name)))
    held = next((each for each in known if each.default == active), model)
    entry = held.version(held.default)
    return ModelEntry(held.name, held.default, (entry,) if entry else (), held.required)


def committed_after(
    standings: Sequence[Standing],
    rolling: Sequence[Decision],
    others: Sequence[Standing],
    keeping: Keeping,
) -> tuple[ModelEntry, ...]:
    """Return what a pod must load that starts from now on, in the spec's order.

    Args:
        standings: of each model's own version.
        rolling: what was decided in this pass.
        others: of the versions of splits and shadows.
        keeping: how long what is replaced stays.
    """
    models = (
        _committed_model(
            each,
            next((it for it in rolling if it.standing.name == each.name), None),
            [it for it in others if it.name == each.name],
            keeping,
        )
        for each in standings
    )
    return tuple(model for model in models if model)


def when_promoted(
    committed: Sequence[ModelEntry], standings: Sequence[Standing]
) -> tuple[ModelEntry, ...]:
    """Return what will be committed once every candidate has taken its predecessor's place."""
    coming = {each.name: each.target for each in standings if each.kind is Kind.CANDIDATE}
    known = {each.name for each in committed}
    new = (ModelEntry(name, None, (it,)) for name, it in coming.items() if name not in known)
    return (*(_promoted(each, coming.get(each.name)) for each in committed), *new)


def _promoted(model: ModelEntry, target: VersionEntry | None) -> ModelEntry:
    if target is None:
        return model
    others = [it for it in model.versions if it.version not in {model.default, target.version}]
    return replace(model, default=target.version, versions=(target, *others))


def _committed_model(
    standing: Standing,
    decision: Decision | None,
    others: Sequence[Standing],
    keeping: Keeping,
) -> ModelEntry | None:
    default = _default(standing, decision)
    if default is None:
        return None
    beside = _beside(standing, default, decision, others)
    known = {default.version, *(each.version for each in beside)}
    previous = [
        each for each in _previous(standing, decision, keeping) if each.version not in known
    ]
    shadow = shadow_entry(standing.model)
    return ModelEntry(
        standing.name,
        default.version,
        (default, *beside, *previous),
        standing.model.required,
        sticky=sticky_entry(standing.model),
        shadow=shadow if shadow and shadow.version in known - {default.version} else None,
        swap=_swap(standing, decision),
        drain_s=_drain_s(keeping.hot),
    )


def _default(standing: Standing, decision: Decision | None) -> VersionEntry | None:
    """Return the version that answers."""
    if decision and decision.act is Act.REVERT:
        name = kept_version(standing)
        kept = standing.committed.version(name) if standing.committed else None
        return replace(kept, weight=0) if kept else standing.target
    own = decision is not None and not decision.standing.beside
    promoted = own and decision is not None and decision.act in {Act.COMMIT, Act.ROLL_PODS}
    if standing.kind in {Kind.SETTLED, Kind.UNPROTECTED} or promoted:
        return standing.target
    if standing.active is None:
        return None
    # Workers are the model's capacity and follow the spec at once. Everything else was written for
    # the target: its environment or batch size could break the version that has to hold out.
    target = standing.target
    return replace(
        standing.active, workers=target.workers, max_workers=target.max_workers, weight=0
    )


def _beside(
    standing: Standing,
    default: VersionEntry,
    decision: Decision | None,
    others: Sequence[Standing],
) -> tuple[VersionEntry, ...]:
    """Return the versions of the split and the shadow that are proven, as the spec has them now."""
    if standing.kind is Kind.UNPROTECTED:
        refused = () if standing.orders.retry else standing.before.rollout.failed_others
        return tuple(
            it
            for it in other_entries(standing.model)
            if it.version != default.version and entry_hash(it) not in refused
        )
    committed = standing.committed.versions if standing.committed else ()
    proven = {(each.version, each.source) for each in committed}
    if decision and decision.standing.beside and decision.act is Act.COMMIT:
        proven.add((decision.standing.target.version, decision.standing.target.source))
    failed = {each.target.version for each in others if each.kind is Kind.REMEMBERED}
    return tuple(
        each
        for each in other_entries(standing.model)
        if (each.version, each.source) in proven
        and each.version != default.version
        and each.version not in failed
    )


def _previous(
    standing: Standing, decision: Decision | None, keeping: Keeping
) -> tuple[VersionEntry, ...]:
    """Return the version that was replaced, as long as it is kept for a way back."""
    kept_for = timedelta(seconds=keeping.hot.keep_previous_s)
    own = decision is not None and not decision.standing.beside
    if own and decision is not None and decision.act is Act.COMMIT:
        by_side = decision.mode is Swap.SIDE_BY_SIDE and standing.active is not None
        keeps = by_side and kept_for and not standing.is_kept and decision.act is Act.COMMIT
        return (replace(standing.active, weight=0),) if keeps and standing.active else ()
    name, since = kept_version(standing), standing.before.rollout.promoted_at
    if name is None or since is None or standing.committed is None:
        return ()
    stays = standing.kind is Kind.SETTLED and keeping.now - since < kept_for
    entry = standing.committed.version(name)
    if entry is None or not (stays or name == standing.target.version):
        return ()
    return (replace(entry, weight=0),)  # also what had a share while a split named it


def _swap(standing: Standing, decision: Decision | None) -> Swap:
    """Return how pods change: as the last rollout did, so that its way back is no other."""
    if decision and not decision.standing.beside and decision.act is not Act.REVERT:
        begun = decision.members or decision.act in {Act.COMMIT, Act.ROLL_BACK}
        if begun:
            return decision.mode
    mode = standing.before.rollout.mode
    return Swap(mode) if mode in {Swap.WORKER_BY_WORKER, Swap.RECREATE} else Swap.SIDE_BY_SIDE


def _drain_s(hot: Hot) -> float | None:
    """Return how long a leaving version may finish; left out where it is as ever."""
    return None if hot.drain_timeout_s == Hot().drain_timeout_s else hot.drain_timeout_s


def models_for(
    pod: str, committed: Sequence[ModelEntry], decision: Decision | None
) -> tuple[ModelEntry, ...]:
    """Return the models of one pod's document: the committed ones, and the candidate it takes."""
    if decision is None or decision.act not in {Act.HOLD, Act.JOIN}:
        return tuple(committed)
    name, member = decision.standing.name, pod in decision.members
    models = [_with_candidate(each, decision, member) for each in committed if each.name == name]
    if not models and member:
        # Not required until it is committed: a new model must not make a serving pod unready.
        models = [ModelEntry(name, None, (decision.standing.target,), required=False)]
    rest = {each.name: each for each in models}
    known = [rest.pop(each.name, each) for each in committed]
    return (*known, *rest.values())


def _with_candidate(model: ModelEntry, decision: Decision, member: bool) -> ModelEntry:
    canary, target = decision.canary, decision.standing.target
    window = canary.window if canary else None
    if not member:
        return replace(model, window=window)
    model = replace(model, window=window, swap=decision.mode)
    if decision.mode is Swap.RECREATE:
        others = [each for each in model.versions if each.weight]
        return replace(model, default=target.version, versions=(target, *others), shadow=None)
    candidate = replace(target, weight=canary.weight if canary else _weight_beside(model, target))
    others = [each for each in model.versions if each.version != target.version]
    if decision.mode is Swap.WORKER_BY_WORKER:
        candidate, others = _worker_by_worker(model, candidate, others, decision)
    shadow = canary.shadow if canary and canary.shadow else model.shadow
    return replace(model, versions=(*others, candidate), shadow=shadow)


def _weight_beside(model: ModelEntry, target: VersionEntry) -> int:
    """Return the weight of a version that serves beside the default already."""
    known = model.version(target.version)
    return known.weight if known else 0


def _worker_by_worker(
    model: ModelEntry,
    candidate: VersionEntry,
    others: Sequence[VersionEntry],
    decision: Decision,
) -> tuple[VersionEntry, list[VersionEntry]]:
    """Share the workers out: together the two versions have no more than one of them had."""
    # Of one worker each has one: somebody lowered the number on the way, there were two before.
    both = max(candidate.workers, FEWEST_TO_SHARE)
    share = workers_of_step(decision.canary, both)
    kept = [
        replace(each, workers=both - share, max_workers=None)
        if each.version == model.default
        else each
        for each in others
    ]
    return replace(candidate, workers=share, max_workers=None), kept


def changed_models(
    fleet: Fleet,
    committed: Sequence[ModelEntry],
    decision: Decision | None,
    rules: Rollout,
    pods_wanted: int,
) -> Mapping[str, tuple[ModelEntry, ...]]:
    """Return the models of those pods' documents that must change now.

    A pod that would leave the Service to change back waits until it may: as many at a time as the
    spec allows, those first that do not serve anyway.
    """
    retold = decision.retold if decision else frozenset()
    wanted = {pod.name: models_for(pod.name, committed, decision) for pod in fleet.reporters}
    if rules.strategy == "RollingPods":
        # The template follows what is committed, so it is another one from the next pass on.
        turning = decision is not None and decision.act in {Act.ROLL_PODS, Act.ROLL_BACK}
        replaced = {pod.name for pod in (fleet.present if turning else fleet.replaced)}
        wanted |= {
            pod.name: _as_it_is(pod, wanted[pod.name])
            for pod in fleet.reporters
            if pod.name in replaced
        }
    changed = [
        pod
        for pod in fleet.reporters
        if pod.name in retold
        or _waits_for_words(pod)
        or pod.desired is None
        or not same_models(pod.desired.models, wanted[pod.name])
    ]
    leaving = [pod for pod in changed if _leaves(pod, wanted[pod.name], decision)]
    out = sum(not pod.facts.ready for pod in fleet.reporters) + len(fleet.silent)
    room = share_of(rules.in_pods.max_unavailable_pods, pods_wanted) - out
    serving = [pod for pod in leaving if pod.facts.ready]
    waiting = {pod.name for pod in serving[max(room, 0) :]}
    return {pod.name: wanted[pod.name] for pod in changed if pod.name not in waiting}


def _as_it_is(pod: Reporter, wanted: Sequence[ModelEntry]) -> tuple[ModelEntry, ...]:
    """Return the models of a pod that will be replaced: what is new is for the new pods."""
    held = {model.name: model for model in (pod.desired.models if pod.desired else ())}
    return tuple(
        model if held[model.name].default in {model.default, None} else held[model.name]
        for model in wanted
        if model.name in held
    )


def _waits_for_words(pod: Reporter) -> bool:
    """Tell whether a pod that came up again holds weights back until it is told them anew."""
    models = pod.desired.models if pod.desired else ()
    weighted = any(each.weight for model in models for each in model.versions)
    return pod.state.cautious and (weighted or any(model.shadow for model in models))


def _leaves(pod: Reporter, wanted: Sequence[ModelEntry], decision: Decision | None) -> bool:
    """Tell whether this change takes the pod out of the Service, and is no rollout's own choice."""
    if pod.desired is None or (decision and pod.name in decision.members):
        return False
    for model in wanted:
        held = pod.desired.model(model.name)
        moves = held is not None and held.default != model.default
        if moves and model.swap is Swap.RECREATE:
            return True
    return False


def same_models(one: Sequence[ModelEntry], other: Sequence[ModelEntry]) -> bool:
    """Tell whether two documents ask for the same, in whatever order."""
    return _sorted(one) == _sorted(other)


def _sorted(models: Sequence[ModelEntry]) -> list[ModelEntry]:
    ordered = (
        replace(model, versions=tuple(sorted(model.versions, key=lambda entry: entry.version)))
        for model in models
    )
    return sorted(ordered, key=lambda model: model.name)
