"""What handlers measure: TorchServe's metrics API, collected as updates, not log lines."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

Number = int | float

MOST_PENDING = 10_000
"""What a handler measures beyond this between two drains is dropped: memory has an end."""

TIME_UNITS = ("ms", "s")
SIZE_UNITS = ("B", "kB", "MB", "GB")


class MetricTypes(Enum):
    """How updates of one metric add up."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Dimension:
    """One label of a metric: a name and a value."""

    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self.value = value

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"

    def __repr__(self) -> str:
        return f"Dimension({self.name!r}, {self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dimension) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class Sink(Protocol):
    """Whatever keeps updates until they are sent."""

    def record(
        self,
        metric: CachingMetric,
        value: Number,
        dimensions: Sequence[tuple[str, str]],
        request_id: str,
    ) -> None:
        """Keep one update."""
        ...


class CachingMetric:
    """A metric declared once and updated often."""

    def __init__(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Sequence[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
        sink: Sink | None = None,
    ) -> None:
        self.metric_name = metric_name
        self.unit = unit
        self.dimension_names = list(dimension_names or ())
        self.metric_type = metric_type
        self._sink = sink

    def add_or_update(
        self, value: Number, dimension_values: Sequence[Any] = (), request_id: str = ""
    ) -> None:
        """Record one value.

        Raises:
            ValueError: one value per declared dimension is needed, and counters only grow.
        """
        if len(dimension_values) != len(self.dimension_names):
            raise ValueError(
                f"metric {self.metric_name} needs values for its dimensions "
                f"{self.dimension_names}, got {list(dimension_values)}"
            )
        pairs = [
            (name, str(value))
            for name, value in zip(self.dimension_names, dimension_values, strict=True)
        ]
        self._record(value, pairs, request_id)

    def update(
        self, value: Number, request_id: str = "", dimensions: Sequence[Dimension] = ()
    ) -> None:
        """Record one value under dimensions given now (TorchServe's older spelling)."""
        self._record(value, [(d.name, str(d.value)) for d in dimensions], request_id)

    def _record(self, value: Number, pairs: list[tuple[str, str]], request_id: str) -> None:
        if self.metric_type is MetricTypes.COUNTER and value < 0:
            raise ValueError(f"counter {self.metric_name} cannot go down (got {value})")
        if self._sink is not None:
            self._sink.record(self, value, pairs, request_id)


class HandlerMetrics:
    """`context.metrics`: what a handler measures while it runs."""

    def __init__(self, model_name: str = "", request_ids: dict[int, str] | None = None) -> None:
        self.model_name = model_name
        self.request_ids = request_ids
        self.cache: dict[MetricTypes, dict[str, CachingMetric]] = {}
        self._pending: list[dict[str, Any]] = []

    # Several arguments, in TorchServe's order: users pass them by position.

    def add_counter(
        self,
        name: str,
        value: Number,
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
    ) -> None:
        """Count events."""
        self._add(name, value, "count", idx, dimensions, MetricTypes.COUNTER)

    def add_time(
        self,
        name: str,
        value: Number,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Record a duration in "ms" or "s"."""
        _check_unit(unit, TIME_UNITS, "a time")
        self._add(name, value, unit, idx, dimensions, metric_type)

    def add_size(
        self,
        name: str,
        value: Number,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Record a size in "B", "kB", "MB" or "GB"."""
        _check_unit(unit, SIZE_UNITS, "a size")
        self._add(name, value, unit, idx, dimensions, metric_type)

    def add_percent(
        self,
        name: str,
        value: Number,
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Record a share in percent."""
        self._add(name, value, "percent", idx, dimensions, metric_type)

    def add_error(
        self, name: str, value: Number = 1, dimensions: Sequence[Dimension] | None = None
    ) -> None:
        """Count an error; its Level dimension is Error."""
        with_level = [*(dimensions or ()), Dimension("Level", "Error")]
        self._add(name, value, "count", None, with_level, MetricTypes.COUNTER)

    def add_metric(
        self,
        name: str,
        value: Number,
        unit: str = "unit",
        idx: int | None = None,
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        """Record a value of any unit."""
        self._add(name, value, unit, idx, dimensions, metric_type)

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Sequence[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """Declare a metric for `add_or_update`; it gets no dimensions but its own."""
        if not isinstance(metric_type, MetricTypes):
            raise TypeError("metric_type must be one of MetricTypes")
        metric = CachingMetric(metric_name, unit, dimension_names, metric_type, sink=self)
        self.cache.setdefault(metric_type, {})[metric_name] = metric
        return metric

    def get_metric(
        self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER
    ) -> CachingMetric:
        """Return a metric declared before.

        Raises:
            KeyError: none of that name and type.
        """
        try:
            return self.cache[metric_type][metric_name]
        except KeyError:
            raise KeyError(f"no {metric_type.value} named {metric_name!r} was declared") from None

    def record(
        self,
        metric: CachingMetric,
        value: Number,
        dimensions: Sequence[tuple[str, str]],
        request_id: str,
    ) -> None:
        """Keep one update for the next METRICS frame."""
        self._keep(
            metric.metric_name, value, metric.unit, dimensions, metric.metric_type, request_id
        )

    def drain(self) -> list[dict[str, Any]]:
        """Return what was recorded since the last call."""
        pending, self._pending = self._pending, []
        return pending

    def _add(
        self,
        name: str,
        value: Number,
        unit: str,
        idx: int | None,
        dimensions: Sequence[Dimension] | None,
        metric_type: MetricTypes,
    ) -> None:
        pairs = [(d.name, str(d.value)) for d in dimensions or ()]
        names = [name for name, _ in pairs]
        if "ModelName" not in names:
            pairs.append(("ModelName", self.model_name))
        if "Level" not in names:
            pairs.append(("Level", "Model"))
        self._keep(name, value, unit, pairs, metric_type, self._request_id(idx))

    def _request_id(self, idx: int | None) -> str:
        ids = self.request_ids or {}
        return ",".join(ids.values()) if idx is None else ids.get(idx, "")

    def _keep(
        self,
        name: str,
        value: Number,
        unit: str,
        dimensions: Sequence[tuple[str, str]],
        metric_type: MetricTypes,
        request_id: str,
    ) -> None:
        if len(self._pending) < MOST_PENDING:
            self._pending.append(
                {
                    "name": str(name),
                    "value": float(value),
                    "unit": str(unit),
                    "type": metric_type.value,
                    "dimensions": dimensions,
                    "requestId": request_id,
                }
            )


def _check_unit(unit: str, allowed: tuple[str, ...], what: str) -> None:
    if unit not in allowed:
        raise ValueError(f"the unit of {what} must be one of {', '.join(allowed)}, not {unit!r}")
