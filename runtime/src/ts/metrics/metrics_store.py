"""`ts.metrics.metrics_store`: the older name of a context's metrics."""

from __future__ import annotations

from flambeau_runtime.worker.metrics import HandlerMetrics


class MetricsStore(HandlerMetrics):
    """A context's metrics, made of the requests' ids and the model's name."""

    def __init__(self, request_ids: dict[int, str] | None, model_name: str) -> None:
        super().__init__(model_name, request_ids)
