"""`ts.handler_utils.utils`: what third-party handlers import from there."""

from flambeau_runtime.worker.class_import import import_class

__all__ = ["import_class"]
