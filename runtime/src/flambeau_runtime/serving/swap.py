"""How the versions of one model share its workers while one makes room for another (pure).

WorkerByWorker: at no moment are there more places than `capacity`, and at most one worker is
missing in the sum: a leaving one goes only when one that grows can take its place, and the next
only when that one is ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flambeau_runtime.serving.desired import ModelSpec, Swap


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers of one version.

    `present` counts every place whose process may exist, leaving ones too; `staying` only those
    that were not asked to leave. A version that is `closing` holds nothing that it could keep.
    """

    wanted: int
    present: int
    staying: int
    ready: int
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Allotment:
    """How many workers a version shall keep now, and how many it may start; None: all it needs."""

    keep: int
    room: int | None = None


def capacity_of(model: ModelSpec) -> int | None:
    """Return how many workers the model may have in all its versions; None: no bound."""
    if model.swap is Swap.SIDE_BY_SIDE:
        return None
    return sum(spec.workers for spec in model.versions)


def takes_turns(model: ModelSpec) -> bool:
    """Return whether the old version has to be gone before the new one may come.

    Worker by worker needs a second worker to answer meanwhile; with one it is the same.
    """
    capacity = capacity_of(model)
    return capacity is not None and (model.swap is Swap.RECREATE or capacity <= 1)


def allot(crews: Sequence[Crew], mine: int, capacity: int | None) -> Allotment:
    """Return what the crew at index `mine` may have beside the others; their order is fixed."""
    crew = crews[mine]
    if capacity is None or crew.closing:
        return Allotment(0 if crew.closing else crew.wanted)
    if len(crews) == 1:  # nobody to share with: what a load of its own needs is no swap's business
        capacity = max(capacity, crew.wanted)
    room = max(capacity - sum(it.present for it in crews), 0)
    if not _has_surplus(crew):
        return Allotment(crew.wanted, room)
    excess = max(sum(map(_claim, crews)) - capacity, 0)
    for earlier in crews[:mine]:
        excess -= min(excess, _surplus(earlier))
    return Allotment(crew.staying - min(excess, _surplus(crew)), room)


def _claim(crew: Crew) -> int:
    """Return how many places a version takes or is about to take: one beyond those that serve."""
    if crew.closing:
        return 0
    if _has_surplus(crew):
        return crew.staying
    return min(crew.wanted, max(crew.ready + 1, crew.staying))


def _has_surplus(crew: Crew) -> bool:
    return _surplus(crew) > 0


def _surplus(crew: Crew) -> int:
    return 0 if crew.closing else max(crew.staying - crew.wanted, 0)
