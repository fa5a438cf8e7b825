"""A user's handler inside a worker: found, loaded, called with decoded rows, its answers encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flambeau_runtime.worker.context import Row, RowResult


class LoadedHandler:
    """One handler, loaded; one per worker process."""

    def run(self, rows: Sequence[Row]) -> list[RowResult]:
        """Run the handler on one batch.

        Returns:
            Exactly one result per row, in the same order.

        Raises:
            PredictionFailed: the handler raised or broke its contract (OutOfMemory, HandlerRefused
                are its subclasses); the message names the last exception.
        """
        raise NotImplementedError

    def drain_metrics(self) -> list[dict[str, Any]]:
        """Return what the handler measured since the last call, ready for a METRICS frame.

        One dict per update: {name, unit, type: counter|gauge|histogram, value,
        dimensions: [[name, value], …], requestId}.
        """
        raise NotImplementedError


def load(message: Mapping[str, Any]) -> LoadedHandler:
    """Load the handler that a LOAD message describes.

    The message: model, version, modelDir, manifest, handler, batchSize, gpuId, deviceType,
    decodeInputRequest, splitJsonArrays (auto|on|off), limitMaxImagePixels, modelConfig.

    Raises:
        LoadFailed: reason HandlerImportFailed or InitializeFailed, message "ValueError: …".
    """
    raise NotImplementedError
