"""How much memory this runtime may use, from a variable, where no control group says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Settings

VARIABLE: Final = "FLAMBEAU_MEMORY_LIMIT"


def apply(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return the settings with the declared limit, if there is one.

    Raises:
        InvalidSettings: it is no number of bytes.
    """
    said = environ.get(VARIABLE)
    if not said:
        return settings
    if not said.isdecimal() or int(said) == 0:
        raise InvalidSettings(
            f"{VARIABLE}={said} cannot be: write a number of bytes, 4 GiB is 4294967296"
        )
    return replace(settings, memory_limit_bytes=int(said))
