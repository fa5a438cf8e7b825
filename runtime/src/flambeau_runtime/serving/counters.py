"""Plain integers for the hot path, one set per live version; read when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from flambeau_runtime.recorder import Asked, Recorder

LATENCY_BUCKETS_MS: tuple[float, ...] = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
)  # fmt: skip


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


class Counters:
    """What one version has answered so far.

    `requests` counts jobs that ended with a prediction or with a fault of the model's workers;
    `errors` the latter (PredictionFailed, WorkerLost, DeadlineExceeded). `latency` is from the door
    to the end, `queue` the part of it before a worker took the job. `named` and `unnamed` are the
    accounts of jobs that named this version and of those that did not; they are shared with what
    came before and comes after it.
    """

    __slots__ = (
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
        self.latency = Histogram()
        self.queue = Histogram()
        self.named = named or Asked("", "")
        self.unnamed = unnamed or Asked("", "")
        self.recorder = recorder

    def answered(self, latency_s: float, queue_s: float, named: bool = False) -> None:
        """Count a job that ended; with a prediction, unless `failed` says otherwise."""
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

    def failed(self, latency_s: float, queue_s: float, named: bool = False) -> None:
        """Count a job that ended with a fault of the model's workers."""
        self.errors += 1
        self.answered(latency_s, queue_s, named)
