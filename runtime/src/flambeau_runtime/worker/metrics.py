"""What handlers measure: TorchServe's metrics API, collected as updates, not log lines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

log = logging.getLogger(__name__)

Number = int | float

MOST_PENDING = 10_000
"""What a handler measures beyond this between two drains is dropped: memory has an end."""

TIME_UNITS = ("ms", "s")
SIZE_UNITS = ("MB", "kB", "GB", "B")

UNITS: Mapping[str | None, str] = MappingProxyType(
    {
        "ms": "Milliseconds",
        "s": "Seconds",
        "percent": "Percent",
        "count": "Count",
        "MB": "Megabytes",
        "GB": "Gigabytes",
        "kB": "Kilobytes",
        "B": "Bytes",
        "": "unit",
        None: "unit",
    }
)
"""A handler's word for a unit, and TorchServe's on the page and in the log; others stay."""


class MetricsCacheTypeError(TypeError):
    """An argument of the metrics API is of another type than it takes."""


class MetricsCacheValueError(ValueError):
    """An argument of the metrics API has a value that cannot be."""


class MetricsCacheKeyError(KeyError):
    """No metric was declared under that name and type."""


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

    def to_dict(self) -> dict[str, object]:
        """Return name and value under TorchServe's keys."""
        return {"Name": self.name, "Value": self.value}


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
    """A metric declared once and updated often.

    Args:
        metric_name: its name.
        unit: one of UNITS, or a word of your own.
        dimension_names: its labels, in the order of `add_or_update`'s values.
        metric_type: how updates add up.
        sink: takes the updates; None: the metrics of this worker's context, if there is one.
    """

    current: ClassVar[Sink | None] = None
    """The sink of metrics that were made without one, as handlers of old do."""

    def __init__(
        self,
        metric_name: str,
        unit: str,
        dimension_names: Sequence[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
        sink: Sink | None = None,
    ) -> None:
        self.metric_name = metric_name
        self.unit = UNITS.get(unit, unit)
        self.dimension_names = list(dimension_names or ())
        self.metric_type = metric_type
        self._sink = sink

    def add_or_update(
        self,
        value: Number,
        dimension_values: Sequence[Any] | None = (),
        request_id: str | None = "",
    ) -> None:
        """Record one value; what cannot be recorded is logged and never the handler's trouble.

        One value is needed per declared dimension, and counters only grow.
        """
        if dimension_values is None or len(dimension_values) != len(self.dimension_names):
            self._refuse(
                value,
                f"its dimensions are {self.dimension_names}, the values {dimension_values}",
            )
        elif self.metric_type is MetricTypes.COUNTER and value < 0:
            self._refuse(value, "a counter cannot go down")
        else:
            pairs = zip(self.dimension_names, map(str, dimension_values), strict=True)
            sink = self._sink or CachingMetric.current
            if sink is not None:
                sink.record(self, value, list(pairs), request_id or "")

    def update(
        self, value: Number, request_id: str = "", dimensions: Sequence[Dimension] = ()
    ) -> None:
        """Record one value under dimensions given now (TorchServe's older spelling)."""
        self.dimension_names = [dimension.name for dimension in dimensions]
        self.add_or_update(value, [dimension.value for dimension in dimensions], request_id)

    def _refuse(self, value: Number, why: str) -> None:
        log.error("metric %s was not updated with %s: %s", self.metric_name, value, why)


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
        """Count an error; its Level is Error, and no request and no model are named."""
        pairs = _with_defaults(dimensions, [("Level", "Error")])
        self._keep(name, value, "", pairs, MetricTypes.COUNTER, "")

    def add_metric(
        self,
        name: str,
        value: Number,
        unit: str = "",
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
        """Declare a metric for `add_or_update`; it gets no dimensions but its own.

        Raises:
            MetricsCacheTypeError: an argument is of another type.
        """
        _check_types(metric_name, metric_type)
        if not isinstance(unit, str):
            raise MetricsCacheTypeError("the unit of a metric is a str")
        if dimension_names and not isinstance(dimension_names, list):
            raise MetricsCacheTypeError("dimension_names is a list of str")
        metric = CachingMetric(metric_name, unit, dimension_names, metric_type, sink=self)
        declared = self.cache.setdefault(metric_type, {})
        if metric_name in declared:
            log.warning("Overriding existing key %s:%s", metric_type, metric_name)
        declared[metric_name] = metric
        return metric

    def get_metric(
        self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER
    ) -> CachingMetric:
        """Return a metric declared before.

        Raises:
            MetricsCacheKeyError: none of that name and type.
            MetricsCacheTypeError: an argument is of another type.
        """
        _check_types(metric_name, metric_type)
        try:
            return self.cache[metric_type][metric_name]
        except KeyError:
            raise MetricsCacheKeyError(
                f"no {metric_type.value} named {metric_name!r} was declared"
            ) from None

    def set_request_ids(self, request_ids: dict[int, str] | None) -> None:
        """Name the requests that are being measured (TorchServe's spelling)."""
        self.request_ids = request_ids

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
        if self.request_ids is None:  # outside of a request TorchServe takes it for an error
            defaults = [("Level", "Error")]
        else:
            defaults = [("ModelName", self.model_name), ("Level", "Model")]
        pairs = _with_defaults(dimensions, defaults)
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
        if metric_type is MetricTypes.COUNTER and value < 0:
            log.error("metric %s was not updated with %s: a counter cannot go down", name, value)
        elif len(self._pending) < MOST_PENDING:
            self._pending.append(
                {
                    "name": str(name),
                    "value": float(value),
                    "unit": UNITS.get(unit, unit),
                    "type": metric_type.value,
                    "dimensions": dimensions,
                    "requestId": request_id,
                }
            )


def _with_defaults(
    dimensions: Sequence[Dimension] | None, defaults: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return the dimensions as pairs, and behind them the defaults that are not among them."""
    pairs = [(dimension.name, str(dimension.value)) for dimension in dimensions or ()]
    given = {name for name, _ in pairs}
    return [*pairs, *(pair for pair in defaults if pair[0] not in given)]


def _check_types(metric_name: str, metric_type: MetricTypes) -> None:
    if not isinstance(metric_name, str):
        raise MetricsCacheTypeError("the name of a metric is a str")
    if not isinstance(metric_type, MetricTypes):
        raise MetricsCacheTypeError("metric_type is one of MetricTypes")


def _check_unit(unit: str, allowed: tuple[str, ...], what: str) -> None:
    if unit not in allowed:
        raise MetricsCacheValueError(
            f"the unit of {what} must be one of {', '.join(allowed)}, not {unit!r}"
        )
