"""One pass's decision: from facts to intentions, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flambeau_operator.names import DISABLED, RECONCILE
from flambeau_operator.plan.checks import check
from flambeau_operator.plan.children import Children, desired_children
from flambeau_operator.plan.desired_state import (
    changed_models,
    committed_after,
    committed_before,
    same_models,
)
from flambeau_operator.plan.events import Event, transitions
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.fleet import Fleet, read_fleet
from flambeau_operator.plan.ownership import committed_set_is_foreign
from flambeau_operator.plan.rollout import choose_rolling, decide
from flambeau_operator.plan.standing import stand
from flambeau_operator.plan.status import summarise
from flambeau_operator.resources.conditions import ConditionType
from flambeau_operator.resources.deployment_status import ModelPhase, Status
from flambeau_operator.resources.model_deployment import ModelDeployment
from flambeau_operator.resources.observed import Snapshot
from flambeau_operator.resources.pod_state import Document, ModelEntry, Owner

__all__ = ["Event", "Plan", "make_plan"]

SOON_S = 5.0  # while something moves and no long poll tells of it
AT_REST_S = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass shall do: write the status, then commit, then PUT, then tell."""

    children: Children
    applies: bool  # False: the children stay as they are
    documents: Mapping[
        str, Document
    ]  # pod name → its new document; only pods whose document changes
    commit: Document | None  # the new committed set, written before any document is PUT
    status: Status  # complete, its sequence raised if a document changes
    events: tuple[Event, ...]
    look_again_s: float
    watch_pods: bool  # wait on the pods' long polls: rolling, or not at the goal


def make_plan(deployment: ModelDeployment, snapshot: Snapshot, now: datetime) -> Plan:
    """Decide what one pass shall do.

    Args:
        deployment: the wish, with the status that was read together with it.
        snapshot: the facts, gathered after that.
        now: the wall clock, with a timezone.
    """
    now = now.replace(microsecond=0)  # Kubernetes' timestamps have no fractions
    running = snapshot.children.replicas
    children, uid = desired_children(deployment, running), deployment.metadata.uid
    fleet = read_fleet(snapshot, uid, children.template.template_hash, now)
    base = committed_before(snapshot.committed, fleet, uid)
    standings = stand(deployment, base, fleet)
    # No pod answers, and there is something to lose: nothing may be changed blindly.
    served = base is not None or any(model.active_version for model in deployment.status.models)
    hands_off = fleet.unreachable and served
    chosen = None if hands_off else choose_rolling(standings, fleet)
    wanted, rules = children.replicas, deployment.spec.rollout
    decision = decide(chosen, fleet, base or (), rules, wanted, now) if chosen else None
    committed = base or () if hands_off else committed_after(standings, decision)
    violation = check(deployment.spec.pod_template, standings, _document(deployment, committed, 0))
    observe_only = deployment.metadata.annotations.get(RECONCILE) == DISABLED
    stuck = violation is not None and violation.freezes
    # Without a committed set of ours nothing may come in: who starts would not know of it.
    homeless = committed_set_is_foreign(snapshot.children.conflicts, deployment.metadata.name)
    if observe_only or stuck or homeless:
        committed, decision = base or (), None
    frozen = hands_off or observe_only or stuck or homeless
    changed = {} if frozen or not wanted else changed_models(fleet, committed, decision)
    kept = _is_kept(snapshot.committed, uid, committed)
    sequence = _sequence(deployment, snapshot, fleet)
    commit = None if frozen or kept else _commit(deployment, committed, sequence, fleet, changed)
    if commit:
        sequence = max(sequence, commit.sequence)
    if changed:
        sequence += 1
    status = summarise(
        Findings(
            deployment=deployment,
            fleet=fleet,
            standings=standings,
            decision=decision,
            committed=committed,
            writes=bool(changed or commit),
            hands_off=hands_off,
            observe_only=observe_only,
            violation=violation,
            pods_wanted=wanted,
            children=snapshot.children,
            now=now,
        ),
        sequence,
    )
    moving = bool(changed or commit) or _is_moving(status, wanted)
    return Plan(
        children=children,
        applies=not (observe_only or stuck),
        documents={pod: _document(deployment, each, sequence) for pod, each in changed.items()},
        commit=commit,
        status=status,
        events=transitions(deployment.status, status),
        look_again_s=SOON_S if moving else AT_REST_S,
        watch_pods=moving,
    )


def _is_kept(committed: Document | None, owner_uid: str, wanted: tuple[ModelEntry, ...]) -> bool:
    if committed is None or committed.owner.uid != owner_uid:
        return False
    return same_models(committed.models, wanted)


def _sequence(deployment: ModelDeployment, snapshot: Snapshot, fleet: Fleet) -> int:
    """Return the highest sequence that anybody knows of."""
    uid, committed = deployment.metadata.uid, snapshot.committed
    known = committed.sequence if committed and committed.owner.uid == uid else 0
    return max(deployment.status.sequence, fleet.highest_sequence, known)


def _commit(
    deployment: ModelDeployment,
    models: tuple[ModelEntry, ...],
    sequence: int,
    fleet: Fleet,
    changed: Mapping[str, tuple[ModelEntry, ...]],
) -> Document:
    """Return the committed set to write.

    Its sequence lies below that of the documents PUT in the same pass: a pod that happens to see
    the file first takes the document all the same. When no pod's document changes, the set only
    says again what the pods have, and must not look newer, or they would drop a candidate.
    """
    newer = bool(changed) or not fleet.reporters
    return _document(deployment, models, sequence + 1 if newer else sequence)


def _document(
    deployment: ModelDeployment, models: tuple[ModelEntry, ...], sequence: int
) -> Document:
    about = deployment.metadata
    return Document(
        owner=Owner(namespace=about.namespace, name=about.name, uid=about.uid),
        sequence=sequence,
        generation=about.generation,
        models=models,
    )


def _is_moving(status: Status, pods_wanted: int) -> bool:
    """Tell whether the pods will soon have something new to say."""
    if not pods_wanted:
        return status.replicas > 0
    at_rest = {ModelPhase.SERVING, ModelPhase.ROLLED_BACK}
    ready = status.condition(ConditionType.READY)
    waiting = status.condition(ConditionType.RECONCILING) is not None
    unready = ready is None or ready.status != "True"
    return waiting or unready or any(model.phase not in at_rest for model in status.models)
