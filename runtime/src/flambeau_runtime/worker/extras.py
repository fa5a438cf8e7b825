"""Libraries that only some handlers need: imported when needed, missed with a word on the extra."""

from __future__ import annotations

import importlib
from typing import Any

_EXTRAS = {"torchvision": "vision", "PIL": "vision", "captum": "explain"}


def need(module: str, user: str) -> Any:  # noqa: ANN401  a module, whatever it has inside
    """Import an optional module.

    Args:
        module: its full name.
        user: who needs it, as the error's first words: "image_classifier".

    Raises:
        ImportError: it is not installed; says what to install.
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # it is there, and misses something of its own
        raise ImportError(
            f"{user} needs {library}, which is not installed: "
            f'pip install "flambeau-runtime[{_EXTRAS[library]}]"',
            name=library,
        ) from error
