"""`ts.metrics.metric_cache_errors`: what the metrics API raises."""

from flambeau_runtime.worker.metrics import (
    MetricsCacheKeyError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)

__all__ = ["MetricsCacheKeyError", "MetricsCacheTypeError", "MetricsCacheValueError"]
