"""A class by its dotted name: what `ts.handler_utils.utils.import_class` does."""

from __future__ import annotations

import importlib


def import_class(class_name: str, module_prefix: str | None = None) -> type:
    """Import a module and return one of its classes.

    Args:
        class_name: "package.module.Class"; its module may be left out where there is a prefix.
        module_prefix: the package that the name is relative to.

    Raises:
        ImportError: no such module or class, or a name without either.
    """
    if not class_name:
        raise ImportError("class name is not defined")
    rest, _, name = class_name.rpartition(".")
    module_name = ".".join(part for part in (module_prefix, rest) if part)
    if not module_name:
        raise ImportError(f"module name of the class {name} is not defined")
    found = getattr(importlib.import_module(module_name), name, None)
    if found is None:
        raise ImportError(f"class:{name} not found in module:{module_name}.")
    return found  # type: ignore[no-any-return]
