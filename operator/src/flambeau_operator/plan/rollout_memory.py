"""What a rollout must remember because no pod can tell it: the only state that is kept."""

from __future__ import annotations

from flambeau_operator.plan.decision import Act, Decision
from flambeau_operator.plan.entries import entry_hash, other_entries
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.plan.way_back import came_up_since, kept_version
from flambeau_operator.resources.deployment_status import ReplacedVersion, RolloutStatus
from flambeau_operator.resources.pod_state import Swap


def rollout_memory(standing: Standing, findings: Findings) -> RolloutStatus:
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
        kept = {
            "failed_hash": before.failed_hash,
            "last_failure": before.last_failure,
            "replaces": before.replaces,  # pods go back to it one after the other
        }
        memory = memory.model_copy(update=kept)
    if memory.failed_others:
        memory = memory.model_copy(update={"beside_failure": before.beside_failure})
    if decision is None:
        return memory
    if decision.act in {Act.ROLL_BACK, Act.REVERT}:
        return memory.model_copy(update=_as_failed(standing, decision))
    if decision.act is Act.COMMIT:
        return memory.model_copy(update=_as_promoted(standing, decision, findings))
    return memory.model_copy(update=_as_rolling(decision, findings))


def _as_failed(standing: Standing, decision: Decision) -> dict[str, object]:
    if decision.standing.beside:
        return {"beside_failure": decision.failure}
    failed: dict[str, object] = {
        "last_failure": decision.failure,
        "failed_hash": entry_hash(standing.target),
        "replaces": standing.before.rollout.replaces,
    }
    if decision.canary and decision.canary.analysis:
        failed["analysis"] = decision.canary.analysis
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
        "replaces": _replaced(decision),
        "held": decision.held,
        "analysis": canary.analysis if canary else None,
    }


def _replaced(decision: Decision) -> ReplacedVersion | None:
    active = decision.standing.active
    if active is None or decision.mode is not Swap.RECREATE or decision.standing.beside:
        return None
    return ReplacedVersion(
        version=active.version,
        uri=active.source.uri,
        digest=active.source.digest,
        credentials=active.source.credentials,
    )


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
