"""Who decides how many pods run."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StrictInt

from flambeau_operator.resources.rules import Rule, rule
from flambeau_operator.resources.wish import Opaque, Wish


class HorizontalPodAutoscaling(Wish):
    """A HorizontalPodAutoscaler (autoscaling/v2) for the pods."""

    min: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1
    """The fewest pods."""
    max: Annotated[StrictInt, Field(ge=1, le=10_000)]
    """The most pods."""
    metrics: Annotated[tuple[Opaque, ...], Field(max_length=16)] = ()
    """As autoscaling/v2's metrics, handed through; absent means 80 % of the requested CPU."""
    behavior: Opaque | None = None
    """As autoscaling/v2's behavior, handed through."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "self.min <= self.max",
            "must not be less than min",
            ".max",
            lambda self: self.min <= self.max,
        ),
    )


class Autoscaling(Wish):
    """Instead of `replicas`: exactly one kind."""

    hpa: HorizontalPodAutoscaling | None = None
    """Kubernetes' own autoscaler."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule("has(self.hpa)", "must name its kind: hpa", "", lambda self: self.hpa is not None),
    )
