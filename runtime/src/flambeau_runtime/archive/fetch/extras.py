"""The libraries that are not installed with the runtime: what to do where one is missing."""

from __future__ import annotations

import importlib
from typing import Any

from flambeau_runtime.errors import SourceNotFound


def need(module: str, extra: str) -> Any:  # noqa: ANN401  a module, whichever
    """Import a library of an extra.

    Raises:
        SourceNotFound: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SourceNotFound(
            f"{extra}:// needs {module.partition('.')[0]}, which is not installed: "
            f'pip install "flambeau-runtime[{extra}]" ({error})'
        ) from error


def split(uri: str, names: str) -> tuple[str, str]:
    """Return what stands before the first slash of an address, and what stands behind.

    Raises:
        SourceNotFound: either is missing, or a folder is named.
    """
    scheme, _, rest = uri.partition("://")
    first, _, path = rest.partition("/")
    if not first or not path or path.endswith("/"):
        raise SourceNotFound(f"Model not found at: {uri} (write {scheme.lower()}://{names})")
    return first, path
