"""How a candidate comes in: one pod proves it, the others follow, then it is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from flambeau_operator.names import versioned
from flambeau_operator.plan.entries import entry_hash
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.deployment_status import LastFailure
from flambeau_operator.resources.pod_state import ModelEntry, VersionPhase
from flambeau_operator.resources.quantities import format_duration, share_of
from flambeau_operator.resources.rollout import Rollout


class Step(StrEnum):
    """What a pass does with the candidate."""

    HOLD = "hold"
    JOIN = "join"
    COMMIT = "commit"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to the one model that rolls."""

    standing: Standing
    step: Step
    members: frozenset[str] = frozenset()  # the pods whose document names the candidate
    proven: int = 0  # how many of them have it ready
    since: datetime | None = None  # no progress since then; None while the clock stands still
    failure: LastFailure | None = None
    held_by: tuple[str, ...] = field(default=())  # silent pods that keep it from going on


def choose_rolling(standings: Sequence[Standing], fleet: Fleet) -> Standing | None:
    """Return the one model that rolls: the one that has begun, or else the first in the spec."""
    candidates = [each for each in standings if each.kind is Kind.CANDIDATE]
    begun = [each for each in candidates if _has_begun(each, fleet)]
    return next(iter(begun or candidates), None)


def _has_begun(standing: Standing, fleet: Fleet) -> bool:
    remembered = standing.before.rollout.spec_hash == standing.hash
    return remembered or any(pod.asked(standing.name, standing.target) for pod in fleet.reporters)


def decide(
    standing: Standing,
    fleet: Fleet,
    committed: Sequence[ModelEntry],
    rules: Rollout,
    pods_wanted: int,
    now: datetime,
) -> Decision:
    """Choose the next step of the model that rolls; the order of the lines is the policy.

    Args:
        standing: the model.
        fleet: the pods.
        committed: what every pod has besides.
        rules: the spec's words on rollouts.
        pods_wanted: what a percentage is a share of.
        now: the wall clock.
    """
    if pods_wanted == 0 or fleet.unreachable:
        return Decision(standing, Step.HOLD)
    members = [pod for pod in fleet.reporters if _is_member(pod, standing)]
    proven = [pod for pod in members if pod.serves(standing.name, standing.target)]
    since = _clock(standing, fleet, members=len(members), proven=len(proven), rules=rules, now=now)
    if broken := next((pod for pod in members if _gave_up(pod, standing)), None):
        return Decision(standing, Step.ROLL_BACK, failure=_failure_in(broken, standing, now))
    if fleet.settled and len(proven) == len(fleet.present) and not rules.paused:
        return Decision(standing, Step.COMMIT, _names(members), len(proven))
    if since and not fleet.silent and now - since >= timedelta(seconds=rules.progress_deadline_s):
        return Decision(standing, Step.ROLL_BACK, failure=_too_slow(members, standing, rules, now))
    allowed = share_of(rules.in_pods.max_unavailable_pods, pods_wanted)
    joining = [] if rules.paused else next_pods(fleet, standing, committed, allowed)
    return Decision(
        standing,
        Step.JOIN if joining else Step.HOLD,
        _names(members) | _names(joining),
        len(proven),
        since or (now if joining else None),
        held_by=tuple(pod.name for pod in fleet.silent),
    )


def next_pods(
    fleet: Fleet, standing: Standing, committed: Sequence[ModelEntry], allowed: int
) -> list[Reporter]:
    """Return the pods that take the candidate now.

    One at first, then as many as may change at the same time; a silent pod counts as changing.
    """
    if any(_holds_another_candidate(pod, standing, committed) for pod in fleet.reporters):
        return []  # what was dropped leaves the documents first
    members = [pod for pod in fleet.reporters if _is_member(pod, standing)]
    proven = sum(pod.serves(standing.name, standing.target) for pod in members)
    room = min(1 if not proven else allowed, allowed - len(fleet.silent))
    room -= len(members) - proven
    replaced = {pod.name for pod in fleet.replaced}
    free = [
        pod
        for pod in fleet.reporters
        if pod not in members and pod.name not in replaced and _can_take(pod, standing, committed)
    ]
    free.sort(key=lambda pod: (not pod.facts.ready, pod.name))
    return free[: max(room, 0)]


def _is_member(pod: Reporter, standing: Standing) -> bool:
    """Tell whether the pod's document names the candidate, and shall go on doing so.

    A pod that gave up on an earlier form of the entry drops it first and then starts anew.
    """
    held = pod.asked(standing.name, standing.target)
    if held is None:
        return False
    outdated = entry_hash(held) != entry_hash(standing.target)
    return not (outdated and pod.failed(standing.name, standing.target))


def _gave_up(pod: Reporter, standing: Standing) -> bool:
    return pod.failed(standing.name, standing.target)


def _can_take(pod: Reporter, standing: Standing, committed: Sequence[ModelEntry]) -> bool:
    """Tell whether the pod has done with everything else: started, and no version leaving."""
    active = {standing.active.version} if standing.active else set()
    nothing_leaves = pod.versions(standing.name) <= active
    return nothing_leaves and all(_came_to_rest(pod, model) for model in committed)


def _came_to_rest(pod: Reporter, model: ModelEntry) -> bool:
    entry = model.version(model.default)
    return entry is None or pod.serves(model.name, entry) or pod.failed(model.name, entry)


def _holds_another_candidate(
    pod: Reporter, standing: Standing, committed: Sequence[ModelEntry]
) -> bool:
    if pod.desired is None:
        return False
    kept = {
        (model.name, entry.version, entry.source) for model in committed for entry in model.versions
    }
    kept.add((standing.name, standing.target.version, standing.target.source))
    return any(
        (model.name, entry.version, entry.source) not in kept
        for model in pod.desired.models
        for entry in model.versions
    )


def _clock(
    standing: Standing, fleet: Fleet, *, members: int, proven: int, rules: Rollout, now: datetime
) -> datetime | None:
    """Return since when there has been no progress; it stands still while somebody holds it."""
    if rules.paused or fleet.gone_silent or not members:
        return None
    rollout = standing.before.rollout
    moved_on = proven > standing.before.ready_pods
    if rollout.spec_hash != standing.hash or rollout.progressed_at is None or moved_on:
        return now
    return rollout.progressed_at


def _failure_in(pod: Reporter, standing: Standing, now: datetime) -> LastFailure:
    seen = pod.seen(standing.name, standing.target.version)
    told = seen.failure if seen else None
    return LastFailure(
        reason=told.reason if told else str(Reason.MODEL_FAILED),
        message=told.message if told else "the pod gave no reason",
        log_tail=told.log_tail if told else "",
        pod=pod.name,
        time=now,
    )


def _too_slow(
    members: Sequence[Reporter], standing: Standing, rules: Rollout, now: datetime
) -> LastFailure:
    late = next(
        (pod for pod in members if not pod.serves(standing.name, standing.target)), members[0]
    )
    seen = late.seen(standing.name, standing.target.version)
    phase = seen.phase if seen else VersionPhase.PENDING
    told = f": {seen.failure.message}" if seen and seen.failure else ""
    limit = format_duration(rules.progress_deadline_s)
    name = versioned(standing.name, standing.target.version)
    return LastFailure(
        reason=str(Reason.PROGRESS_DEADLINE_EXCEEDED),
        message=f"{name} made no progress for {limit}, last seen {phase}{told}",
        log_tail=seen.failure.log_tail if seen and seen.failure else "",
        pod=late.name,
        time=now,
    )


def _names(pods: Sequence[Reporter]) -> frozenset[str]:
    return frozenset(pod.name for pod in pods)
