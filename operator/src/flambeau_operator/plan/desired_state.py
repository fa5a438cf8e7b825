"""What a starting pod must load, and the document that each running pod shall have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flambeau_operator.plan.fleet import Fleet
from flambeau_operator.plan.rollout import Decision, Step
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.resources.pod_state import Document, ModelEntry


def committed_before(
    committed: Document | None, fleet: Fleet, owner_uid: str
) -> tuple[ModelEntry, ...] | None:
    """Return what is committed, or what it must have been, told by the pods' newest document."""
    if committed and committed.owner.uid == owner_uid:
        return committed.models
    told = [pod.desired for pod in fleet.reporters if pod.desired]
    if not told:
        return None
    newest = max(told, key=lambda document: document.sequence)
    return tuple(
        replace(model, versions=(entry,))
        for model in newest.models
        if (entry := model.version(model.default))
    )


def committed_after(
    standings: Sequence[Standing], decision: Decision | None
) -> tuple[ModelEntry, ...]:
    """Return what a pod must load that starts from now on, in the spec's order."""
    models = (_committed_model(each, decision) for each in standings)
    return tuple(model for model in models if model)


def _committed_model(standing: Standing, decision: Decision | None) -> ModelEntry | None:
    required = standing.model.required
    if standing.kind in {Kind.SETTLED, Kind.UNPROTECTED} or _promotes(decision, standing):
        target = standing.target
        return ModelEntry(standing.name, target.version, (target,), required)
    if standing.active is None:
        return None
    # Workers are the model's capacity and follow the spec at once. Everything else was written for
    # the target: its environment or batch size could break the version that has to hold out.
    held = replace(standing.active, workers=standing.target.workers)
    return ModelEntry(standing.name, held.version, (held,), required)


def _promotes(decision: Decision | None, standing: Standing) -> bool:
    return decision is not None and decision.step is Step.COMMIT and decision.standing is standing


def models_for(
    pod: str, committed: Sequence[ModelEntry], decision: Decision | None
) -> tuple[ModelEntry, ...]:
    """Return the models of one pod's document: the committed ones, and the candidate it takes."""
    rolling = decision and decision.step in {Step.HOLD, Step.JOIN} and pod in decision.members
    if decision is None or not rolling:
        return tuple(committed)
    name, candidate = decision.standing.name, decision.standing.target
    models = [
        replace(each, versions=(*each.versions, candidate)) if each.name == name else each
        for each in committed
    ]
    if all(each.name != name for each in committed):
        # Not required until it is committed: a new model must not make a serving pod unready.
        models.append(ModelEntry(name, None, (candidate,), required=False))
    return tuple(models)


def changed_models(
    fleet: Fleet, committed: Sequence[ModelEntry], decision: Decision | None
) -> Mapping[str, tuple[ModelEntry, ...]]:
    """Return the models of those pods' documents that must change."""
    wanted = {pod.name: models_for(pod.name, committed, decision) for pod in fleet.reporters}
    return {
        pod.name: wanted[pod.name]
        for pod in fleet.reporters
        if pod.desired is None or not same_models(pod.desired.models, wanted[pod.name])
    }


def same_models(one: Sequence[ModelEntry], other: Sequence[ModelEntry]) -> bool:
    """Tell whether two documents ask for the same, in whatever order."""
    return _sorted(one) == _sorted(other)


def _sorted(models: Sequence[ModelEntry]) -> list[ModelEntry]:
    ordered = (
        replace(model, versions=tuple(sorted(model.versions, key=lambda entry: entry.version)))
        for model in models
    )
    return sorted(ordered, key=lambda model: model.name)
