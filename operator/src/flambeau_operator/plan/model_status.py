"""The report on one model: read from facts; only the rollout's memory is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from flambeau_operator.plan.entries import entry_hash, other_entries
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.fleet import Reporter
from flambeau_operator.plan.rollout import Act, Decision, came_up_since, kept_version
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.resources.deployment_status import (
    ModelPhase,
    ModelStatus,
    Past,
    Resolved,
    RolloutStatus,
)
from flambeau_operator.resources.pod_state import VersionEntry, VersionPhase, VersionState

MOST_PAST = 10
LONGEST_WORDS = 512
OUTCOMES: Mapping[Act, Literal["Promoted", "RolledBack"]] = {
    Act.COMMIT: "Promoted",
    Act.ROLL_BACK: "RolledBack",
    Act.REVERT: "RolledBack",
}
ON_THE_WAY = {
    VersionPhase.UNKNOWN: ModelPhase.PENDING,
    VersionPhase.PENDING: ModelPhase.PENDING,
    VersionPhase.DRAINING: ModelPhase.PENDING,
    VersionPhase.FETCHING: ModelPhase.FETCHING,
    VersionPhase.VERIFYING: ModelPhase.VERIFYING,
    VersionPhase.LOADING: ModelPhase.LOADING,
    VersionPhase.WARMING: ModelPhase.WARMING,
}
"""What a pod says of a version that is not ready yet, least advanced first."""


def model_status(standing: Standing, findings: Findings) -> ModelStatus:
    """Report on one model."""
    before, active = standing.before, findings.active(standing)
    if findings.hands_off:
        return before.model_copy(update={"target_version": standing.target.version})
    pods = findings.fleet.reporters
    return ModelStatus(
        name=standing.name,
        active_version=_active_version(standing, findings, active),
        target_version=standing.target.version,
        phase=read_phase(standing, findings),
        weight=_weight(standing, findings, active),
        ready_pods=_ready_pods(standing, findings, active),
        ready_workers=_ready_workers(standing, active, pods),
        resolved=_resolved(standing, active, pods),
        rollout=_rollout(standing, findings),
        history=_history(standing, findings),
    )


def read_phase(standing: Standing, findings: Findings) -> ModelPhase:
    """Read how far the model has come; the order of the lines is the policy."""
    if findings.pods_wanted == 0:
        return ModelPhase.PENDING
    if decision := findings.about(standing):
        return _phase_of_rollout(decision, findings)
    if standing.kind is Kind.REMEMBERED:
        return _phase_of_remembered(standing, findings.fleet.reporters)
    if standing.kind is Kind.CANDIDATE:
        return ModelPhase.PENDING
    return _phase_of_active(standing, findings)


def _phase_of_rollout(decision: Decision, findings: Findings) -> ModelPhase:
    if decision.act in {Act.ROLL_BACK, Act.REVERT}:
        return ModelPhase.ROLLING_BACK
    if decision.act is Act.COMMIT:
        return ModelPhase.PROMOTING
    if decision.canary and decision.proven:
        return ModelPhase.CANARY
    standing = decision.standing
    members = [pod for pod in findings.fleet.reporters if pod.name in decision.members]
    seen = [pod.seen(standing.name, standing.target.version) for pod in members]
    if late := [each for each in seen if each is None or each.phase is not VersionPhase.READY]:
        return _least_advanced(late)
    if not members:
        return ModelPhase.PENDING
    everywhere = len(members) == len(findings.fleet.present)
    return ModelPhase.PROMOTING if everywhere else ModelPhase.LOADING


def _phase_of_remembered(standing: Standing, pods: Sequence[Reporter]) -> ModelPhase:
    another = standing.active is None or standing.active.version != standing.target.version
    known = standing.committed.versions if standing.committed else ()
    stays = any(each.version == standing.target.version for each in known)
    leaving = not stays and any(
        standing.target.version in pod.versions(standing.name) for pod in pods
    )
    return ModelPhase.ROLLING_BACK if another and leaving else ModelPhase.ROLLED_BACK


def _phase_of_active(standing: Standing, findings: Findings) -> ModelPhase:
    active, pods = findings.active(standing), findings.fleet.reporters
    if active is None or not pods:
        return ModelPhase.PENDING
    seen = [pod.seen(standing.name, active.version) for pod in pods]
    if any(each is not None and each.phase is VersionPhase.FAILED for each in seen):
        return ModelPhase.FAILED
    if late := [each for each in seen if each is None or each.phase is not VersionPhase.READY]:
        return _least_advanced(late)
    if any(pod.default(standing.name) != active.version for pod in pods):
        return ModelPhase.PROMOTING
    model = findings.model(standing)
    known = {each.version for each in model.versions} if model else set()
    if any(pod.versions(standing.name) - known for pod in pods):
        return ModelPhase.DRAINING
    return ModelPhase.SERVING


def _least_advanced(seen: Sequence[VersionState | None]) -> ModelPhase:
    order = list(ON_THE_WAY)
    phases = [each.phase if each else VersionPhase.PENDING for each in seen]
    known = [phase for phase in phases if phase in ON_THE_WAY]
    return ON_THE_WAY[min(known, key=order.index)] if known else ModelPhase.PENDING


def _active_version(
    standing: Standing, findings: Findings, active: VersionEntry | None
) -> str | None:
    if active is None:
        return None
    if findings.act(standing) is Act.ROLL_PODS and standing.active:
        return standing.active.version
    proven = findings.act(standing) is Act.COMMIT
    remembered = standing.before.active_version == active.version
    answered = any(pod.serves(standing.name, active) for pod in findings.fleet.reporters)
    return active.version if proven or remembered or answered else None


def _weight(standing: Standing, findings: Findings, active: VersionEntry | None) -> int:
    """Return the target's share of the requests, in percent, as the pods really have it."""
    target, pods = standing.target.version, findings.fleet.reporters
    if active is None or not pods:
        return 0
    decision = findings.about(standing)
    if decision and decision.act is Act.ROLL_PODS:
        return 100 * sum(pod.default(standing.name) == target for pod in pods) // len(pods)
    if active.version == target and any(pod.default(standing.name) == target for pod in pods):
        return 100 - sum(each.weight for each in _others(standing, findings))
    if active.version != target and not (decision and decision.act in {Act.HOLD, Act.JOIN}):
        return 0
    seen = [pod.seen(standing.name, target) for pod in pods]
    return sum(each.weight for each in seen if each) // len(pods)


def _others(standing: Standing, findings: Findings) -> tuple[VersionEntry, ...]:
    model = findings.model(standing)
    return tuple(it for it in model.versions if it.version != model.default) if model else ()


def _ready_pods(standing: Standing, findings: Findings, active: VersionEntry | None) -> int:
    pods = findings.fleet.reporters
    decision = findings.about(standing)
    if decision and decision.act in {Act.HOLD, Act.JOIN, Act.COMMIT, Act.ROLL_PODS}:
        return sum(pod.serves(standing.name, decision.standing.target) for pod in pods)
    return sum(_ready(pod, standing.name, active) for pod in pods)


def _ready(pod: Reporter, model: str, active: VersionEntry | None) -> bool:
    seen = pod.seen(model, active.version) if active else None
    return seen is not None and seen.phase is VersionPhase.READY


def _ready_workers(
    standing: Standing, active: VersionEntry | None, pods: Sequence[Reporter]
) -> int:
    if active is None:
        return 0
    seen = (pod.seen(standing.name, active.version) for pod in pods)
    return sum(each.workers.ready for each in seen if each)


def _resolved(
    standing: Standing, active: VersionEntry | None, pods: Sequence[Reporter]
) -> Resolved | None:
    if active is None:
        return None
    seen = (pod.seen(standing.name, active.version) for pod in pods)
    found = (
        Resolved(digest=each.digest, bytes=each.bytes) for each in seen if each and each.digest
    )
    same = standing.before.active_version == active.version
    return next(found, standing.before.resolved if same else None)


def _rollout(standing: Standing, findings: Findings) -> RolloutStatus:
    """Return what must be remembered of a candidate on its way, or of one that failed."""
    before, decision = standing.before.rollout, findings.about(standing)
    memory = RolloutStatus(
        previous_version=before.previous_version,
        mode=before.mode,
        mode_reason=before.mode_reason,
        handled=standing.orders.handled,
        failed_others=_failed_others(standing, findings),
        promoted_at=before.promoted_at if _is_kept(standing, findings) else None,
        came_up=came_up_since(standing, findings.fleet),
        # How it ended stays to be read until the next one begins.
        analysis=before.analysis,
    )
    if standing.kind is Kind.REMEMBERED:
        kept = {"failed_hash": before.failed_hash, "last_failure": before.last_failure}
        memory = memory.model_copy(update=kept)
    if memory.failed_others:
        memory = memory.model_copy(update={"last_failure": before.last_failure})
    if decision is None:
        return memory
    if decision.act in {Act.ROLL_BACK, Act.REVERT}:
        return memory.model_copy(update=_as_failed(standing, decision))
    if decision.act is Act.COMMIT:
        return memory.model_copy(update=_as_promoted(standing, decision, findings))
    return memory.model_copy(update=_as_rolling(decision, findings))


def _as_failed(standing: Standing, decision: Decision) -> dict[str, object]:
    failed: dict[str, object] = {"last_failure": decision.failure}
    if decision.canary and decision.canary.analysis:
        failed["analysis"] = decision.canary.analysis
    if decision.standing.beside:
        return failed
    failed["failed_hash"] = entry_hash(standing.target)
    if decision.act is Act.REVERT:
        failed |= {"previous_version": standing.target.version, "promoted_at": None}
    return failed


def _as_promoted(standing: Standing, decision: Decision, findings: Findings) -> dict[str, object]:
    if decision.standing.beside:
        return {}
    replaced = standing.active.version if standing.active else None
    canary = decision.canary
    return {
        "previous_version": replaced,
        "promoted_at": findings.now if _is_kept(standing, findings) else None,
        "mode": decision.mode.value,
        "mode_reason": decision.mode_reason,
        "analysis": canary.analysis if canary else None,
    }


def _as_rolling(decision: Decision, findings: Findings) -> dict[str, object]:
    before = decision.standing.before.rollout
    same = before.spec_hash == decision.standing.hash
    if not (decision.members or same or decision.since or decision.canary):
        return {}
    canary = decision.canary
    by_new_pods = decision.act is Act.ROLL_PODS
    active = decision.standing.active
    replaced = {"previous_version": active.version} if by_new_pods and active else {}
    return replaced | {
        "spec_hash": decision.standing.hash,
        "candidate": decision.standing.target.version,
        "progressed_at": decision.since,
        "started_at": (before.started_at if same else None) or findings.now,
        "step": canary.index if canary else None,
        "step_started_at": canary.started_at if canary else None,
        "mode": "RollingPods" if by_new_pods else decision.mode.value,
        "mode_reason": decision.mode_reason,
        "came_up": decision.came_up,
        "held": decision.held,
        "analysis": canary.analysis if canary else None,
    }


def _is_kept(standing: Standing, findings: Findings) -> bool:
    """Tell whether the version that was replaced is still committed beside the new one."""
    decision = findings.about(standing)
    if decision and decision.act is Act.COMMIT and not decision.standing.beside:
        name = standing.active.version if standing.active else None
        split = standing.model.split.versions if standing.model.split else ()
        if findings.deployment.spec.rollout.in_pods.keep_previous_s == 0:
            return False
        if any(each.version == name for each in split):
            return True  # it stays in any case, and is a way back for so long
    else:
        name = kept_version(standing)
    model = findings.model(standing)
    return name is not None and model is not None and model.version(name) is not None


def _failed_others(standing: Standing, findings: Findings) -> tuple[str, ...]:
    judged = [each for each in findings.others if each.name == standing.name]
    if judged:
        refused = [each for each in findings.refused_others if each.name == standing.name]
        return tuple(sorted({entry_hash(each.target) for each in refused}))
    # While the model's own version comes in, nobody asks for the others, and nothing is forgotten.
    wanted = {entry_hash(each) for each in other_entries(standing.model)}
    return tuple(sorted(wanted & set(standing.before.rollout.failed_others)))


def _history(standing: Standing, findings: Findings) -> tuple[Past, ...]:
    """Return the rollouts that have ended, newest first."""
    before, decision = standing.before, findings.about(standing)
    ended = _ended(standing, decision, findings)
    if ended and before.history and before.rollout.spec_hash is None:
        # Told already, by a pass that did not live to bring it about.
        told, now = before.history[0], ended[0]
        if (told.spec_hash, told.outcome) == (now.spec_hash, now.outcome):
            ended = ()
    return (*ended, *before.history)[:MOST_PAST]


def _ended(standing: Standing, decision: Decision | None, findings: Findings) -> tuple[Past, ...]:
    before = standing.before.rollout
    own = decision is not None and not decision.standing.beside
    if own and decision is not None and decision.act in OUTCOMES:
        replaced = before.previous_version if decision.act is Act.REVERT else None
        return (
            Past(
                version=standing.target.version,
                from_version=replaced or (standing.active.version if standing.active else None),
                spec_hash=standing.hash,
                outcome=OUTCOMES[decision.act],
                mode=before.mode if before.mode == "RollingPods" else decision.mode.value,
                started_at=before.started_at if before.spec_hash == standing.hash else None,
                ended_at=findings.now,
                message=_last_words(decision),
            ),
        )
    by_new_pods = before.mode == "RollingPods" and before.spec_hash == standing.hash
    if by_new_pods and decision is None and standing.kind is Kind.SETTLED:
        return (
            Past(
                version=standing.target.version,
                from_version=before.previous_version,
                spec_hash=standing.hash,
                outcome="Promoted",
                mode=before.mode,
                started_at=before.started_at,
                ended_at=findings.now,
            ),
        )
    if before.spec_hash is None or (decision and decision.standing.hash == before.spec_hash):
        return ()
    known = standing.before.target_version
    if known is None or known == standing.target.version or findings.hands_off:
        return ()
    active = standing.active.version if standing.active else None
    return (
        Past(
            version=known,
            from_version=active,
            spec_hash=before.spec_hash,
            outcome="Superseded",
            mode=before.mode,
            started_at=before.started_at,
            ended_at=findings.now,
            message=f"the spec names {standing.target.version} now",
        ),
    )


def _last_words(decision: Decision) -> str:
    if decision.failure:
        return f"{decision.failure.reason}: {decision.failure.message}"[:LONGEST_WORDS]
    analysis = decision.canary.analysis if decision.canary else None
    return analysis.message[:LONGEST_WORDS] if analysis else ""
