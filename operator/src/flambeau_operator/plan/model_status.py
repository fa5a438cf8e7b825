"""The report on one model: read from facts; only the rollout's memory is kept."""

from __future__ import annotations

from collections.abc import Sequence

from flambeau_operator.plan.decision import Act, Decision
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.fleet import Reporter
from flambeau_operator.plan.history import history
from flambeau_operator.plan.rollout_memory import rollout_memory
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.resources.deployment_status import (
    ModelPhase,
    ModelStatus,
    Resolved,
)
from flambeau_operator.resources.pod_state import VersionEntry, VersionPhase, VersionState

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
        rollout=rollout_memory(standing, findings),
        history=history(standing, findings),
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
    proven = findings.act(standing) in {Act.COMMIT, Act.REVERT}
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
