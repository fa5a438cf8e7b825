"""How hard this runtime works: the oldest job's wait, and how saturated its workers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flambeau_runtime.serving.live_version import LiveVersion

WINDOW_S = 1.0
"""Busy time is averaged over at least this long, however often somebody asks."""


@dataclass(frozen=True, slots=True)
class Load:
    """`saturation` is 0 to 1 for busy workers of all there may be, and beyond for what waits."""

    queue_wait_s: float
    saturation: float


class LoadMeter:
    """Reads the load; between two readings it remembers how busy workers had been."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._busy_s = 0.0
        self._share = 0.0

    def read(self, lives: Sequence[LiveVersion], now: float) -> Load:
        """Return the load at `now`, on the clock that every call uses."""
        busy_s = sum(live.busy_seconds() for live in lives)
        workers = sum(live.possible for live in lives)
        if self._since is None:
            self._since, self._busy_s = now, busy_s
        elif now - self._since >= WINDOW_S:
            # Busy seconds vanish with an unloaded version, hence never below 0.
            grown = max(busy_s - self._busy_s, 0.0)
            self._share = grown / ((now - self._since) * workers) if workers else 0.0
            self._since, self._busy_s = now, busy_s
        wait_s = max((live.queue_wait_s() for live in lives), default=0.0)
        return Load(wait_s, self._share + _waiting(lives))


def _waiting(lives: Sequence[LiveVersion]) -> float:
    """Return how many rounds of full batches wait before the busiest version."""
    return max((_rounds(live) for live in lives), default=0.0)


def _rounds(live: LiveVersion) -> float:
    room = max(live.possible, 1) * max(live.spec.batching.max_size, 1)
    return len(live.queue) / room
