"""The document that each running pod shall have, and which of them change now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flambeau_operator.plan.canary import workers_of_step
from flambeau_operator.plan.decision import Act, Decision
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.swap_mode import FEWEST_TO_SHARE
from flambeau_operator.resources.pod_state import ModelEntry, Swap, VersionEntry
from flambeau_operator.resources.quantities import share_of
from flambeau_operator.resources.rollout import Rollout


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
