"""Evidence from counts that may be looked at as often as one likes.

The one idea (docs/decisions/0012 explains it without statistics): bet against "the true share is
at most s", at odds that are fair or worse if it is true. Who starts with 1 then has 1/alpha or
more *at any time at all* with probability alpha at most (Ville's inequality); so one may look
after each request, and stop at the first look that shows so much. What has been won depends on
the counts alone, not on the way to them: nothing is remembered between looks.

Everything here is the logarithm of such winnings. Counts may be fractions of requests, where a
bucket of a histogram had to be divided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, inf, log, log1p, sqrt

from flambeau_operator.plan.latency import Histogram


@dataclass(frozen=True, slots=True)
class Count:
    """How many of how many: errors of requests, slow ones of all."""

    hits: float
    total: float

    @property
    def share(self) -> float:
        """Return the share, 0 to 1; nothing of nothing is 0."""
        return self.hits / self.total if self.total > 0 else 0.0


Bets = tuple[tuple[float, float, float], ...]


def _bets(*weights_and_ratios: tuple[float, float]) -> Bets:
    total = sum(weight for weight, _ in weights_and_ratios)
    return tuple(
        (log(weight / total), log(ratio), ratio - 1) for weight, ratio in weights_and_ratios
    )


# Each stands for one truth: the odds (p : 1 - p) are `ratio` times those of the limit. The money
# is spread over them, as nobody knows which one holds. What is on 1.0 stays in the pocket, so that
# a side which has nothing to say takes little away from what the other one says.
_WORSE = _bets(
    *((10, 1.0), (1, 1.02), (2, 1.1), (6, 1.3), (10, 1.7), (10, 2.5), (6, 4.0), (2, 8.0), (1, 25.0))
)
_BETTER = _bets(*((10, 1.0), (1, 1 / 1.05), (3, 1 / 1.2), (3, 1 / 1.5), (2, 1 / 2.5), (1, 1 / 8.0)))


def _winnings(count: Count, limit: float, bets: Bets) -> float:
    # The likelihood of the counts under odds r times those of the limit, divided by that under
    # the limit, is r^hits / (1 + limit (r - 1))^total.
    hits, total = count.hits, count.total
    logs = [w + hits * ratio - total * log1p(limit * less) for w, ratio, less in bets]
    top = max(logs)
    return top + log(sum([exp(each - top) for each in logs]))


def above(count: Count, limit: float) -> float:
    """Return the evidence that the true share is above `limit`; it grows with the hits."""
    if limit <= 0:
        return inf if count.hits > 0 else 0.0
    return _winnings(count, limit, _WORSE) if limit < 1 else 0.0


def below(count: Count, limit: float) -> float:
    """Return the evidence that the true share is below `limit`; never much less than 0."""
    if limit >= 1:
        return inf if count.hits < count.total else 0.0
    return _winnings(count, limit, _BETTER)


def rate_is_worse(new: Count, old: Count, increase: float, needed: float) -> bool:
    """Tell whether the new share lies above the old one by more than `increase`.

    Nobody knows the old version's true share x. But each x is contradicted to some degree: by the
    old counts if x is high, by the new ones if x + increase is low. What is the least of it counts.
    """

    def evidence(x: float) -> float:
        return below(old, x) + above(new, x + increase)

    return old.total > 0 and _all_at_least(needed, evidence, old.share, 1 - increase)


_GOLDEN = (sqrt(5) - 1) / 2


def _all_at_least(needed: float, of: Callable[[float], float], low: float, high: float) -> bool:
    """Tell whether a convex function is at least `needed` everywhere, by golden sections."""
    if low >= high or of(low) < needed:
        return False
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = of(left), of(right)
    while at_left >= needed and at_right >= needed:
        if high - low < 1e-5 * high:
            return True
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = of(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = of(right)
    return False


_PARTS = 16  # of each bucket; the evidence is rounded down by one such part


def quantile_is_worse(
    new: Histogram, old: Histogram, quantile: float, factor: float, needed: float
) -> bool:
    """Tell whether the new quantile is more than `factor` times as long as the old one.

    As with rates: nobody knows the old version's true quantile x, but each x is contradicted, by
    the old counts if too few of them are above x, by the new ones if too many are above factor * x.
    """
    tail = 1 - quantile
    silence = above(Count(0, new.total), tail)  # the least that the new counts can ever say
    start = old.quantile_ms(quantile)
    if start is None or new.total <= 0:
        return False
    against_old = below(Count(old.above(start), old.total), tail)
    for x in _places(old, start):
        if against_old + above(Count(new.above(factor * x), new.total), tail) < needed:
            return False
        against_old = below(Count(old.above(x), old.total), tail)
        if against_old + silence >= needed:
            return True  # what lies further up is contradicted by the old counts alone
    return False


def _places(histogram: Histogram, start: float) -> Iterator[float]:
    yield start
    for bound in histogram.bounds_from(start):
        step = (bound - start) / _PARTS
        yield from (start + part * step for part in range(1, _PARTS))
        yield bound
        start = bound
