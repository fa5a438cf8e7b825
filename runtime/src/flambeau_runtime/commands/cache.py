"""The folder of archives that several runtimes share, from a flag or a variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Settings

VARIABLE: Final = "FLAMBEAU_CACHE"


def apply(settings: Settings, flag: str | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings with the shared cache, if there is to be one; the flag goes first.

    Raises:
        InvalidSettings: it is no folder, and none can be made.
    """
    said = flag or environ.get(VARIABLE)
    if not said:
        return settings
    path = Path(said).resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = "--cache" if flag else VARIABLE
        raise InvalidSettings(f"{where} {said}: {error.strerror}; name a folder") from None
    return replace(settings, cache_dir=path)
