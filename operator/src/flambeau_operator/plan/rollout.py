"""How a candidate comes in: one pod proves it, the others follow, steps raise its weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from flambeau_operator.names import versioned
from flambeau_operator.plan import canary as steps
from flambeau_operator.plan.analysis import Verdict
from flambeau_operator.plan.canary import Canary
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.joining import (
    Joining,
    gave_up,
    has_begun,
    is_member,
    names,
    next_pods,
)
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.plan.swap_mode import OUT_OF_MEMORY, Choice, choose_mode, smaller
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.deployment_status import LastFailure
from flambeau_operator.resources.pod_state import ModelEntry, Swap, VersionPhase
from flambeau_operator.resources.quantities import format_duration, share_of
from flambeau_operator.resources.rollout import Rollout

MOST_REBOOTS = 2
"""Containers that may come up again with the candidate in them before it is blamed for it."""


class Act(StrEnum):
    """What a pass does with the candidate."""

    HOLD = "hold"
    JOIN = "join"
    COMMIT = "commit"
    ROLL_PODS = "roll pods"  # committed for the pods to come; those that run keep what they have
    ROLL_BACK = "roll back"
    REVERT = "revert"  # it was promoted, and the version before it is still there


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to the one model that rolls."""

    standing: Standing
    act: Act
    members: frozenset[str] = frozenset()  # the pods whose document names the candidate
    proven: int = 0  # how many of them have it ready
    since: datetime | None = None  # no progress since then; None while the clock stands still
    failure: LastFailure | None = None
    held_by: tuple[str, ...] = field(default=())  # silent pods that keep it from going on
    canary: Canary | None = None  # the step that is being taken
    mode: Swap = Swap.SIDE_BY_SIDE
    mode_reason: str = ""
    came_up: tuple[str, ...] = ()  # processes that started again where the candidate was
    retold: frozenset[str] = frozenset()  # pods that came up again and wait for the same words
    held: str = ""  # what a person is waited for
    blocked: tuple[Reason, str] | None = None  # what keeps it from coming in at all


@dataclass(frozen=True, slots=True)
class Scene:
    """What a decision is made from."""

    standing: Standing
    fleet: Fleet
    committed: Sequence[ModelEntry]
    rules: Rollout
    pods_wanted: int
    now: datetime

    @property
    def members(self) -> list[Reporter]:
        """The pods that have the candidate in their document."""
        return [pod for pod in self.fleet.reporters if is_member(pod, self.standing)]

    @property
    def proven(self) -> list[Reporter]:
        """Those of them where it is ready."""
        name, target = self.standing.name, self.standing.target
        return [pod for pod in self.members if pod.serves(name, target)]

    @property
    def everywhere(self) -> bool:
        """Whether every pod has it ready, and none is silent or about to be replaced."""
        return self.fleet.settled and len(self.proven) == len(self.fleet.present)

    @property
    def same(self) -> bool:
        """Whether the memory in the status is of this candidate."""
        return self.standing.before.rollout.spec_hash == self.standing.hash

    @property
    def allowed(self) -> int:
        """How many pods may change at the same time."""
        return share_of(self.rules.in_pods.max_unavailable_pods, self.pods_wanted)


def choose_rolling(standings: Sequence[Standing], fleet: Fleet) -> Standing | None:
    """Return the one that rolls: the one that has begun, or else the first in the spec."""
    candidates = [each for each in standings if each.kind is Kind.CANDIDATE]
    begun = [each for each in candidates if has_begun(each, fleet)]
    return next(iter(begun or candidates), None)


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
        return _kept(Decision(standing, Act.HOLD))
    scene = Scene(standing, fleet, committed, rules, pods_wanted, now)
    if broken := next((pod for pod in scene.members if gave_up(pod, standing)), None):
        return _broken(scene, broken)
    if standing.orders.abort:
        return _taken_back(scene, Reason.ABORTED, "a person asked for it")
    by_new_pods = rules.strategy == "RollingPods" and not standing.beside
    return _by_new_pods(scene) if by_new_pods else _in_the_pods(scene)


def _in_the_pods(scene: Scene) -> Decision:
    standing, choice = scene.standing, _mode(scene)
    if choice.mode is None:
        blocked = (choice.blocked or Reason.INSUFFICIENT_MEMORY, choice.why)
        return Decision(standing, Act.HOLD, blocked=blocked)
    base = _base(scene, choice, choice.mode)
    if len(base.came_up) > MOST_REBOOTS:
        said = f"containers came up again {len(base.came_up)} times while they had it"
        return _taken_back(scene, Reason.BROUGHT_POD_DOWN, said)
    return _onward(scene, base)


def _by_new_pods(scene: Scene) -> Decision:
    """Let new pods bring it; the Deployment says how many at a time."""
    standing, known = scene.standing, scene.standing.committed
    begun = known is not None and known.default == standing.target.version
    if scene.rules.paused and not begun:
        return Decision(standing, Act.HOLD)
    before = standing.before
    moved_on = len(scene.proven) > before.ready_pods
    clock = before.rollout.progressed_at if scene.same and not moved_on else None
    since = clock or scene.now
    deadline = timedelta(seconds=scene.rules.progress_deadline_s)
    if begun and scene.now - since >= deadline:
        limit = format_duration(scene.rules.progress_deadline_s)
        said = f"no new pod became ready with it for {limit}"
        return _taken_back(scene, Reason.PROGRESS_DEADLINE_EXCEEDED, said)
    return Decision(
        standing,
        Act.ROLL_PODS,
        members=names(scene.members),
        proven=len(scene.proven),
        since=since,
        mode_reason="the spec says so: new pods bring the new version",
    )


def _onward(scene: Scene, base: Decision) -> Decision:
    all_steps = steps.steps_of(scene.rules.in_pods, scene.standing)
    before = scene.standing.before.rollout
    index = before.step if scene.same else None
    if index is None and _was_promoted(scene.standing):
        index = len(all_steps)
    if scene.standing.orders.promote or not all_steps:
        return _straight(scene, base)
    if index is None and base.mode is not Swap.RECREATE:
        if not scene.everywhere or scene.rules.paused:
            return _come_in(scene, base)
        return _stepping(scene, base, 0)
    if index is not None and index >= len(all_steps):
        hot, last = scene.rules.in_pods, len(all_steps) - 1
        canary = steps.enter(scene.standing, all_steps, last, hot)
        return _past_the_last(scene, base, replace(canary, analysis=before.analysis))
    return _in_step(scene, base, index or 0)


def _was_promoted(standing: Standing) -> bool:
    """Tell whether a pass has decided so before, and did not live to commit it.

    What the steps have shown is not asked for once more, and no weight goes down for it.
    """
    before = standing.before
    past = next(iter(before.history), None)
    told = past is not None and (past.spec_hash, past.outcome) == (standing.hash, "Promoted")
    replaces = standing.active is not None and standing.active.version != standing.target.version
    return told and replaces and before.active_version == standing.target.version


def _straight(scene: Scene, base: Decision) -> Decision:
    """Bring it into every pod, then commit it."""
    if scene.everywhere and not scene.rules.paused:
        return replace(base, act=Act.COMMIT, canary=_seen_last(scene))
    return _come_in(scene, replace(base, canary=_seen_last(scene)), in_all=True)


def _seen_last(scene: Scene) -> Canary | None:
    """Return the step that was being taken, for its numbers."""
    before, hot = scene.standing.before.rollout, scene.rules.in_pods
    if not scene.same or before.step is None or not hot.steps:
        return None
    index = min(before.step, len(hot.steps) - 1)
    return replace(steps.enter(scene.standing, hot.steps, index, hot), analysis=before.analysis)


def _in_step(scene: Scene, base: Decision, index: int) -> Decision:
    standing, rules, before = scene.standing, scene.rules, scene.standing.before.rollout
    hot = rules.in_pods
    all_steps = steps.steps_of(hot, standing)
    started = before.step_started_at if scene.same and before.step == index else None
    canary = replace(steps.enter(standing, all_steps, index, hot), started_at=started)
    there = _is_there(scene, base.mode, canary)
    canary = replace(canary, started_at=started or (scene.now if there else None))
    if hot.analysis:
        found = steps.judge(standing, scene.fleet, canary, hot.analysis, base.mode, scene.now)
        canary = replace(canary, analysis=found)
    base = replace(base, canary=canary)
    if (verdict := _verdict(canary)) is Verdict.FAILED:
        return _failed_analysis(scene, base)
    if verdict is Verdict.INCONCLUSIVE and hot.analysis:
        if hot.analysis.on_inconclusive == "Rollback":
            return _failed_analysis(scene, base)
        if hot.analysis.on_inconclusive == "Pause" and not standing.orders.next_step:
            base = replace(base, held=canary.analysis.message if canary.analysis else "")
            return _come_in(scene, base)
    if rules.paused or not there or not _is_done(scene, canary, verdict):
        return _come_in(scene, base)
    if index + 1 < len(all_steps):
        return _stepping(scene, base, index + 1)
    return _past_the_last(scene, base, canary)


def _past_the_last(scene: Scene, base: Decision, canary: Canary) -> Decision:
    """Commit it, or first bring it into the pods that have it not; its weight stays till then."""
    if scene.everywhere and not scene.rules.paused:
        return replace(base, act=Act.COMMIT)
    hot = scene.rules.in_pods
    all_steps, last = steps.steps_of(hot, scene.standing), (hot.steps or (canary.step,))[-1]
    passed = replace(canary, index=len(all_steps), step=last)
    return _come_in(scene, replace(base, canary=passed))


def _stepping(scene: Scene, base: Decision, index: int) -> Decision:
    """Take the next step: every pod that has the candidate is told at the same time."""
    hot = scene.rules.in_pods
    canary = steps.enter(scene.standing, steps.steps_of(hot, scene.standing), index, hot)
    # What let it pass is told together with the step, before that has numbers of its own.
    canary = replace(canary, analysis=base.canary.analysis if base.canary else None)
    return _come_in(scene, replace(base, canary=canary, since=scene.now), moved=True)


def _is_there(scene: Scene, mode: Swap, canary: Canary) -> bool:
    """Tell whether every pod that shall have the step has it."""
    if not scene.fleet.settled:
        return False
    if mode is Swap.RECREATE:
        wanted = steps.pods_of_step(canary, len(scene.fleet.present))
        counting = [pod for pod in scene.proven if steps.has_step(pod, scene.standing, canary)]
        return len(counting) >= wanted
    return scene.everywhere and all(
        steps.has_step(pod, scene.standing, canary) for pod in scene.proven
    )


def _is_done(scene: Scene, canary: Canary, verdict: Verdict | None) -> bool:
    if scene.standing.orders.next_step:
        return True
    if canary.started_at is None:
        return False
    # Both moments are cut to whole seconds: a pause is never shorter than it was asked for.
    lasted = scene.now - canary.started_at > timedelta(seconds=canary.step.pause_s)
    lasted = lasted or not canary.step.pause_s
    return lasted and verdict in {None, Verdict.PASSED, Verdict.INCONCLUSIVE}


def _verdict(canary: Canary) -> Verdict | None:
    return Verdict(canary.analysis.verdict) if canary.analysis else None


def _come_in(
    scene: Scene, base: Decision, *, moved: bool = False, in_all: bool = False
) -> Decision:
    """Let more pods take the candidate, as many as may change at the same time.

    `moved`: a step has just been taken. `in_all`: no step holds it back from any pod.
    """
    rules, late = scene.rules, _late(scene, base)
    if late and not moved:
        return _too_slow(scene)
    joining: list[Reporter] = []
    if not rules.paused:
        by_pods = base.mode is Swap.RECREATE and base.canary and not in_all
        limit = steps.pods_of_step(base.canary, len(scene.fleet.present)) if by_pods else None
        joining = next_pods(
            Joining(scene.standing, scene.fleet, scene.committed, scene.allowed, base.mode, limit)
        )
    return replace(
        base,
        act=Act.JOIN if joining else Act.HOLD,
        members=names(scene.members) | names(joining),
        since=base.since or (scene.now if joining else None),
    )


def _base(scene: Scene, choice: Choice, mode: Swap) -> Decision:
    standing, before = scene.standing, scene.standing.before.rollout
    again = [pod for pod in scene.members if pod.state.cautious]
    known = before.came_up if scene.same else ()
    return Decision(
        standing,
        Act.HOLD,
        members=names(scene.members),
        proven=len(scene.proven),
        since=_clock(scene),
        held_by=tuple(pod.name for pod in scene.fleet.silent),
        mode=mode,
        mode_reason=choice.why,
        came_up=_known_by_pod(known, again),
        retold=names(again),
    )


def _mode(scene: Scene) -> Choice:
    """Return the way in: chosen once, before the first pod takes the candidate."""
    before, standing = scene.standing.before.rollout, scene.standing
    if scene.same and before.mode and before.mode != "RollingPods":
        return Choice(Swap(before.mode), before.mode_reason)
    wished = "SideBySide" if standing.beside else scene.rules.in_pods.mode
    return choose_mode(wished, standing.target, standing.active, standing.name, scene.fleet)


def _broken(scene: Scene, pod: Reporter) -> Decision:
    """Take it back, or in a smaller way if it only did not fit."""
    standing, before = scene.standing, scene.standing.before.rollout
    failure = _failure_in(pod, standing, scene.now)
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


def _rolled_back(scene: Scene, failure: LastFailure) -> Decision:
    before = scene.standing.before.rollout
    mode = Swap(before.mode) if before.mode and before.mode != "RollingPods" else Swap.SIDE_BY_SIDE
    return Decision(
        scene.standing,
        Act.ROLL_BACK,
        proven=len(scene.proven),
        failure=failure,
        canary=_seen_last(scene),
        mode=mode,
        mode_reason=before.mode_reason,
    )


def _taken_back(scene: Scene, reason: Reason, message: str) -> Decision:
    failure = LastFailure(reason=str(reason), message=message, time=scene.now)
    return _rolled_back(scene, failure)


def _failed_analysis(scene: Scene, base: Decision) -> Decision:
    found = base.canary.analysis if base.canary else None
    failed = found is not None and found.verdict == Verdict.FAILED.value
    reason = Reason.ANALYSIS_FAILED if failed else Reason.ANALYSIS_INCONCLUSIVE
    decision = _taken_back(scene, reason, found.message if found else "")
    return replace(decision, canary=base.canary)


def revert(standing: Standing, fleet: Fleet, now: datetime) -> Decision | None:
    """Go back to the version that is still kept, when the promoted one fails in a pod."""
    previous = kept_version(standing)
    active = standing.active
    if standing.kind is not Kind.SETTLED or previous is None or active is None:
        return None
    broken = next((pod for pod in fleet.reporters if pod.failed(standing.name, active)), None)
    told = _failure_in(broken, standing, now) if broken else _brought_down(standing, fleet, now)
    if told is None:
        return None
    failure = told.model_copy(
        update={
            "reason": str(Reason.FAILED_AFTER_PROMOTION),
            "message": f"{told.reason}: {told.message}",
        }
    )
    return Decision(standing, Act.REVERT, failure=failure)


def came_up_since(standing: Standing, fleet: Fleet) -> tuple[str, ...]:
    """Return the processes that came up again with a promoted version, while a way back is kept."""
    if kept_version(standing) is None or standing.active is None:
        return ()
    again = [
        pod
        for pod in fleet.reporters
        if pod.state.cautious and pod.facts.restarts and pod.asked(standing.name, standing.active)
    ]
    return _known_by_pod(standing.before.rollout.came_up, again)


def _known_by_pod(known: Sequence[str], again: Sequence[Reporter]) -> tuple[str, ...]:
    return tuple(sorted({*known, *(f"{pod.name}/{pod.state.process_id}" for pod in again)}))


def _brought_down(standing: Standing, fleet: Fleet, now: datetime) -> LastFailure | None:
    """Return the failure of a version whose container comes up again and again in one pod."""
    pods = Counter(each.partition("/")[0] for each in came_up_since(standing, fleet))
    pod, times = next(iter(pods.most_common(1)), ("", 0))
    if times <= MOST_REBOOTS:
        return None
    said = f"its container came up again {times} times since the promotion"
    return LastFailure(reason=str(Reason.BROUGHT_POD_DOWN), message=said, pod=pod, time=now)


def kept_version(standing: Standing) -> str | None:
    """Return the version that was replaced last, if it is kept for a way back."""
    rollout, known = standing.before.rollout, standing.committed
    name = rollout.previous_version if rollout.promoted_at else None
    if name is None or known is None or name == known.default or not known.version(name):
        return None
    return name


def _late(scene: Scene, base: Decision) -> bool:
    canary = base.canary
    if canary and canary.started_at:
        return False  # pauses and analyses have bounds of their own
    deadline = timedelta(seconds=scene.rules.progress_deadline_s)
    return bool(base.since and not scene.fleet.silent and scene.now - base.since >= deadline)


def _clock(scene: Scene) -> datetime | None:
    """Return since when there has been no progress; it stands still while somebody holds it."""
    before = scene.standing.before
    if scene.rules.paused or scene.fleet.gone_silent or not scene.members:
        return None
    moved_on = len(scene.proven) > before.ready_pods
    if not scene.same or before.rollout.progressed_at is None or moved_on:
        return scene.now
    return before.rollout.progressed_at


def _kept(decision: Decision) -> Decision:
    """Keep in mind how it comes in, while nobody can be asked."""
    before = decision.standing.before.rollout
    if before.spec_hash != decision.standing.hash or not before.mode:
        return decision
    if before.mode == "RollingPods":
        return decision
    return replace(
        decision,
        mode=Swap(before.mode),
        mode_reason=before.mode_reason,
        came_up=before.came_up,
    )


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


def _too_slow(scene: Scene) -> Decision:
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
