"""A condition as one pass finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from flambeau_operator.resources.conditions import ConditionType

LONGEST_MESSAGE: Final = 1024  # characters


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its bookkeeping."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
