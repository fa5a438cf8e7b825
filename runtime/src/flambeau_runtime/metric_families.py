"""Metric families: what each is called, of which kind and unit, and its series so far.

Names, kinds, units, labels and the words of HELP are TorchServe's (its docs/metrics.md).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from flambeau_runtime.settings import Family

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""TorchServe's bounds for every histogram that a metrics file or a handler declares."""

KINDS = frozenset({"counter", "gauge", "histogram"})

SERIES_KEPT = 2_000
"""Whoever labels by request id would otherwise fill the memory of the front."""

_HOST = ("Level", "Hostname")
_WORKER = ("WorkerName", *_HOST)
_DEVICE = ("Level", "DeviceId", "Hostname")
_VERSION = ("model_name", "model_version", "hostname")
_MODEL = ("ModelName", "Level")

FRONT_FAMILIES = (
    Family("Requests2XX", "counter", "Count", _HOST),
    Family("Requests4XX", "counter", "Count", _HOST),
    Family("Requests5XX", "counter", "Count", _HOST),
    Family("ts_inference_requests_total", "counter", "Count", _VERSION),
    Family("ts_inference_latency_microseconds", "counter", "Microseconds", _VERSION),
    Family("ts_queue_latency_microseconds", "counter", "Microseconds", _VERSION),
    Family("QueueTime", "gauge", "Milliseconds", _HOST),
    Family("WorkerThreadTime", "gauge", "Milliseconds", _HOST),
    Family("WorkerLoadTime", "gauge", "Milliseconds", _WORKER),
    Family("CPUUtilization", "gauge", "Percent", _HOST),
    Family("MemoryUsed", "gauge", "Megabytes", _HOST),
    Family("MemoryAvailable", "gauge", "Megabytes", _HOST),
    Family("MemoryUtilization", "gauge", "Percent", _HOST),
    Family("DiskUsage", "gauge", "Gigabytes", _HOST),
    Family("DiskUtilization", "gauge", "Percent", _HOST),
    Family("DiskAvailable", "gauge", "Gigabytes", _HOST),
    Family("GPUMemoryUtilization", "gauge", "Percent", _DEVICE),
    Family("GPUMemoryUsed", "gauge", "Megabytes", _DEVICE),
    Family("GPUUtilization", "gauge", "Percent", _DEVICE),
)
"""What the front measures itself, in the order of TorchServe's own metrics.yaml."""

MODEL_FAMILIES = (
    Family("HandlerTime", "gauge", "ms", _MODEL),
    Family("PredictionTime", "gauge", "ms", _MODEL),
)
"""What every worker measures."""

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Series:
    """The value of one family under one set of labels."""

    kind: str
    value: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))

    def add(self, value: float) -> None:
        """Take one update: counters grow, gauges are set, histograms count and sum."""
        self.value = value if self.kind == "gauge" else self.value + value
        if self.kind == "histogram":
            self.counts[bisect_left(BUCKETS, value)] += 1


class FamilyStore:
    """Families that are known, and their series.

    Args:
        families: those that are known beforehand; each has its HELP and TYPE without any series.
        open_to_others: whether a family that is not among them may come in later.
    """

    def __init__(self, families: Iterable[Family] = (), *, open_to_others: bool = True) -> None:
        self._families = {family.name: family for family in families}
        self._declared = frozenset(self._families)
        self._open = open_to_others
        self._series: dict[tuple[str, Labels], Series] = {}

    def family(self, name: str) -> Family | None:
        """Return a family that is known."""
        return self._families.get(name)

    def admit(self, family: Family) -> Family | None:
        """Return the family that is known under this name; None when it stays out.

        Kind and unit are those that were declared; of two that disagree about one that was not, the
        first one counts.
        """
        known = self._families.get(family.name)
        if known is None:
            if not self._open or len(self._families) >= SERIES_KEPT:
                return None
            known = self._families[family.name] = family
        return known if known.kind == family.kind or known.name in self._declared else None

    def update(self, family: Family, labels: Labels, value: float) -> bool:
        """Take one value; False when there is no room for another series."""
        series = self._series.get((family.name, labels))
        if series is None:
            if len(self._series) >= SERIES_KEPT:
                return False
            series = self._series[family.name, labels] = Series(family.kind)
        series.add(value)
        return True

    def collect(self) -> Iterator[tuple[Family, list[tuple[Labels, Series]]]]:
        """Yield every family with its series."""
        grouped: dict[str, list[tuple[Labels, Series]]] = {name: [] for name in self._families}
        for (name, labels), series in self._series.items():
            grouped[name].append((labels, series))
        for name, family in self._families.items():
            yield family, grouped[name]


def named(family: Family, values: Sequence[str]) -> Labels:
    """Return the labels of a front's family: a metrics file may have renamed them."""
    return tuple(zip(family.dimensions, values, strict=False))
