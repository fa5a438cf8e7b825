"""`ts.metrics.dimension`: one label of a metric."""

from flambeau_runtime.worker.metrics import Dimension

__all__ = ["Dimension"]
