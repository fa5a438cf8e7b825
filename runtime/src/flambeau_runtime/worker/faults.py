"""Exception → the FAULT message that tells the front about it."""

from __future__ import annotations

from typing import Any

from flambeau_runtime.errors import HandlerRefused, LoadFailed, OutOfMemory, PredictionFailed


def describe(error: BaseException) -> dict[str, Any]:
    """Return the JSON-ready FAULT message of anything that went wrong in this worker.

    {reason, message, status?, log?}: `reason` of a load is LoadFailed's own word, of a batch the
    class of the error.
    """
    if isinstance(error, LoadFailed):
        return {"reason": error.reason, "message": str(error), "log": error.log_tail}
    if isinstance(error, HandlerRefused):
        return {"reason": "HandlerRefused", "message": str(error), "status": error.status}
    if isinstance(error, OutOfMemory):
        return {"reason": "OutOfMemory", "message": str(error)}
    if isinstance(error, PredictionFailed):
        return {"reason": "PredictionFailed", "message": str(error)}
    if isinstance(error, MemoryError):
        return {"reason": "OutOfMemory", "message": "Out of resources"}
    return {"reason": "PredictionFailed", "message": f"Prediction failed: {name(error)}"}


def name(error: BaseException) -> str:
    """Return "ValueError: what it said"."""
    said = str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
