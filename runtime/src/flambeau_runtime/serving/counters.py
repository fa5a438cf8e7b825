"""Plain integers for the hot path, one set per live version; read when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

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
    to the end, `queue` the part of it before a worker took the job. `by_status` counts answers by
    the first digit of their status.
    """

    __slots__ = ("by_status", "errors", "latency", "queue", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.latency = Histogram()
        self.queue = Histogram()
        self.by_status: dict[int, int] = dict.fromkeys(range(1, 6), 0)

    def answered(self, status: int, latency_s: float) -> None:
        """Count a job that ended with a prediction."""
        self.requests += 1
        hundreds = status // 100
        self.by_status[hundreds if hundreds in self.by_status else 5] += 1
        self.latency.observe(latency_s * 1_000)

    def failed(self, latency_s: float) -> None:
        """Count a job that ended with a fault of the model's workers."""
        self.requests += 1
        self.errors += 1
        self.by_status[5] += 1
        self.latency.observe(latency_s * 1_000)

    @property
    def latency_us(self) -> float:
        """All latencies together, in microseconds (ts_inference_latency_microseconds)."""
        return self.latency.sum_ms * 1_000

    @property
    def queue_us(self) -> float:
        """All queue times together, in microseconds (ts_queue_latency_microseconds)."""
        return self.queue.sum_ms * 1_000
