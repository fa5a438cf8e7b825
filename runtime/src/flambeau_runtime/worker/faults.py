"""Exception → the FAULT message that tells the front about it."""

from __future__ import annotations

from typing import Any

from flambeau_runtime.errors import HandlerRefused, LoadFailed, OutOfMemory, PredictionFailed

LONGEST_MESSAGE = 10_000
"""Characters: a handler may say anything, and a frame has a limit."""


def describe(error: BaseException) -> dict[str, Any]:
    """Return the JSON-ready FAULT message of anything that went wrong in this worker.

    {reason, message, status?, log?}: `reason` of a load is LoadFailed's own word, of a batch the
    class of the error.
    """
    # Paths and what users send may hold lone surrogates, which no JSON can carry as UTF-8.
    message = str(error)[:LONGEST_MESSAGE].encode("utf-8", "replace").decode()
    if isinstance(error, LoadFailed):
        return {
            "reason": error.reason,
            "message": message,
            "log": error.log_tail.encode("utf-8", "replace").decode(),
        }
    if isinstance(error, HandlerRefused):
        return {"reason": "HandlerRefused", "message": message, "status": error.status}
    if isinstance(error, OutOfMemory):
        return {"reason": "OutOfMemory", "message": message}
    if isinstance(error, PredictionFailed):
        return {"reason": "PredictionFailed", "message": message}
    if isinstance(error, MemoryError):
        return {"reason": "OutOfMemory", "message": "Out of resources"}
    kind = type(error).__name__
    return {"reason": "PredictionFailed", "message": f"Prediction failed. {kind}: {message}"}
