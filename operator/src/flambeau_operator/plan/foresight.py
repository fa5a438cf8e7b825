"""What would follow if a ModelDeployment were applied, judged as a pass would judge it.

What only pods can tell is left open, and said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flambeau_operator.names import versioned
from flambeau_operator.plan.canary import steps_of
from flambeau_operator.plan.edit_costs import Cost, FieldChange, field_changes
from flambeau_operator.plan.entries import target_entry
from flambeau_operator.plan.fleet import Fleet
from flambeau_operator.plan.standing import Kind, Standing, beside, stand
from flambeau_operator.plan.swap_mode import choose_mode
from flambeau_operator.resources.deployment_status import ModelPhase
from flambeau_operator.resources.model_deployment import ModelDeployment, Spec
from flambeau_operator.resources.pod_state import Document, ModelEntry
from flambeau_operator.resources.rollout import Rollout, Step

NO_PODS: Final = Fleet((), (), (), (), (), ())
BY_NEW_PODS: Final = "RollingPods"
LIVE_BESIDE_A_ROLLOUT: Final = frozenset({"workers", "required"})
"""Of a model whose version changes: what its active version takes over all the same."""


@dataclass(frozen=True, slots=True)
class ModelForesight:
    """What becomes of one model."""

    name: str
    kind: Kind
    active: str | None  # the version that answers now
    target: str
    hash: str  # of the candidate
    mode: str | None  # how it comes in; None: no rollout
    mode_reason: str
    steps: tuple[Step, ...]  # empty: no rollout, or straight to all of the requests
    beside: bool = False  # a version of a split or a shadow, which takes nobody's place
    note: str = ""  # what else people should know

    @property
    def rolls(self) -> bool:
        """Whether a candidate comes in."""
        return self.kind is Kind.CANDIDATE

    @property
    def at_least_s(self) -> float:
        """How long its steps take at least."""
        return sum(step.pause_s for step in self.steps)


@dataclass(frozen=True, slots=True)
class Foresight:
    """What becomes of a ModelDeployment."""

    changes: tuple[FieldChange, ...]
    models: tuple[ModelForesight, ...]
    leaving: tuple[str, ...]  # models that the new spec does not have

    @property
    def pods_roll_for(self) -> tuple[str, ...]:
        """The fields that make pods be replaced."""
        return tuple(each.name for each in self.changes if each.cost is Cost.PODS_ROLL)

    def with_modes(self, measured: Mapping[str, tuple[str | None, str]]) -> Foresight:
        """Return it with how candidates come in, where their pods were asked (`MODEL@VERSION`)."""
        models = []
        for each in self.models:
            mode, why = measured.get(
                versioned(each.name, each.target), (each.mode, each.mode_reason)
            )
            models.append(replace(each, mode=mode, mode_reason=why))
        return replace(self, models=tuple(models))


def foresee(
    old: ModelDeployment | None,
    new: ModelDeployment,
    committed: Document | None,
    fleet: Fleet = NO_PODS,
) -> Foresight:
    """Return what would follow.

    Args:
        old: the object as it is, with its status; None when there is none.
        new: the object as it is written; its own status is not looked at.
        committed: what a starting pod boots from; None if that is not known.
        fleet: the pods, where they can be asked; their memory decides how a version comes in.
    """
    if old is None:
        fresh = stand(new, None, NO_PODS)
        models = tuple(_model(each, new.spec, None, NO_PODS) for each in fresh)
        return Foresight((), models, ())
    known = _committed(old, committed)
    standings = stand(_edited(old, new), known, fleet)
    models = tuple(
        _model(each, new.spec, old, fleet)
        for standing in standings
        for each in (standing, *_beside(standing))
    )
    names = {each.name for each in models}
    return Foresight(
        changes=_with_rollouts(
            field_changes(old, new, known or ()),
            {each.name: each for each in models if not each.beside},
        ),
        models=models,
        leaving=tuple(each.name for each in old.spec.models if each.name not in names),
    )


def _beside(standing: Standing) -> tuple[Standing, ...]:
    """Return the versions of a split or a shadow that come in, now or after the model's own."""
    settled = replace(standing, kind=Kind.SETTLED)
    return tuple(each for each in beside(settled) if each.kind is not Kind.SETTLED)


def _edited(old: ModelDeployment, new: ModelDeployment) -> ModelDeployment:
    """Return the old object with the new wish; annotations that commands have set stay."""
    annotations = {**old.metadata.annotations, **new.metadata.annotations}
    metadata = old.metadata.model_copy(update={"annotations": annotations})
    return old.model_copy(update={"metadata": metadata, "spec": new.spec})


def _committed(old: ModelDeployment, committed: Document | None) -> tuple[ModelEntry, ...] | None:
    """Return what is committed; if nobody says, what the status says of the active versions."""
    if committed is not None and committed.owner.uid == old.metadata.uid:
        return committed.models
    if not any(each.active_version for each in old.status.models):
        return None
    entries = {each.name: target_entry(each) for each in old.spec.models}
    return tuple(
        ModelEntry(model.name, model.active_version, (entry,))
        for model in old.status.models
        if (entry := entries.get(model.name)) and entry.version == model.active_version
    )


def _with_rollouts(
    changes: Sequence[FieldChange], models: Mapping[str, ModelForesight]
) -> tuple[FieldChange, ...]:
    """Let a model's settings come with its candidate, and a new address of old content be none."""
    return tuple(_with_rollout(each, models) for each in changes)


def _with_rollout(change: FieldChange, models: Mapping[str, ModelForesight]) -> FieldChange:
    name = change.path[0].partition("[")[2].removesuffix("]")
    model = models.get(name) if change.path[0].startswith("models[") else None
    if model is None:
        return change
    part = change.path[1].partition("[")[0]
    if part in {"split", "shadow"}:
        return change
    cost = change.cost
    if model.rolls and part not in LIVE_BESIDE_A_ROLLOUT:
        cost = Cost.PODS_ROLL if model.mode == BY_NEW_PODS else Cost.ROLLOUT
    elif model.kind is Kind.SETTLED and cost is Cost.ROLLOUT:
        cost = Cost.LIVE
    return FieldChange(change.path, change.old, change.new, cost)


def _model(
    standing: Standing, spec: Spec, old: ModelDeployment | None, fleet: Fleet
) -> ModelForesight:
    rolls = standing.kind is Kind.CANDIDATE
    mode, why = _mode(standing, spec.rollout, fleet) if rolls else (None, "")
    return ModelForesight(
        name=standing.name,
        kind=standing.kind,
        active=standing.before.active_version,
        target=standing.target.version,
        hash=standing.hash,
        mode=mode,
        mode_reason=why,
        steps=steps_of(spec.rollout.in_pods, standing) if rolls else (),
        beside=standing.beside,
        note=_note(standing, old),
    )


def _mode(standing: Standing, rules: Rollout, fleet: Fleet) -> tuple[str | None, str]:
    """Return how a candidate will come in; without pods, as far as a spec can tell."""
    if rules.strategy == BY_NEW_PODS and not standing.beside:
        return BY_NEW_PODS, "the spec says so: new pods bring the new version"
    wished = "SideBySide" if standing.beside else rules.in_pods.mode
    if wished == "Auto" and standing.active is not None and not fleet.reporters:
        return wished, (
            "chosen when it starts, by the memory that the pods measure: SideBySide if both "
            "versions fit, else WorkerByWorker with several workers, else Recreate"
        )
    choice = choose_mode(wished, standing.target, standing.active, standing.name, fleet)
    return (str(choice.mode) if choice.mode else None), choice.why


def _note(standing: Standing, old: ModelDeployment | None) -> str:
    """Say what else follows; the order of the lines is the policy."""
    name, before = versioned(standing.name, standing.target.version), standing.before
    if standing.beside and standing.kind is Kind.CANDIDATE:
        return f"{name} comes in beside the model's own version, once that has settled"
    if standing.kind is Kind.REUSED:
        return (
            f"{name} serves already with another content and would be refused: give the new "
            "archive a new version"
        )
    if standing.kind is Kind.REMEMBERED:
        memory = before.rollout
        failure = memory.beside_failure if standing.beside else memory.last_failure
        why = f" ({failure.reason}: {failure.message})" if failure else ""
        return f"{name} failed before{why} and is not tried again by itself: see rollout retry"
    if standing.kind is Kind.UNPROTECTED:
        what = "no version serves that could be lost" if old else "the first version"
        return f"{name} is loaded at once: {what}"
    return _note_on_the_way(standing, old)


def _note_on_the_way(standing: Standing, old: ModelDeployment | None) -> str:
    """Say what becomes of the candidate that is on its way now."""
    if standing.is_kept:
        return "it is still loaded, and answers at once"
    running, phase = standing.before.rollout.spec_hash, standing.before.phase
    if old is None or running is None or phase in {ModelPhase.SERVING, ModelPhase.ROLLED_BACK}:
        return ""
    if running == standing.hash and standing.kind is Kind.CANDIDATE:
        return "it is on its way already, and goes on"
    dropped = versioned(
        standing.name, str(standing.before.rollout.candidate or standing.before.target_version)
    )
    if dropped == versioned(standing.name, standing.target.version):
        return ""
    return f"{dropped}, which is on its way, is dropped"
