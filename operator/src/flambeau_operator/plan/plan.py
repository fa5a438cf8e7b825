"""One pass's decision: from facts to intentions, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flambeau_operator.names import DISABLED, RECONCILE
from flambeau_operator.plan.checks import check
from flambeau_operator.plan.children import Children, desired_children
from flambeau_operator.plan.committed import (
    Keeping,
    committed_after,
    committed_before,
    when_promoted,
)
from flambeau_operator.plan.decision import Decision
from flambeau_operator.plan.desired_state import changed_models, same_models
from flambeau_operator.plan.events import Event, transitions
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.fleet import Fleet, read_fleet
from flambeau_operator.plan.ownership import committed_set_is_foreign
from flambeau_operator.plan.rollout import choose_rolling, decide
from flambeau_operator.plan.standing import Standing, beside, stand
from flambeau_operator.plan.status import summarise
from flambeau_operator.plan.way_back import revert
from flambeau_operator.resources.conditions import ConditionType
from flambeau_operator.resources.deployment_status import ModelPhase, Status
from flambeau_operator.resources.model_deployment import ModelDeployment
from flambeau_operator.resources.observed import Snapshot
from flambeau_operator.resources.pod_state import Document, ModelEntry, Owner
from flambeau_operator.resources.rollout import Rollout

__all__ = ["Event", "Plan", "make_plan"]

STEP_S = 2.0  # while a step is looked at: counts change without a new revision
SOON_S = 5.0  # while something moves and no long poll tells of it
KEEPING_S = 15.0  # while a version is kept for a way back
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
    base = _base(deployment, snapshot, now)
    children = desired_children(deployment, snapshot.children.replicas, base or ())
    scene = _look(deployment, snapshot, children, base, now)
    rules, wanted = deployment.spec.rollout, children.replicas
    verdict = _judge(scene, rules, wanted)
    violation = check(
        deployment.spec.pod_template,
        scene.standings,
        _document(deployment, verdict.committed, 0),
        _document(deployment, when_promoted(verdict.committed, scene.standings), 0),
    )
    observe_only = deployment.metadata.annotations.get(RECONCILE) == DISABLED
    stuck = violation is not None and violation.freezes
    # Without a committed set of ours nothing may come in: who starts would not know of it.
    homeless = committed_set_is_foreign(snapshot.children.conflicts, deployment.metadata.name)
    if observe_only or stuck or homeless:
        verdict = Verdict(scene.base or ())
    frozen = scene.hands_off or observe_only or stuck or homeless
    writing = _write(scene, verdict, wanted, frozen=frozen)
    status = summarise(
        Findings(
            deployment=deployment,
            fleet=scene.fleet,
            standings=scene.standings,
            others=scene.others,
            decision=verdict.decision,
            reverts=verdict.reverts,
            committed=verdict.committed,
            writes=bool(writing.documents or writing.commit),
            hands_off=scene.hands_off,
            observe_only=observe_only,
            violation=violation,
            pods_wanted=wanted,
            children=snapshot.children,
            now=now,
        ),
        writing.sequence,
    )
    moving = bool(writing.documents or writing.commit) or _is_moving(status, wanted)
    return Plan(
        children=children,
        applies=not (observe_only or stuck),
        documents=writing.documents,
        commit=writing.commit,
        status=status,
        events=transitions(deployment.status, status),
        look_again_s=_look_again_s(verdict.decision, status, moving=moving),
        watch_pods=moving,
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is, read for one pass."""

    deployment: ModelDeployment
    snapshot: Snapshot
    fleet: Fleet
    base: tuple[ModelEntry, ...] | None  # what is committed
    standings: tuple[Standing, ...]  # of each model's own version
    others: tuple[Standing, ...]  # of the versions of splits and shadows
    hands_off: bool  # no pod answers, and there is something to lose
    now: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the models."""

    committed: tuple[ModelEntry, ...]
    decision: Decision | None = None
    reverts: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Writing:
    """What is written, and the sequence that everybody knows afterwards."""

    documents: Mapping[str, Document]
    commit: Document | None
    sequence: int


def _base(
    deployment: ModelDeployment, snapshot: Snapshot, now: datetime
) -> tuple[ModelEntry, ...] | None:
    uid = deployment.metadata.uid
    fleet = read_fleet(snapshot, uid, "", now)  # of whatever template
    return committed_before(snapshot.committed, fleet, deployment)


def _look(
    deployment: ModelDeployment,
    snapshot: Snapshot,
    children: Children,
    base: tuple[ModelEntry, ...] | None,
    now: datetime,
) -> Scene:
    fleet = read_fleet(snapshot, deployment.metadata.uid, children.template.template_hash, now)
    standings = stand(deployment, base, fleet)
    served = base is not None or any(model.active_version for model in deployment.status.models)
    return Scene(
        deployment=deployment,
        snapshot=snapshot,
        fleet=fleet,
        base=base,
        standings=standings,
        others=tuple(each for standing in standings for each in beside(standing)),
        hands_off=fleet.unreachable and served,
        now=now,
    )


def _judge(scene: Scene, rules: Rollout, wanted: int) -> Verdict:
    """Decide about every model; blindly, nothing is changed."""
    base, fleet, now = scene.base or (), scene.fleet, scene.now
    if scene.hands_off:
        return Verdict(base)
    chosen = choose_rolling([*scene.standings, *scene.others], fleet)
    decision = decide(chosen, fleet, base, rules, wanted, now) if chosen else None
    reverts = tuple(
        found for each in scene.standings if (found := revert(each, fleet, now)) is not None
    )
    rolling = [*reverts, *([decision] if decision else ())]
    keeping = Keeping(rules.in_pods, now)
    committed = committed_after(scene.standings, rolling, scene.others, keeping)
    return Verdict(committed, decision, reverts)


def _write(scene: Scene, verdict: Verdict, wanted: int, *, frozen: bool) -> Writing:
    deployment, fleet = scene.deployment, scene.fleet
    committed, uid = verdict.committed, deployment.metadata.uid
    rules, idle = deployment.spec.rollout, frozen or not wanted
    changed = {} if idle else changed_models(fleet, committed, verdict.decision, rules, wanted)
    kept = _is_kept(scene.snapshot.committed, uid, committed)
    sequence = _sequence(deployment, scene.snapshot, fleet)
    commit = None if frozen or kept else _commit(deployment, committed, sequence, fleet, changed)
    if commit:
        sequence = max(sequence, commit.sequence)
    if changed:
        sequence += 1
    documents = {pod: _document(deployment, each, sequence) for pod, each in changed.items()}
    return Writing(documents, commit, sequence)


def _look_again_s(decision: Decision | None, status: Status, *, moving: bool) -> float:
    if decision and decision.canary:
        return STEP_S
    if moving:
        return SOON_S
    kept = any(model.rollout.promoted_at for model in status.models)
    return KEEPING_S if kept else AT_REST_S


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
    by_new_pods = deployment.spec.rollout.strategy == "RollingPods"
    newer = (bool(changed) and not by_new_pods) or not fleet.reporters
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
