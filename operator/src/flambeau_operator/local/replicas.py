"""Which pods to start and stop now: a pure choice, like maxSurge 1 and maxUnavailable 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """One pod that is there and is to stay so far."""

    name: str
    current: bool  # made from the template that is wanted now
    ready: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do now; more may follow when facts have changed."""

    start: int = 0
    stop: tuple[str, ...] = ()


def next_changes(members: Sequence[Member], replicas: int) -> Changes:
    """Return the pods to start and to stop so that never fewer are ready than are wanted.

    Args:
        members: the pods that do not terminate, oldest first.
        replicas: how many there shall be.
    """
    current = [member for member in members if member.current]
    old = [member for member in members if not member.current]
    steady = sorted(current, key=lambda member: not member.ready)  # of the others, the newest goes
    keep, surplus = steady[:replicas], steady[replicas:][::-1]
    return Changes(
        start=_to_start(keep, old, replicas),
        stop=tuple(member.name for member in surplus + _old_to_stop(keep, old, replicas)),
    )


def _to_start(current: Sequence[Member], old: Sequence[Member], replicas: int) -> int:
    """All that is missing at once; beside pods of an old template one at a time."""
    missing = replicas - len(current)
    if not old:
        return missing
    proven = all(member.ready for member in current)
    room = len(current) + len(old) <= replicas
    return min(missing, 1) if proven and room else 0


def _old_to_stop(current: Sequence[Member], old: Sequence[Member], replicas: int) -> list[Member]:
    """Those that serve nobody, and as many ready ones, newest first, as are not needed any more."""
    idle = [member for member in old if not member.ready]
    serving = [member for member in old if member.ready]
    spare = sum(member.ready for member in current) + len(serving) - replicas
    return idle + serving[::-1][: max(spare, 0)]
