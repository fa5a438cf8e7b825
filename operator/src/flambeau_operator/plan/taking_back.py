"""Why a candidate is taken back, in words, and what follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from flambeau_operator.names import versioned
from flambeau_operator.plan.analysis import Verdict
from flambeau_operator.plan.decision import Act, Decision, Scene, step_before
from flambeau_operator.plan.fleet import Reporter
from flambeau_operator.plan.standing import Standing
from flambeau_operator.plan.swap_mode import OUT_OF_MEMORY, Choice, smaller
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.deployment_status import LastFailure
from flambeau_operator.resources.pod_state import Swap, VersionPhase
from flambeau_operator.resources.quantities import format_duration


def broken(scene: Scene, pod: Reporter) -> Decision:
    """Take it back, or in a smaller way if it only did not fit."""
    standing, before = scene.standing, scene.standing.before.rollout
    failure = failure_in(pod, standing, scene.now)
    asked = pod.desired.model(standing.name) if pod.desired else None
    beside_the_old = asked is None or asked.swap is Swap.SIDE_BY_SIDE
    may_shrink = scene.rules.in_pods.mode == "Auto" and not standing.beside and standing.active
    if not (may_shrink and beside_the_old and failure.reason in OUT_OF_MEMORY):
        return _rolled_back(scene, failure)
    if scene.same and before.mode in {Swap.WORKER_BY_WORKER, Swap.RECREATE}:
        choice = Choice(Swap(str(before.mode)), before.mode_reason)  # this pod was not told yet
    else:
        why = f"it did not fit beside the old version: {failure.message}"
        choice = smaller(standing.target, scene.fleet, why)
    if choice.mode is None:
        return _rolled_back(scene, failure)
    # No document of this pass names it: it starts anew once every pod is rid of it.
    return Decision(standing, Act.HOLD, mode=choice.mode, mode_reason=choice.why, since=scene.now)


def failed_analysis(scene: Scene, base: Decision) -> Decision:
    """Take it back for what its step has shown, or could not show in time."""
    found = base.canary.analysis if base.canary else None
    failed = found is not None and found.verdict == Verdict.FAILED.value
    reason = Reason.ANALYSIS_FAILED if failed else Reason.ANALYSIS_INCONCLUSIVE
    decision = taken_back(scene, reason, found.message if found else "")
    return replace(decision, canary=base.canary)


def too_slow(scene: Scene) -> Decision:
    """Take it back because nothing has come of it for so long."""
    standing, members = scene.standing, scene.members
    late = next((pod for pod in members if pod not in scene.proven), members[0])
    seen = late.seen(standing.name, standing.target.version)
    phase = seen.phase if seen else VersionPhase.PENDING
    told = f": {seen.failure.message}" if seen and seen.failure else ""
    limit = format_duration(scene.rules.progress_deadline_s)
    name = versioned(standing.name, standing.target.version)
    failure = LastFailure(
        reason=str(Reason.PROGRESS_DEADLINE_EXCEEDED),
        message=f"{name} made no progress for {limit}, last seen {phase}{told}",
        log_tail=seen.failure.log_tail if seen and seen.failure else "",
        pod=late.name,
        time=scene.now,
    )
    return _rolled_back(scene, failure)


def taken_back(scene: Scene, reason: Reason, message: str) -> Decision:
    """Take it back for a reason that no pod has told."""
    failure = LastFailure(reason=str(reason), message=message, time=scene.now)
    return _rolled_back(scene, failure)


def _rolled_back(scene: Scene, failure: LastFailure) -> Decision:
    before = scene.standing.before.rollout
    mode = Swap(before.mode) if before.mode and before.mode != "RollingPods" else Swap.SIDE_BY_SIDE
    return Decision(
        scene.standing,
        Act.ROLL_BACK,
        # Also those that never had it: told anew, they refuse what an operator that fell asleep in
        # the middle of this release still has to say.
        retold=frozenset(pod.name for pod in scene.fleet.reporters),
        proven=len(scene.proven),
        failure=failure,
        canary=step_before(scene),
        mode=mode,
        mode_reason=before.mode_reason,
    )


def failure_in(pod: Reporter, standing: Standing, now: datetime) -> LastFailure:
    """Return what a pod says of the version that it gave up."""
    seen = pod.seen(standing.name, standing.target.version)
    told = seen.failure if seen else None
    return LastFailure(
        reason=told.reason if told else str(Reason.MODEL_FAILED),
        message=told.message if told else "the pod gave no reason",
        log_tail=told.log_tail if told else "",
        pod=pod.name,
        time=now,
    )
