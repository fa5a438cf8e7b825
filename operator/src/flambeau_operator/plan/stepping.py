"""From one step of a canary to the next, and from the last one to the promotion."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from flambeau_operator.plan import canary as steps
from flambeau_operator.plan.analysis import Verdict
from flambeau_operator.plan.canary import Canary
from flambeau_operator.plan.decision import Act, Decision, Scene, step_before
from flambeau_operator.plan.fleet import Reporter
from flambeau_operator.plan.joining import Joining, names, next_pods
from flambeau_operator.plan.standing import Standing
from flambeau_operator.plan.taking_back import failed_analysis, too_slow
from flambeau_operator.resources.pod_state import Swap


def go_on(scene: Scene, base: Decision) -> Decision:
    """Return what is next for a candidate that nothing speaks against so far."""
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
        return replace(base, act=Act.COMMIT, canary=step_before(scene))
    return _come_in(scene, replace(base, canary=step_before(scene)), in_all=True)


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
        return failed_analysis(scene, base)
    if verdict is Verdict.INCONCLUSIVE and hot.analysis:
        if hot.analysis.on_inconclusive == "Rollback":
            return failed_analysis(scene, base)
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
        return too_slow(scene)
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


def _late(scene: Scene, base: Decision) -> bool:
    canary = base.canary
    if canary and canary.started_at:
        return False  # pauses and analyses have bounds of their own
    deadline = timedelta(seconds=scene.rules.progress_deadline_s)
    return bool(base.since and not scene.fleet.silent and scene.now - base.since >= deadline)
