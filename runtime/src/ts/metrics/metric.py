"""`ts.metrics.metric`: one measured value, as handlers of old build it themselves."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from flambeau_runtime.worker.metrics import CachingMetric, Dimension, MetricTypes, Number


class Metric:
    """A name, a value, a unit and its dimensions."""

    def __init__(  # TorchServe's order of arguments
        self,
        name: str,
        value: Number,
        unit: str,
        dimensions: Sequence[Dimension],
        request_id: str | None = None,
        metric_method: str | None = None,
    ) -> None:
        self.metric_type = MetricTypes.COUNTER
        self.dimensions = list(dimensions)
        self.dimension_names = [dimension.name for dimension in self.dimensions]
        self.dimension_values = [dimension.value for dimension in self.dimensions]
        self._caching = CachingMetric(name, unit, self.dimension_names, self.metric_type)
        self.name = name
        self.unit = self._caching.unit
        self.value = value
        self.request_id = request_id
        self.metric_method = metric_method

    def update(self, value: Number) -> None:
        """Record a value."""
        self._caching.add_or_update(value, self.dimension_values, self.request_id)

    def reset(self) -> None:
        """Record nothing more than a zero."""
        self.update(0)

    def __str__(self) -> str:
        dimensions = ",".join(str(dimension) for dimension in self.dimensions)
        request = f",{self.request_id}" if self.request_id else ""
        return (
            f"{self.name}.{self.unit}:{self.value}|#{dimensions}|"
            f"#hostname:{socket.gethostname()},{int(time.time())}{request}"  # noqa: TID251  a date, no duration
        )

    def to_dict(self) -> dict[str, object]:
        """Return the metric under TorchServe's keys."""
        return {
            "MetricName": self.name,
            "Value": self.value,
            "Unit": self.unit,
            "Dimensions": self.dimensions,
            "Timestamp": int(time.time()),  # noqa: TID251  a date, no duration
            "HostName": socket.gethostname(),
            "RequestId": self.request_id,
        }
