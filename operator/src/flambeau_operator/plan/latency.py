"""Histograms of latencies: sums, quantiles, and how many lie above a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from math import isfinite

from flambeau_operator.resources.pod_state import LatencyCounts

MOST = 2**53
"""No count is read as more: a float still holds each one up to here."""


class Histogram:
    """Counts that can be asked for any time, as if each bucket were filled evenly."""

    __slots__ = ("_bounds", "_up_to", "total")

    def __init__(self, latency: LatencyCounts) -> None:
        usable = is_usable(latency)
        self._bounds: Sequence[float] = latency.bounds_ms if usable else ()
        self._up_to = list(accumulate(latency.counts)) if usable else [0]
        self.total = self._up_to[-1]

    def above(self, ms: float) -> float:
        """Return how many took longer; none beyond the last bound, as nobody knows where."""
        place = bisect_left(self._bounds, ms)
        if place == len(self._bounds):
            return 0.0
        low = self._bounds[place - 1] if place else 0.0
        before = self._up_to[place - 1] if place else 0
        inside = (ms - low) / (self._bounds[place] - low)
        return self.total - before - inside * (self._up_to[place] - before)

    def quantile_ms(self, quantile: float) -> float | None:
        """Return the time that a share of `quantile` does not exceed; None if there are none.

        What lies beyond the last bound is said to be there: `goes_beyond` tells.
        """
        if self.total <= 0:
            return None
        wanted = min(max(quantile, 0.0), 1.0) * self.total
        place = bisect_left(self._up_to, wanted)
        if place >= len(self._bounds):
            return self._bounds[-1]
        low = self._bounds[place - 1] if place else 0.0
        before = self._up_to[place - 1] if place else 0
        inside = self._up_to[place] - before
        return low + (wanted - before) / inside * (self._bounds[place] - low) if inside else low

    def goes_beyond(self, quantile: float) -> bool:
        """Tell whether a quantile lies beyond the last bound, nobody knows where."""
        return self.above(self._bounds[-1]) > (1 - quantile) * self.total if self._bounds else False

    def bounds_from(self, ms: float) -> Sequence[float]:
        """Return the bounds above a time, ascending."""
        return self._bounds[bisect_left(self._bounds, ms) :]


def quantile_ms(latency: LatencyCounts, q: float) -> float | None:
    """Return a quantile in milliseconds, interpolated inside its bucket; None if there is none."""
    return Histogram(latency).quantile_ms(q)


def is_usable(latency: LatencyCounts) -> bool:
    """Tell whether bounds ascend, and each bucket has a count that is one."""
    bounds, counts = latency.bounds_ms, latency.counts
    fitting = len(counts) == len(bounds) + 1 and min(counts) >= 0 and max(counts) <= MOST
    return fitting and _ascend(bounds)


@lru_cache(maxsize=8)  # the same few bounds at each look
def _ascend(bounds: tuple[float, ...]) -> bool:
    return bool(bounds) and isfinite(bounds[-1]) and all(a < b for a, b in pairwise((0, *bounds)))


def add_latencies(parts: Iterable[LatencyCounts]) -> tuple[LatencyCounts, int]:
    """Return the sum of those that share the most requests' bounds, and how many others there are.

    Empty ones are no others: a pod that has answered nothing yet has nothing to leave out.
    """
    sums: dict[tuple[float, ...], list[LatencyCounts]] = {}
    broken = 0
    for part in parts:
        if is_usable(part):
            sums.setdefault(part.bounds_ms, []).append(part)
        elif part != LatencyCounts():
            broken += 1
    if not sums:
        return LatencyCounts(), broken
    added = [
        LatencyCounts(bounds, tuple(map(sum, zip(*(each.counts for each in group), strict=True))))
        for bounds, group in sums.items()
    ]
    most = max(added, key=lambda each: (sum(each.counts), each.bounds_ms))
    others = sum(
        sum(any(each.counts) for each in group)
        for bounds, group in sums.items()
        if bounds != most.bounds_ms
    )
    return most, broken + others
