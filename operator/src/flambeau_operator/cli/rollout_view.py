"""How the rollouts of one ModelDeployment stand: read from its object alone, ready to be written.

Pure, so that what people and programs are told is tested by tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from flambeau_operator.resources.conditions import ConditionType
from flambeau_operator.resources.deployment_status import (
    AnalysisStatus,
    Condition,
    LastFailure,
    ModelPhase,
    ModelStatus,
    Past,
)
from flambeau_operator.resources.model_deployment import ModelDeployment
from flambeau_operator.resources.rollout import ALL, Rollout, Step

BRINGING_IN = frozenset(
    {
        ModelPhase.PENDING,
        ModelPhase.FETCHING,
        ModelPhase.VERIFYING,
        ModelPhase.LOADING,
        ModelPhase.WARMING,
        ModelPhase.CANARY,
        ModelPhase.PROMOTING,
    }
)
"""While a model is in one of these and has a candidate, its rollout can be told what to do."""


class Outcome(StrEnum):
    """What has become of the last edit."""

    ROLLED_OUT = "RolledOut"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"

    @property
    def exit_code(self) -> int:
        """What a script is told."""
        return {Outcome.STALLED: 1, Outcome.PROGRESSING: 3, Outcome.PAUSED: 3}.get(self, 0)

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.exit_code <= 1


class StepState(StrEnum):
    """Where a step stands."""

    DONE = "done"
    CURRENT = "current"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a rollout."""

    weight: int
    shadow: int
    pause_s: float
    state: StepState


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model."""

    name: str
    active: str | None
    target: str | None
    phase: ModelPhase
    weight: int
    ready_pods: int
    ready_workers: int
    rolling: bool  # a candidate is on its way
    candidate: str | None  # its version; the target, or one of a split or a shadow
    hash: str | None  # the candidate's, which annotations name
    failed: str | None  # the hash of what is not tried again by itself
    mode: str | None
    mode_reason: str
    steps: tuple[StepView, ...]  # empty while nothing rolls
    step: int | None  # the current one, from 0
    step_started_at: datetime | None
    pause_left_s: float | None  # of the current step; None: it has not begun
    kept: str | None  # the previous version, while it is still loaded
    kept_for_s: float | None
    held: str
    waits_for: str
    analysis: AnalysisStatus | None
    last_failure: LastFailure | None
    beside_failure: LastFailure | None
    history: tuple[Past, ...]
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class View:
    """One ModelDeployment."""

    namespace: str
    name: str
    where: str
    generation: int
    observed_generation: int
    outcome: Outcome
    reason: str
    message: str
    ready: str  # True | False | Unknown
    paused: bool
    replicas: int
    ready_replicas: int
    models: tuple[ModelView, ...]

    @property
    def seen(self) -> bool:
        """Whether the operator knows of the last edit."""
        return self.observed_generation >= self.generation


def view(deployment: ModelDeployment, where: str, now: datetime) -> View:
    """Describe a ModelDeployment.

    Args:
        deployment: as read, with its status.
        where: what people call the place that it was read from.
        now: the wall clock, with a timezone.
    """
    status, about = deployment.status, deployment.metadata
    outcome, said = _outcome(deployment)
    ready = status.condition(ConditionType.READY)
    return View(
        namespace=about.namespace,
        name=about.name,
        where=where,
        generation=about.generation,
        observed_generation=status.observed_generation,
        outcome=outcome,
        reason=said.reason if said else "",
        message=said.message if said else "",
        ready=ready.status if ready else "Unknown",
        paused=deployment.spec.rollout.paused,
        replicas=status.replicas,
        ready_replicas=status.ready_replicas,
        models=tuple(_model(each, deployment, now) for each in status.models),
    )


def _outcome(deployment: ModelDeployment) -> tuple[Outcome, Condition | None]:
    """Return what has become of the last edit, and the condition that says so.

    A condition counts only if it was made for this generation: what is older speaks of an earlier
    edit.
    """
    status, generation = deployment.status, deployment.metadata.generation
    if status.observed_generation < generation:
        return Outcome.PROGRESSING, None
    if said := _true(deployment, ConditionType.SUSPENDED):
        return Outcome.SUSPENDED, said
    if said := _true(deployment, ConditionType.STALLED):
        return Outcome.STALLED, said
    if said := _true(deployment, ConditionType.ROLLED_OUT):
        return Outcome.ROLLED_OUT, said
    said = _true(deployment, ConditionType.RECONCILING)
    said = said or status.condition(ConditionType.ROLLED_OUT)
    held = any(each.rollout.held for each in status.models if is_rolling(each))
    paused = held or (deployment.spec.rollout.paused and any(map(_is_due, status.models)))
    return (Outcome.PAUSED if paused else Outcome.PROGRESSING), said


def _true(deployment: ModelDeployment, kind: ConditionType) -> Condition | None:
    found = deployment.status.condition(kind)
    return found if found and found.status == "True" else None


def is_rolling(model: ModelStatus) -> bool:
    """Tell whether a candidate of this model is on its way."""
    return model.rollout.spec_hash is not None and model.phase in BRINGING_IN


def _is_due(model: ModelStatus) -> bool:
    """Tell whether a candidate is on its way, or waits for its turn."""
    another = model.active_version not in {None, model.target_version}
    return is_rolling(model) or (another and model.phase is ModelPhase.PENDING)


def _steps_of(model: ModelStatus, rules: Rollout) -> tuple[Step, ...]:
    """Return the steps of the candidate that is on its way; without any it is one, to 100 %."""
    if candidate(model) != model.target_version:
        return ()  # of a split or a shadow: it takes nobody's place
    return rules.in_pods.steps or (Step(weight=ALL),)


def candidate(model: ModelStatus) -> str | None:
    """Return the version that is on its way, or was the last: also one of a split or a shadow."""
    return model.rollout.candidate or model.target_version


def _model(model: ModelStatus, deployment: ModelDeployment, now: datetime) -> ModelView:
    rollout, rules = model.rollout, deployment.spec.rollout
    rolling = is_rolling(model)
    kept_for_s = _kept_for_s(model, rules, now)
    return ModelView(
        name=model.name,
        active=model.active_version,
        target=model.target_version,
        candidate=candidate(model) if rolling else None,
        phase=model.phase,
        weight=model.weight,
        ready_pods=model.ready_pods,
        ready_workers=model.ready_workers,
        rolling=rolling,
        hash=rollout.spec_hash,
        failed=rollout.failed_hash or next(iter(rollout.failed_others), None),
        mode=rollout.mode,
        mode_reason=rollout.mode_reason,
        steps=_steps(model, rules) if rolling else (),
        step=rollout.step if rolling else None,
        step_started_at=rollout.step_started_at if rolling else None,
        pause_left_s=_pause_left_s(model, rules, now) if rolling else None,
        kept=rollout.previous_version if kept_for_s is not None else None,
        kept_for_s=kept_for_s,
        held=rollout.held,
        waits_for=_waits_for(model, deployment, now),
        analysis=rollout.analysis,
        last_failure=rollout.last_failure,
        beside_failure=rollout.beside_failure,
        history=model.history,
        started_at=rollout.started_at,
    )


def _steps(model: ModelStatus, rules: Rollout) -> tuple[StepView, ...]:
    at, done = model.rollout.step, model.phase is ModelPhase.PROMOTING

    def state(index: int) -> StepState:
        if at is None:
            return StepState.NEXT
        if index < at or (done and at == index):
            return StepState.DONE
        return StepState.CURRENT if index == at else StepState.NEXT

    return tuple(
        StepView(each.weight, each.shadow, each.pause_s, state(index))
        for index, each in enumerate(_steps_of(model, rules))
    )


def _current(model: ModelStatus, rules: Rollout) -> Step | None:
    steps, at = _steps_of(model, rules), model.rollout.step
    return steps[at] if at is not None and 0 <= at < len(steps) else None


def _pause_left_s(model: ModelStatus, rules: Rollout, now: datetime) -> float | None:
    step, since = _current(model, rules), model.rollout.step_started_at
    if step is None or since is None:
        return None
    return max(0.0, step.pause_s - (now - since).total_seconds())


def _kept_for_s(model: ModelStatus, rules: Rollout, now: datetime) -> float | None:
    """Return how long the previous version stays loaded; None when none is kept."""
    since = model.rollout.promoted_at
    if since is None or model.rollout.previous_version is None:
        return None
    left = since + timedelta(seconds=rules.in_pods.keep_previous_s) - now
    return left.total_seconds() if left > timedelta(0) else None


def _waits_for(model: ModelStatus, deployment: ModelDeployment, now: datetime) -> str:
    """Say what has to happen next; the order of the lines is the policy."""
    if model.phase is ModelPhase.ROLLING_BACK:
        return f"the pods to drop {candidate(model)}"
    if not _is_due(model):
        return ""
    if model.rollout.held:
        return model.rollout.held
    if deployment.spec.rollout.paused:
        return "spec.rollout.paused to be false: it holds where it is"
    if model.phase is ModelPhase.CANARY:
        return _what_the_step_waits_for(model, deployment.spec.rollout, now)
    return _what_the_pods_wait_for(model, deployment.status.replicas)


def _what_the_pods_wait_for(model: ModelStatus, pods: int) -> str:
    version, ready = candidate(model), model.ready_pods
    if not is_rolling(model):
        return "its turn: one model rolls at a time"
    if model.phase is ModelPhase.PROMOTING:
        return f"every pod to answer with {version} by default"
    if not ready:
        return f"the first pod to have {version} ready"
    return f"all pods to have {version} ready: {ready} of {pods}"


def _what_the_step_waits_for(model: ModelStatus, rules: Rollout, now: datetime) -> str:
    step, left = _current(model, rules), _pause_left_s(model, rules, now)
    if step is None and model.rollout.step is not None:
        return f"every pod to have {candidate(model)}, to be promoted then"
    if step is None or left is None:
        return "every pod to have the step's weight"
    if left:
        return "the step's pause to end"
    analysis = model.rollout.analysis
    if analysis is not None and analysis.verdict != "Passed":
        return "the analysis"
    return "the operator to take the next step"
