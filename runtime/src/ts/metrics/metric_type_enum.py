"""`ts.metrics.metric_type_enum`: counter, gauge, histogram."""

from flambeau_runtime.worker.metrics import MetricTypes

__all__ = ["MetricTypes"]
