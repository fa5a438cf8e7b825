"""`ts.context`: what handlers are handed."""

from flambeau_runtime.worker.context import Context, RequestProcessor

__all__ = ["Context", "RequestProcessor"]
