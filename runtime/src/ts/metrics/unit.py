"""`ts.metrics.unit`: the words for units on the page and in the log."""

from __future__ import annotations

from flambeau_runtime.worker.metrics import UNITS


class Units:
    """A handler's word for a unit, to TorchServe's."""

    def __init__(self) -> None:
        self.units = dict(UNITS)
