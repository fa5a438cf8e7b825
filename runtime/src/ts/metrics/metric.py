"""`ts.metrics.metric`: one measured value, as handlers of old build it themselves."""

from __future__ import annotations

from collections.abc import Sequence

from flambeau_runtime.worker.metrics import Dimension, MetricTypes, Number


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
        self.name = name
        self.value = value
        self.unit = unit
        self.dimensions = list(dimensions)
        self.request_id = request_id
        self.metric_method = metric_method

    def update(self, value: Number) -> None:
        """Take the new value: added to a counter's, else in its place."""
        if self.metric_method == MetricTypes.COUNTER.value:
            self.value += value
        else:
            self.value = value

    def __str__(self) -> str:
        dimensions = ",".join(str(dimension) for dimension in self.dimensions)
        return f"{self.name}.{self.unit}:{self.value}|#{dimensions}"
