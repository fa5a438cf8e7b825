"""What this process counts, as plain numbers; Prometheus sees them when it scrapes.

One `Telemetry` per process, handed to every part. The hot path touches integers only;
their names and shapes for Prometheus are in `api/metrics.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

HANDLER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""TorchServe's bounds for histograms that handlers declare."""

KINDS = frozenset({"counter", "gauge", "histogram"})

HANDLER_SERIES_KEPT = 2_000
"""A handler that labels by request id would otherwise fill the memory of the front."""

Access = Callable[[str, str, str, int, float], None]
"""peer "ip:port", method, target, status, elapsed milliseconds."""


class HistogramFacts(Protocol):
    """A histogram as the hot path keeps it: a count per bound, and one for what is beyond."""

    @property
    def counts(self) -> Sequence[int]:
        """How many observations each bucket has, not cumulative."""

    @property
    def sum_ms(self) -> float:
        """All observations together, in milliseconds."""

    @property
    def bounds_ms(self) -> Sequence[float]:
        """Upper bounds in milliseconds, ascending."""


@dataclass(frozen=True, slots=True)
class VersionMetrics:
    """The numbers of one model version at one moment."""

    model: str
    version: str
    requests: int
    errors: int
    latency: HistogramFacts
    queue: HistogramFacts
    latency_us: float
    queue_us: float
    queue_wait_ms: float  # of the oldest job that waits now
    workers: int


@dataclass(slots=True)
class HandlerMetric:
    """One series of a handler's metric: a name, a kind and its labels, with the value so far."""

    name: str
    kind: str  # counter | gauge | histogram
    unit: str
    labels: Mapping[str, str]
    value: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(HANDLER_BUCKETS) + 1))

    def add(self, value: float) -> None:
        """Take one update: counters grow, gauges are set, histograms count and sum."""
        self.value = value if self.kind == "gauge" else self.value + value
        if self.kind == "histogram":
            self.counts[bisect_left(HANDLER_BUCKETS, value)] += 1


class Telemetry:
    """Everything counted in this process.

    Attributes:
        responses: answers so far by the hundreds of their status: `responses[status // 100] += 1`.
        access: the access log's `note`, or None where none is written.
        (WorkerThreadTime). worker_load_ms: worker name ("W-9000-m_1.0") to the milliseconds it
        took to load. versions: reads the numbers of all versions; set by the composition root.
    """

    __slots__ = (
        "_handler",
        "access",
        "handler_updates_refused",
        "responses",
        "versions",
        "worker_load_ms",
    )

    def __init__(self) -> None:
        self.responses = [0] * 6
        self.access: Access | None = None
        self.worker_load_ms: dict[str, float] = {}
        self.versions: Callable[[], Iterable[VersionMetrics]] = tuple
        self.handler_updates_refused = 0
        self._handler: dict[tuple[str, tuple[tuple[str, str], ...]], HandlerMetric] = {}

    def handler_measured(
        self, model: str, measured: Iterable[Mapping[str, Any]], *, level: str = "Model"
    ) -> None:
        """Take over what a worker's handler measured.

        Args:
            model: the label ModelName of every series.
            measured: one {name, unit, type, value, dimensions} per update; type is counter, gauge
                or histogram, dimensions a list of [name, value]; the rest is not looked at.
            level: the label Level where the update brings none of its own.
        """
        for update in measured:
            try:
                self._take(model, update, level)
            except (KeyError, TypeError, ValueError):
                # A handler's own numbers are never worth a failed request.
                self.handler_updates_refused += 1

    def _take(self, model: str, update: Mapping[str, Any], level: str) -> None:
        labels = {"ModelName": model, "Level": level}
        labels.update((str(name), str(value)) for name, value in update.get("dimensions") or ())
        name, kind, value = str(update["name"]), str(update["type"]), float(update["value"])
        if kind not in KINDS:
            raise ValueError(kind)
        key = name, tuple(sorted(labels.items()))
        series = self._handler.get(key)
        if series is None:
            if len(self._handler) >= HANDLER_SERIES_KEPT:
                raise ValueError(name)
            unit = str(update.get("unit", ""))
            series = self._handler[key] = HandlerMetric(name, kind, unit, labels)
        series.add(value)

    def handler_metrics(self) -> tuple[HandlerMetric, ...]:
        """Return every series that handlers have fed so far."""
        return tuple(self._handler.values())
