"""How a candidate comes in: one pod proves it, the others follow, steps raise its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from flambeau_operator.plan.decision import Act, Decision, Scene
from flambeau_operator.plan.fleet import Fleet
from flambeau_operator.plan.joining import gave_up, has_begun, names
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.plan.stepping import go_on
from flambeau_operator.plan.swap_mode import Choice, choose_mode
from flambeau_operator.plan.taking_back import broken, taken_back
from flambeau_operator.plan.way_back import MOST_REBOOTS, known_by_pod
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.pod_state import ModelEntry, Swap
from flambeau_operator.resources.quantities import format_duration
from flambeau_operator.resources.rollout import Rollout


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
    if bad := next((pod for pod in scene.members if gave_up(pod, standing)), None):
        return broken(scene, bad)
    if standing.orders.abort:
        return taken_back(scene, Reason.ABORTED, "a person asked for it")
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
        return taken_back(scene, Reason.BROUGHT_POD_DOWN, said)
    return go_on(scene, base)


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
        return taken_back(scene, Reason.PROGRESS_DEADLINE_EXCEEDED, said)
    return Decision(
        standing,
        Act.ROLL_PODS,
        members=names(scene.members),
        proven=len(scene.proven),
        since=since,
        mode_reason="the spec says so: new pods bring the new version",
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
        came_up=known_by_pod(known, again),
        retold=names(again),
    )


def _mode(scene: Scene) -> Choice:
    """Return the way in: chosen once, before the first pod takes the candidate."""
    before, standing = scene.standing.before.rollout, scene.standing
    if scene.same and before.mode and before.mode != "RollingPods":
        return Choice(Swap(before.mode), before.mode_reason)
    wished = "SideBySide" if standing.beside else scene.rules.in_pods.mode
    return choose_mode(wished, standing.target, standing.active, standing.name, scene.fleet)


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
