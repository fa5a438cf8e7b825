"""Which pods take a candidate, and which of them now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flambeau_operator.plan.entries import entry_hash
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.standing import Standing
from flambeau_operator.resources.pod_state import ModelEntry, Swap


@dataclass(frozen=True, slots=True)
class Joining:
    """What decides who is next."""

    standing: Standing
    fleet: Fleet
    committed: Sequence[ModelEntry]
    allowed: int  # how many pods may change at the same time
    mode: Swap
    limit: int | None = None  # how many may have it at all; None: all of them


def next_pods(joining: Joining) -> list[Reporter]:
    """Return the pods that take the candidate now.

    One at first, then as many as may change at the same time; a silent pod counts as changing.
    """
    standing, fleet, committed = joining.standing, joining.fleet, joining.committed
    if any(_holds_another_candidate(pod, standing, committed) for pod in fleet.reporters):
        return []  # what was dropped leaves the documents first
    members = [pod for pod in fleet.reporters if is_member(pod, standing)]
    proven = sum(pod.serves(standing.name, standing.target) for pod in members)
    room = min(1 if not proven else joining.allowed, joining.allowed - len(fleet.silent))
    room -= len(members) - proven
    if joining.limit is not None:
        room = min(room, joining.limit - len(members))
    replaced = {pod.name for pod in fleet.replaced}
    free = [
        pod
        for pod in fleet.reporters
        if pod not in members and pod.name not in replaced and _can_take(pod, standing, committed)
    ]
    free.sort(key=lambda pod: (not pod.facts.ready, pod.name))
    if joining.mode is Swap.RECREATE:
        free = _that_may_leave(free, joining, changing=len(members) - proven)
    return free[: max(room, 0)]


def _that_may_leave(free: list[Reporter], joining: Joining, changing: int) -> list[Reporter]:
    """Choose where a pod leaves the Service to change: first those that do not serve anyway.

    Those take nothing from it, and are often what the new version shall mend. Of the others, as
    many as may be out together with all that are out already.
    """
    fleet, standing = joining.fleet, joining.standing
    others = [pod for pod in fleet.reporters if not is_member(pod, standing)]
    out = len(fleet.silent) + changing + sum(not pod.facts.ready for pod in others)
    serving = [pod for pod in free if pod.facts.ready]
    return [
        *(pod for pod in free if not pod.facts.ready),
        *serving[: max(joining.allowed - out, 0)],
    ]


def has_begun(standing: Standing, fleet: Fleet) -> bool:
    """Tell whether a candidate is on its way already."""
    remembered = standing.before.rollout.spec_hash == standing.hash
    if remembered or standing.held:
        return remembered
    return any(pod.asked(standing.name, standing.target) for pod in fleet.reporters)


def is_member(pod: Reporter, standing: Standing) -> bool:
    """Tell whether the pod's document names the candidate, and shall go on doing so.

    A pod that gave up on an earlier form of the entry drops it first and then starts anew.
    """
    held = pod.asked(standing.name, standing.target)
    if held is None:
        return False
    outdated = entry_hash(held) != entry_hash(standing.target)
    return not (outdated and pod.failed(standing.name, standing.target))


def gave_up(pod: Reporter, standing: Standing) -> bool:
    """Tell whether the pod failed to bring the candidate up."""
    return pod.failed(standing.name, standing.target)


def names(pods: Sequence[Reporter]) -> frozenset[str]:
    """Return what the pods are called."""
    return frozenset(pod.name for pod in pods)


def _can_take(pod: Reporter, standing: Standing, committed: Sequence[ModelEntry]) -> bool:
    """Tell whether the pod has done with everything else: started, and no version leaving."""
    known = standing.committed.versions if standing.committed else ()
    nothing_leaves = pod.versions(standing.name) <= {each.version for each in known}
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
