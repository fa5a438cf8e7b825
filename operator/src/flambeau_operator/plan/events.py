"""What is worth telling once: read from the difference between the last status and this one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from flambeau_operator.names import versioned
from flambeau_operator.resources.conditions import ConditionType, Reason
from flambeau_operator.resources.deployment_status import (
    ModelPhase,
    ModelStatus,
    RolloutStatus,
    Status,
)

LONGEST_NOTE = 1024  # characters; Kubernetes refuses more


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, told once."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def transitions(before: Status, after: Status) -> tuple[Event, ...]:
    """Return what changed between two passes, as far as people want to hear of it."""
    told = [*_of_models(before, after), *_of_conditions(before, after)]
    return tuple(Event(each.type, each.reason, each.message[:LONGEST_NOTE]) for each in told)


def _of_models(before: Status, after: Status) -> Iterator[Event]:
    for model in after.models:
        yield from _of_model(before.model(model.name), model)


def _of_model(before: ModelStatus, after: ModelStatus) -> Iterator[Event]:
    target = versioned(after.name, after.target_version or "")
    if after.rollout.spec_hash and after.rollout.spec_hash != before.rollout.spec_hash:
        how = f" {after.rollout.mode}: {after.rollout.mode_reason}" if after.rollout.mode else ""
        name = versioned(after.name, after.rollout.candidate or after.target_version or "")
        yield Event("Normal", "RolloutStarted", f"{name} comes in{how}")
    yield from _of_steps(target, before.rollout, after.rollout)
    failure = after.rollout.last_failure
    if failure and after.rollout.failed_hash != before.rollout.failed_hash:
        deadline = failure.reason == Reason.PROGRESS_DEADLINE_EXCEEDED
        reason = Reason.PROGRESS_DEADLINE_EXCEEDED if deadline else Reason.ROLLED_BACK
        where = f"pod {failure.pod}: " if failure.pod else ""
        said = f"{where}{failure.reason}: {failure.message}"
        yield Event("Warning", str(reason), f"{target} was taken back, {said}")
    beside = set(after.rollout.failed_others) - set(before.rollout.failed_others)
    told = after.rollout.beside_failure
    if told and beside:
        name = versioned(after.name, before.rollout.candidate or "a version beside it")
        said = f"{told.reason}: {told.message}"
        yield Event("Warning", str(Reason.ROLLED_BACK), f"{name} was taken back, {said}")
    if after.active_version and after.active_version != before.active_version:
        found = after.rollout.analysis
        said = f": {found.message}" if found and found.verdict == "Passed" else ""
        name = versioned(after.name, after.active_version)
        yield Event("Normal", "Serving", f"{name} serves{said}")
    if after.phase is ModelPhase.FAILED and before.phase is not ModelPhase.FAILED:
        yield Event("Warning", str(Reason.MODEL_FAILED), f"{target} failed")


def _of_steps(target: str, before: RolloutStatus, after: RolloutStatus) -> Iterator[Event]:
    same = before.spec_hash == after.spec_hash
    if after.step is not None and not (same and before.step == after.step):
        said = after.analysis.message if same and after.analysis else ""
        told = f"{target} takes step {after.step + 1}"
        yield Event("Normal", "StepStarted", f"{told}, {said}" if said else told)
    if after.mode and after.spec_hash and same and before.mode != after.mode:
        yield Event("Normal", "SwapMode", f"{target} comes in {after.mode}: {after.mode_reason}")
    if after.held and not before.held:
        yield Event("Warning", str(Reason.ANALYSIS_INCONCLUSIVE), f"{target} waits: {after.held}")


def _of_conditions(before: Status, after: Status) -> Iterator[Event]:
    told_by_models = {Reason.ROLLED_BACK, Reason.PROGRESS_DEADLINE_EXCEEDED}
    for kind in (ConditionType.STALLED, ConditionType.RECONCILING):
        was, now = before.condition(kind), after.condition(kind)
        if now is None or (was and was.reason == now.reason) or now.reason in told_by_models:
            continue
        if kind is ConditionType.STALLED or now.reason == Reason.MANAGEMENT_UNREACHABLE:
            yield Event("Warning", now.reason, now.message)
    was, now = (each.condition(ConditionType.SUSPENDED) for each in (before, after))
    if now and not was:
        yield Event("Normal", "Suspended", now.message)
    if was and not now:
        yield Event("Normal", "Resumed", "pods are started again")
