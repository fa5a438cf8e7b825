"""`ts.metrics.caching_metric`: a metric declared once and updated often."""

from flambeau_runtime.worker.metrics import CachingMetric

__all__ = ["CachingMetric"]
