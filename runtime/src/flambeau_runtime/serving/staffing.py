"""Which workers a version should start and which should go: a pure choice from facts.

Applied again and again it reaches the wish: as many workers as wanted, all of the newest kind. On
the way no fewer serve than did before or are wanted, whichever is less: a new kind of worker has to
be ready before one of the old kind goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flambeau_runtime.serving.worker_state import WorkerState

LEAVING = frozenset({WorkerState.DRAINING, WorkerState.STOPPED})


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """One worker's place: numbers grow with age of the runtime, so the highest is the newest."""

    number: int
    current: bool  # born with what the version is wanted to have now
    state: WorkerState


@dataclass(frozen=True, slots=True)
class Staffing:
    """How many workers to start now, and the numbers of those to drain."""

    start: int = 0
    drain: tuple[int, ...] = ()


def staff(places: Sequence[PlaceFacts], wanted: int, room: int | None = None) -> Staffing:
    """Return the next step from these workers to `wanted` ones of the current kind.

    Args:
        places: every worker there is.
        wanted: how many there shall be.
        room: how many more processes there may be now; None: as many as it takes. Without room a
            worker of an old kind goes before one of the new kind comes.
    """
    staying = [place for place in places if place.state not in LEAVING]
    current = [place for place in staying if place.current]
    old = [place for place in staying if not place.current]
    surplus = _dispensable(current, len(current) - wanted)
    ready = sum(place.state is WorkerState.READY for place in current)
    kept = _still_needed(old, wanted - ready)
    leaving = surplus + [place for place in old if place not in kept]
    start = _to_start(current, kept, wanted)
    if room is not None and start > room:
        start = room
        if kept and not leaving and len(staying) == len(places):
            leaving = kept[-1:]  # and nobody is on the way out already
    return Staffing(start, tuple(place.number for place in leaving))


def _dispensable(places: Sequence[PlaceFacts], count: int) -> list[PlaceFacts]:
    """Those that do not serve yet or any more go first, then the newest."""
    return sorted(places, key=lambda p: (p.state is WorkerState.READY, -p.number))[: max(count, 0)]


def _still_needed(old: Sequence[PlaceFacts], count: int) -> list[PlaceFacts]:
    """Workers of an old kind stay only while they serve, the oldest the longest."""
    serving = [place for place in old if place.state is WorkerState.READY]
    return sorted(serving, key=lambda place: place.number)[: max(count, 0)]


def _to_start(current: Sequence[PlaceFacts], kept: Sequence[PlaceFacts], wanted: int) -> int:
    missing = max(wanted - len(current), 0)
    if not kept:
        return missing
    # One by one beside those that still serve: memory for one more worker is all it takes. Places
    # that the old kind does not fill are free to start at once.
    unproven = any(place.state is not WorkerState.READY for place in current)
    return min(missing, max(0 if unproven else 1, wanted - len(kept) - len(current)))
