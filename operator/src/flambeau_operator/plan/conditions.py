"""The conditions: computed from the facts of this pass alone, so that nothing latches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flambeau_operator.names import versioned
from flambeau_operator.plan import surroundings
from flambeau_operator.plan.decision import Decision
from flambeau_operator.plan.finding import Finding
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.standing import Standing
from flambeau_operator.resources.conditions import ConditionType, Reason
from flambeau_operator.resources.deployment_status import (
    Condition,
    ModelPhase,
    ModelStatus,
    RolloutStatus,
    Status,
)
from flambeau_operator.resources.pod_state import Failure, VersionPhase


def judge(findings: Findings, models: Sequence[ModelStatus]) -> tuple[Finding, ...]:
    """Return every condition that holds, in a fixed order."""
    if findings.suspended:
        message = "nothing runs until spec.suspend is false"
        return (Finding(ConditionType.SUSPENDED, "True", Reason.SUSPENDED, message),)
    stalled = _stalled(findings, models)
    found = (
        _ready(findings, models),
        _rolled_out(findings, models, stalled),
        _progress(findings, models, stalled),
        _models_ready(findings, models),
        _pods_available(findings),
        surroundings.autoscaling_active(findings),
        surroundings.without_effect(findings),
        surroundings.reconcile_disabled(findings),
    )
    return tuple(each for each in found if each)


def carry_over(
    found: Sequence[Finding], before: Status, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Complete the conditions; a transition time moves only when the status flips."""
    conditions = []
    for each in found:
        known = before.condition(each.type)
        same = known is not None and known.status == each.status
        conditions.append(
            Condition(
                type=str(each.type),
                status=each.status,
                reason=str(each.reason),
                message=each.message,
                observed_generation=generation,
                last_transition_time=known.last_transition_time if known and same else now,
            )
        )
    return tuple(conditions)


def _ready(findings: Findings, models: Sequence[ModelStatus]) -> Finding:
    kind = ConditionType.READY
    if findings.service_is_foreign:
        return Finding(kind, "False", Reason.NAME_CONFLICT, surroundings.conflicts(findings))
    if findings.ready_pods:
        return Finding(kind, "True", Reason.ALL_MODELS_SERVING, _of_pods(findings, "serve"))
    if findings.pods_wanted == 0:
        return Finding(kind, "False", Reason.NO_PODS, "spec.replicas is 0")
    if _gone_silent(findings):
        return Finding(kind, "Unknown", Reason.MANAGEMENT_UNREACHABLE, _silence(findings))
    return Finding(kind, "False", *_why_unready(findings, models))


def _why_unready(findings: Findings, models: Sequence[ModelStatus]) -> tuple[str, str]:
    if failed := _failed_model(findings, models):
        return failed
    if not findings.fleet.reporters:
        reason = surroundings.trouble_reason(findings) or Reason.PODS_STARTING
        return reason, surroundings.with_troubles("no pod has answered yet", findings)
    return Reason.MODELS_NOT_READY, _unready(findings, models)


def _rolled_out(
    findings: Findings, models: Sequence[ModelStatus], stalled: Finding | None
) -> Finding:
    kind = ConditionType.ROLLED_OUT
    # What a pipeline waits for: never beside Stalled, which others take for failed.
    if findings.rolled_out and not stalled:
        return Finding(kind, "True", Reason.ROLLED_OUT, "every pod has what the spec asks for")
    reconciling = stalled or _progress(findings, models, stalled)
    if reconciling is None:
        return Finding(kind, "False", Reason.MODELS_NOT_READY, _unready(findings, models))
    return Finding(kind, "False", reconciling.reason, reconciling.message)


def _progress(
    findings: Findings, models: Sequence[ModelStatus], stalled: Finding | None
) -> Finding | None:
    """Return Reconciling, or Stalled, or neither; the order of the lines is the policy."""
    if findings.fleet.unreachable:
        return _waiting_for_pods(findings)
    paused, moving = findings.deployment.spec.rollout.paused, findings.moving
    if moving and moving.blocked:
        return Finding(ConditionType.STALLED, "True", *moving.blocked)
    if moving and not paused:
        return _reconciling(*_rollout_words(findings, moving))
    if stalled:
        return stalled
    if moving:
        return _reconciling(Reason.ROLLOUT_PAUSED, _rollout_words(findings, moving)[1])
    return _waiting(findings, models)


def _waiting(findings: Findings, models: Sequence[ModelStatus]) -> Finding | None:
    """Return what the pods have yet to do, though nothing is left to decide."""
    if findings.writes:
        return _reconciling(Reason.APPLYING, "the pods are being told")
    if findings.ready_pods < findings.pods_wanted or findings.fleet.silent:
        return _waiting_for_pods(findings)
    if findings.fleet.replaced or findings.children.rolling:
        replaced = len(findings.fleet.replaced)
        words = f"{replaced} pods are to be replaced" if replaced else "pods are being replaced"
        return _reconciling(Reason.PODS_NOT_READY, surroundings.with_troubles(words, findings))
    if not findings.rolled_out:
        words = _unready(findings, models) or _workers_on_their_way(findings, models)
        return _reconciling(Reason.MODELS_NOT_READY, words)
    return None


def _reconciling(reason: str, message: str) -> Finding:
    return Finding(ConditionType.RECONCILING, "True", reason, message)


def _waiting_for_pods(findings: Findings) -> Finding:
    if _gone_silent(findings):
        return _reconciling(Reason.MANAGEMENT_UNREACHABLE, _silence(findings))
    starting = findings.fleet.silent or not findings.fleet.reporters
    reason = Reason.PODS_STARTING if starting else Reason.PODS_NOT_READY
    return _reconciling(
        reason, surroundings.with_troubles(_of_pods(findings, "are ready"), findings)
    )


def _stalled(findings: Findings, models: Sequence[ModelStatus]) -> Finding | None:
    """Return what keeps the goal from being reached unless somebody acts."""
    kind = ConditionType.STALLED
    if stuck := surroundings.stuck(findings):
        return stuck
    for standing in findings.taken_back:
        if reason_and_message := _taken_back(standing, models, findings):
            return Finding(kind, "True", *reason_and_message)
    for standing in findings.refused_others:
        name = versioned(standing.name, standing.target.version)
        told = _memory(standing, models).beside_failure
        said = f"{told.reason}: {told.message}" if told else "it failed before"
        return Finding(kind, "True", Reason.ROLLED_BACK, f"{name} was taken back: {said}")
    failed = _failed_model(findings, models)
    if failed and not findings.hands_off:
        return Finding(kind, "True", *failed)
    if findings.observe_only and not findings.rolled_out:
        return Finding(kind, "True", Reason.RECONCILE_DISABLED, surroundings.NOTHING_IS_CHANGED)
    return None


def _memory(standing: Standing, models: Sequence[ModelStatus]) -> RolloutStatus:
    return next(each.rollout for each in models if each.name == standing.name)


def _failed_model(findings: Findings, models: Sequence[ModelStatus]) -> tuple[str, str] | None:
    """Return reason and message of the first committed version that some pod has given up on."""
    for standing, model in zip(findings.standings, models, strict=True):
        if model.phase is ModelPhase.FAILED:
            pod, failure = _failure(findings, standing)
            name = versioned(model.name, standing.target.version)
            said = surroundings.with_secret(
                failure.reason, failure.message, standing.model, findings
            )
            return failure.reason, f"{name} failed in pod {pod}: {said}"
    return None


def _taken_back(
    standing: Standing, models: Sequence[ModelStatus], findings: Findings
) -> tuple[str, str] | None:
    failure = _memory(standing, models).last_failure
    name = versioned(standing.name, standing.target.version)
    if failure is None:
        return Reason.ROLLED_BACK, f"{name} failed before"
    if failure.reason == Reason.PROGRESS_DEADLINE_EXCEEDED:
        return Reason.PROGRESS_DEADLINE_EXCEEDED, f"{failure.message} (pod {failure.pod})"
    message = surroundings.with_secret(failure.reason, failure.message, standing.model, findings)
    said = f"{failure.reason}: {message}"
    if not failure.pod:
        return Reason.ROLLED_BACK, f"{name} was taken back, {said}"
    return Reason.ROLLED_BACK, f"{name} was taken back, pod {failure.pod} says {said}"


def _failure(findings: Findings, standing: Standing) -> tuple[str, Failure]:
    active = findings.active(standing)
    for pod in findings.fleet.reporters:
        seen = pod.seen(standing.name, active.version) if active else None
        if seen and seen.phase is VersionPhase.FAILED and seen.failure:
            return pod.name, seen.failure
    return "?", Failure(str(Reason.MODEL_FAILED), "the pod gave no reason")


def _models_ready(findings: Findings, models: Sequence[ModelStatus]) -> Finding:
    kind = ConditionType.MODELS_READY
    if findings.hands_off:
        return Finding(kind, "Unknown", Reason.MANAGEMENT_UNREACHABLE, _silence(findings))
    unready = _unready(findings, models)
    if findings.fleet.reporters and not unready:
        return Finding(kind, "True", Reason.ALL_MODELS_SERVING, "every pod has every model ready")
    return Finding(kind, "False", Reason.MODELS_NOT_READY, unready or "no pod has answered yet")


def _pods_available(findings: Findings) -> Finding:
    kind, enough = ConditionType.PODS_AVAILABLE, findings.ready_pods >= findings.pods_wanted
    if enough:
        return Finding(kind, "True", Reason.PODS_AVAILABLE, _of_pods(findings, "are ready"))
    reason = surroundings.trouble_reason(findings) or Reason.PODS_NOT_READY
    words = surroundings.with_troubles(_of_pods(findings, "are ready"), findings)
    return Finding(kind, "False", reason, words)


def _rollout_words(findings: Findings, decision: Decision) -> tuple[str, str]:
    standing = decision.standing
    old = f"{standing.active.version}→" if standing.active else "→"
    name = f"{standing.name} {old}{standing.target.version}"
    if findings.pods_wanted == 0:
        return Reason.NO_PODS, f"{name} comes in once pods run: spec.replicas is 0"
    silent = f", silent: {', '.join(decision.held_by)}" if decision.held_by else ""
    present = len(findings.fleet.present)
    words = f"{name}: ready in {decision.proven} of {present} pods{silent}"
    if decision.held:
        return Reason.ANALYSIS_INCONCLUSIVE, f"{name} waits for a decision: {decision.held}"
    if canary := decision.canary:
        steps = findings.deployment.spec.rollout.in_pods.steps or ()
        words += f", step {canary.index + 1} of {len(steps)} ({canary.step.weight} %)"
        if canary.analysis:
            words += f": {canary.analysis.message}"
    return Reason.ROLLOUT_IN_PROGRESS, surroundings.with_troubles(words, findings)


def _unready(findings: Findings, models: Sequence[ModelStatus]) -> str:
    """Name the models whose committed version is not ready in every pod that answers."""
    words = []
    for standing, model in zip(findings.standings, models, strict=True):
        active = findings.active(standing)
        if active is None:
            continue
        ready = sum(
            (seen := pod.seen(standing.name, active.version)) is not None
            and seen.phase is VersionPhase.READY
            for pod in findings.fleet.reporters
        )
        if ready < len(findings.fleet.reporters):
            name = versioned(model.name, active.version)
            words.append(f"{name} is ready in {ready} of {len(findings.fleet.reporters)} pods")
    return ", ".join(words)


def _workers_on_their_way(findings: Findings, models: Sequence[ModelStatus]) -> str:
    """Name the models whose workers are not those that are wanted yet, though they serve."""
    words = []
    for standing, model in zip(findings.standings, models, strict=True):
        active, pods = findings.active(standing), findings.fleet.reporters
        if active is not None and not findings.serves_everywhere(standing):
            name = versioned(model.name, active.version)
            words.append(
                f"{name} has {model.ready_workers} of {active.workers * len(pods)} workers"
            )
    return ", ".join(words)


def _gone_silent(findings: Findings) -> bool:
    return findings.fleet.unreachable and bool(findings.fleet.gone_silent)


def _silence(findings: Findings) -> str:
    names = ", ".join(pod.name for pod in findings.fleet.silent)
    return f"no answer from the management API of {names}"


def _of_pods(findings: Findings, do: str) -> str:
    return f"{findings.ready_pods} of {findings.pods_wanted} pods {do}"
