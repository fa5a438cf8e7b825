"""How a candidate gets into the pods: chosen by the memory that was measured there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.pod_state import Swap, VersionEntry

ROOM: Final = 1.1
"""How much more than the old version's workers hold must be free for those of the new one."""
FEWEST_TO_SHARE: Final = 2
"""Workers of a pod that two versions can have between them: one of each."""
MIB: Final = 1 << 20
OUT_OF_MEMORY: Final = frozenset({"OutOfMemory", "InsufficientMemory"})
"""The runtime's words for a version that did not fit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A way in, and why; without a way, what keeps it out."""

    mode: Swap | None
    why: str
    blocked: Reason | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """What does not fit into one pod."""

    pod: str
    needed: int
    free: int
    on_device: bool

    def __str__(self) -> str:
        where = "of the accelerator in" if self.on_device else "in"
        return (
            f"a second set of workers needs {_mib(self.needed)}, "
            f"{_mib(self.free)} {where} {self.pod} are free"
        )


def choose_mode(
    wished: str, candidate: VersionEntry, active: VersionEntry | None, model: str, fleet: Fleet
) -> Choice:
    """Choose how a candidate comes in.

    Args:
        wished: the spec's `mode`.
        candidate: the new version.
        active: the version it replaces, if there is one.
        model: the model's name.
        fleet: the pods, with what they measured.
    """
    if active is None:
        return Choice(Swap.SIDE_BY_SIDE, "there is no old version to make room for")
    short = _shortest(candidate, active, model, fleet.reporters)
    if wished == Swap.SIDE_BY_SIDE:
        if short is None:
            return Choice(Swap.SIDE_BY_SIDE, "the spec says so")
        accelerator = Reason.INSUFFICIENT_ACCELERATOR_MEMORY
        reason = accelerator if short.on_device else Reason.INSUFFICIENT_MEMORY
        return Choice(None, f"mode SideBySide has no room: {short}", reason)
    if wished != "Auto":
        return _as_wished(Swap(wished), candidate, fleet)
    if short is None:
        return Choice(Swap.SIDE_BY_SIDE, _why_there_is_room(active, model, fleet.reporters))
    return smaller(candidate, fleet, str(short))


def _as_wished(wished: Swap, candidate: VersionEntry, fleet: Fleet) -> Choice:
    if wished is Swap.WORKER_BY_WORKER and candidate.workers < FEWEST_TO_SHARE:
        return smaller(candidate, fleet, "mode WorkerByWorker needs workers.min of 2 or more")
    return Choice(wished, "the spec says so")


def smaller(candidate: VersionEntry, fleet: Fleet, why: str) -> Choice:
    """Return the way in that needs no second set of workers."""
    if candidate.workers >= FEWEST_TO_SHARE:
        return Choice(Swap.WORKER_BY_WORKER, why)
    if len(fleet.present) > 1:
        return Choice(
            Swap.RECREATE, f"{why}; a pod has one worker, and another pod serves meanwhile"
        )
    return Choice(
        None,
        f"{why}, and no other pod would serve meanwhile: give it more memory or a second replica, "
        "or accept a gap with spec.rollout.hot.mode Recreate",
        Reason.INSUFFICIENT_MEMORY,
    )


def _shortest(
    candidate: VersionEntry, active: VersionEntry, model: str, pods: Sequence[Reporter]
) -> Need | None:
    """Return what is needed where the least is left of it, if it is too little."""
    short = [need for pod in pods if (need := _short_in(pod, candidate, active, model))]
    return min(short, key=lambda need: need.free, default=None)


def _short_in(
    pod: Reporter, candidate: VersionEntry, active: VersionEntry, model: str
) -> Need | None:
    if pod.seen(model, candidate.version) is not None:
        return None  # it is in there already
    seen, free = pod.seen(model, active.version), pod.state.memory
    if seen is None:
        return None
    for each, left, on_device in (
        (seen.memory.worker_bytes, free.available_bytes, False),
        (seen.memory.device_bytes, free.device_available_bytes, True),
    ):
        needed = int(each * candidate.workers * ROOM)
        if each and left is not None and left < needed:
            return Need(pod.name, needed, left, on_device)
    return None


def _why_there_is_room(active: VersionEntry, model: str, pods: Sequence[Reporter]) -> str:
    measured = [
        (seen.memory.worker_bytes, pod.state.memory.available_bytes)
        for pod in pods
        if (seen := pod.seen(model, active.version)) and seen.memory.worker_bytes
    ]
    known = [(each, left) for each, left in measured if left is not None]
    if not known:
        return "nothing was measured that speaks against it"
    largest, least = max(each for each, _ in known), min(left for _, left in known)
    return f"a worker of the old version holds {_mib(largest)}, {_mib(least)} are free"


def _mib(amount: int) -> str:
    return f"{amount // MIB:,} MiB"
