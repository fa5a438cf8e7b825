"""Where a handler begins: from the name in a manifest to the two things to call."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ELSEWHERE = ("dali_image_classifier", "trt_llm_handler", "vllm_handler")
"""Default handlers of TorchServe that do not exist here: each is one engine's own."""


class NoEntryPoint(Exception):
    """The handler's file is there, but nothing in it can be called as a handler."""


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """What to call once, and what to call for every batch."""

    initialize: Callable[[Any], object]  # (context)
    handle: Callable[[Any, Any], Any]  # (data, context)


def find_entry_point(handler: str, model_dir: Path) -> EntryPoint:
    """Import the handler and return its entry point.

    Args:
        handler: "file.py", "file:function", a default handler's name, or an importable module.
        model_dir: where the archive was extracted to.

    Raises:
        NoEntryPoint: no `handle`, no such function, or not exactly one class for a handler.
        Exception: whatever the handler's module raises while it is imported.
    """
    file, colon, function = handler.partition(":")
    module = import_handler(file, model_dir)
    function = function or "handle"
    if callable(getattr(module, function, None)):
        return _from_function(module, function)
    if colon and not classes_of(module):
        raise NoEntryPoint(f"handler {handler}: there is no function {function}(data, context)")
    return _from_class(module, handler)


def import_handler(file: str, model_dir: Path) -> ModuleType:
    """Import a file of the archive, else a default handler, else any module of that name."""
    path = model_dir / (file if file.endswith(".py") else f"{file}.py")
    if path.is_file():
        return import_file(path)
    name = file.removesuffix(".py")
    if name in ELSEWHERE:
        raise NoEntryPoint(
            f"the default handler {name} does not exist in this release; archive a handler file of "
            "your own that drives its engine"
        )
    default = f"ts.torch_handler.{name}"
    if _exists(default):
        return importlib.import_module(default)
    return importlib.import_module(name)


def import_file(path: Path) -> ModuleType:
    """Import exactly this file, under its own name unless another module has that already.

    The import path is not asked: there a `queue.py` gives way to the standard library.
    """
    taken = path.stem in sys.stdlib_module_names or path.stem in sys.modules
    name = f"handler_{path.stem}" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def classes_of(module: ModuleType) -> list[type]:
    """Return the classes defined in a module; imported ones do not count."""
    members = inspect.getmembers(module, inspect.isclass)
    return [member for _, member in members if member.__module__ == module.__name__]


def _from_function(module: ModuleType, function: str) -> EntryPoint:
    handle = getattr(module, function)

    def initialize(context: object) -> object:
        return handle(None, context)  # TorchServe loads function handlers by a call without data

    return EntryPoint(initialize, handle)


def _from_class(module: ModuleType, handler: str) -> EntryPoint:
    found = classes_of(module)
    complete = [
        cls
        for cls in found
        if callable(getattr(cls, "handle", None)) and callable(getattr(cls, "initialize", None))
    ]
    if len(complete) != 1:
        names = ", ".join(cls.__name__ for cls in complete) or "none"
        raise NoEntryPoint(
            f"handler {handler}: expected a function handle(data, context) or exactly one class "
            f"with initialize(context) and handle(data, context), found {names}"
        )
    instance = complete[0]()
    return EntryPoint(instance.initialize, instance.handle)


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
