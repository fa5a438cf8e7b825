"""Plain integers for the hot path, one set per live version; read when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from flambeau_runtime.recorder import Asked, Recorder

LATENCY_BUCKETS_MS: tuple[float, ...] = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
)  # fmt: skip
"""What Prometheus sees."""

_WITHIN_A_DECADE = ((1, 2, 7), (2, 5, 10), (5, 10, 7))
_FROM_10_S = ((1, 2, 7), (2, 3, 4), (3, 5, 6), (5, 6, 2), (6, 10, 5))
"""From, to, in how many equal ratios. The last decade also has the bounds 30 s and 60 s."""


def _fine_bounds() -> Iterator[float]:
    for exponent in range(-1, 5):
        spans = _FROM_10_S if exponent == 4 else _WITHIN_A_DECADE  # noqa: PLR2004  10^4 ms
        for low, high, count in spans:
            for step in range(count):
                yield float(f"{low * (high / low) ** (step / count) * 10**exponent:.4g}")
    yield 100_000.0


FINE_BUCKETS_MS: tuple[float, ...] = tuple(_fine_bounds())
"""0.1 ms to 100 s, 24 per decade, about 10 % apart: two versions' quantiles can be told apart.

Every bound of LATENCY_BUCKETS_MS is one of them, so that those are sums of these.
"""

FIRST_SERVER_ERROR = 500
"""An answer with this status or a higher one says that the handler failed."""

COPY = 2
"""Stands where a job says whether its caller named the version: it is a shadow's copy, of which
nobody counts anything but the shadow itself."""


class Histogram:
    """Counts per bucket, not cumulative; the last bucket has no upper bound."""

    __slots__ = ("bounds_ms", "counts", "sum_ms")

    def __init__(self, bounds_ms: Sequence[float] = LATENCY_BUCKETS_MS) -> None:
        self.bounds_ms = tuple(bounds_ms)
        self.counts = [0] * (len(self.bounds_ms) + 1)
        self.sum_ms = 0.0

    def observe(self, ms: float) -> None:
        """Count one observation; a bound belongs to the bucket below it (Prometheus' `le`)."""
        self.counts[bisect_left(self.bounds_ms, ms)] += 1
        self.sum_ms += ms

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    def coarse(self, bounds_ms: Sequence[float] = LATENCY_BUCKETS_MS) -> Histogram:
        """Return the same observations in fewer buckets, whose bounds are some of these."""
        told = Histogram(bounds_ms)
        for bound, count in zip((*self.bounds_ms, float("inf")), self.counts, strict=True):
            told.counts[bisect_left(told.bounds_ms, bound)] += count
        told.sum_ms = self.sum_ms
        return told


class CopyCounts:
    """What one version has done with copies of another version's requests, as its shadow.

    `answered` counts answers, good or bad; `errors` those that are none or a server's error, while
    the other version answered; `dropped` the copies that were not sent or not taken. `difference`
    is the first one in words since the window began.
    """

    __slots__ = (
        "answered",
        "compared",
        "difference",
        "different",
        "dropped",
        "errors",
        "latency",
    )

    def __init__(self) -> None:
        self.answered = 0
        self.errors = 0
        self.dropped = 0
        self.compared = 0
        self.different = 0
        self.difference = ""
        self.latency = Histogram()


class Counters:
    """What one version has answered so far.

    `requests` counts jobs that were answered, well or badly: not those that were refused or that
    nobody waited for. `errors` are the ones among them that its workers caused: the handler raised
    or answered 5xx, the worker died, or had the job and gave no answer in time. `latency` is from
    the door to the end, `queue` the part of it before a worker took the job. `named` and `unnamed`
    are the accounts of jobs that named this version and of those that did not; they are shared with
    what came before and comes after it. `copies`: as a shadow.
    """

    __slots__ = (
        "copies",
        "errors",
        "latency",
        "named",
        "queue",
        "recorder",
        "requests",
        "unnamed",
    )

    def __init__(
        self,
        named: Asked | None = None,
        unnamed: Asked | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.requests = 0
        self.errors = 0
        self.latency = Histogram(FINE_BUCKETS_MS)
        self.queue = Histogram()
        self.named = named or Asked("", "")
        self.unnamed = unnamed or Asked("", "")
        self.recorder = recorder
        self.copies = CopyCounts()

    def answered(self, latency_s: float, queue_s: float, named: int = False) -> None:
        """Count a job that ended; `named`: its caller named the version, or COPY."""
        if named == COPY:
            return
        latency_ms, queue_ms = latency_s * 1_000, queue_s * 1_000
        self.requests += 1
        self.latency.observe(latency_ms)
        self.queue.observe(queue_ms)
        asked = self.named if named else self.unnamed
        asked.requests += 1
        asked.latency_ms += latency_ms
        asked.queue_ms += queue_ms
        if self.recorder is not None:
            self.recorder.request(asked, latency_ms, queue_ms)

    def failed(self, latency_s: float, queue_s: float, named: int = False) -> None:
        """Count a job that ended badly because of the version's workers."""
        if named != COPY:
            self.errors += 1
            self.answered(latency_s, queue_s, named)
