"""`ts.service`: what old handlers take from it."""

from __future__ import annotations

from collections.abc import Iterable

from ts.metrics.metric import Metric

__all__ = ["emit_metrics"]


def emit_metrics(metrics: Iterable[Metric] | None) -> None:
    """Record metrics that a handler made by itself."""
    for metric in metrics or ():
        metric.update(metric.value)
