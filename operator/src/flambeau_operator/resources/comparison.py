"""When the answers of two versions count as the same."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from flambeau_operator.resources.wish import Wish

JsonPath = Annotated[
    str, StringConstraints(max_length=253, pattern=r"^\$(\.[A-Za-z0-9_-]+|\[([0-9]{1,9}|\*)\])*$")
]
"""`$`, then steps: `.field`, `[3]`, `[*]`; `$.scores[*].value`."""
Difference = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Tolerance(Wish):
    """How far numbers at one place may lie apart."""

    path: JsonPath
    """Which numbers: `$[*]`, `$.scores[*].value`; whatever lies below counts too."""
    absolute: Difference | None = None
    """By so much."""
    relative: Difference | None = None
    """Or by this share of the larger one; 0.01 is 1 %."""


class Comparison(Wish):
    """JSON answers by value, all others byte for byte."""

    tolerances: Annotated[tuple[Tolerance, ...], Field(max_length=16)] = ()
    """For numbers; the first path that fits counts."""
    ignore: Annotated[tuple[JsonPath, ...], Field(max_length=16)] = ()
    """What may differ: ids, times."""
