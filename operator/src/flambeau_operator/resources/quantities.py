"""Durations and shares as people write them: `150s`, `1h30m`, `25%`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
LONGEST_DURATION = 24  # characters
DURATION_SCHEMA = {"type": "string", "maxLength": LONGEST_DURATION, "pattern": DURATION_PATTERN}
QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
LONGEST = 64  # characters of a quantity
PERCENT_PATTERN = r"^([1-9][0-9]?|100)%$"
_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(text: object) -> float:
    """Return the seconds that a duration such as `1h30m` or `50ms` stands for.

    Raises:
        ValueError: it is not written so.
    """
    if not isinstance(text, str) or not _is_duration(text):
        raise ValueError("must be a duration like 500ms, 30s, 5m or 1h30m, in quotes")
    return sum(int(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text)) / 1000


def _is_duration(text: str) -> bool:
    return len(text) <= LONGEST_DURATION and bool(re.fullmatch(DURATION_PATTERN, text))


def format_duration(seconds: float) -> str:
    """Write seconds the way `parse_duration` reads them."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in _UNIT_MS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def parse_share(value: object) -> int | str:
    """Accept a number of at least 1, or 1 % to 100 %.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and re.fullmatch(PERCENT_PATTERN, value):
        return value
    raise ValueError("must be a number of at least 1, or a percentage from 1% to 100%")


def share_of(share: int | str, total: int) -> int:
    """Return how many of `total` are allowed: percentages rounded down, never less than one."""
    if isinstance(share, int):
        return share
    return max(1, total * int(share.removesuffix("%")) // 100)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(DURATION_SCHEMA),
]
"""Seconds inside, text such as `150s` outside."""

Share = Annotated[
    int | str,
    BeforeValidator(parse_share),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": LONGEST,
            "minimum": 1,
            "pattern": PERCENT_PATTERN,
        }
    ),
]
"""A number of pods, or a percentage of them."""


def parse_quantity(value: object) -> str:
    """Accept a quantity as Kubernetes writes them, `500m`, `8Gi` or 2, and return it as text.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and len(value) <= LONGEST and re.fullmatch(QUANTITY_PATTERN, value):
        return value
    raise ValueError("must be a quantity like 500m, 2 or 8Gi")


Quantity = Annotated[
    str,
    BeforeValidator(parse_quantity),
    WithJsonSchema(
        {"x-kubernetes-int-or-string": True, "maxLength": LONGEST, "pattern": QUANTITY_PATTERN}
    ),
]
"""An amount of a resource, always text inside."""


PERCENTAGE_PATTERN = r"^([0-9]{1,3}(\.[0-9]{1,3})?)%$"
MOST_PERCENT = 1000.0


def parse_percentage(value: object) -> float:
    """Return the percent that text such as `30%` or `0.5%` stands for.

    Raises:
        ValueError: it is not written so.
    """
    if isinstance(value, float):
        return value  # our own default
    if isinstance(value, str) and re.fullmatch(PERCENTAGE_PATTERN, value):
        return float(value.removesuffix("%"))
    raise ValueError("must be a percentage like 2% or 0.5%, in quotes")


def format_percentage(percent: float) -> str:
    """Write percent the way `parse_percentage` reads it."""
    return f"{percent:.3f}".rstrip("0").rstrip(".") + "%"


Percentage = Annotated[
    float,
    BeforeValidator(parse_percentage),
    PlainSerializer(format_percentage, return_type=str),
    WithJsonSchema({"type": "string", "maxLength": 8, "pattern": PERCENTAGE_PATTERN}),
]
"""Percent inside (2.0), text such as `2%` outside."""


def bytes_of(quantity: str) -> int:
    """Return the bytes that a quantity of memory stands for: `8Gi`, `500M`, `1e9`."""
    return int(quantity_number(quantity))


_SUFFIXES = {
    **{f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", 1)},
    **{prefix: Decimal(1000) ** power for power, prefix in enumerate("kMGTPE", 1)},
    "m": Decimal(1) / 1000,
    "u": Decimal(1) / 10**6,
    "n": Decimal(1) / 10**9,
}


def quantity_number(quantity: str) -> Decimal:
    """Return the number that a quantity stands for."""
    for suffix, factor in _SUFFIXES.items():
        if quantity.endswith(suffix):
            return Decimal(quantity.removesuffix(suffix)) * factor
    return Decimal(quantity)
