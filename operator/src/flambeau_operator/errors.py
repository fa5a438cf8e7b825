"""What can go wrong in the control plane, named after what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OperatorFault(Exception):
    """Anything this program raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that cannot be accepted, and why."""

    path: str  # "spec.models[0].source.uri"
    message: str
    nearest: str | None = None  # the known name that an unknown one resembles most

    def __str__(self) -> str:
        hint = f", did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{self.path}: {self.message}{hint}"


class InvalidSpec(OperatorFault):
    """The object is not a ModelDeployment that this version can serve."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Conflict(OperatorFault):
    """The object changed since it was read; the pass is worthless."""


class Silent(OperatorFault):
    """A pod's management API did not answer."""


class Refused(OperatorFault):
    """A pod answered, and said no."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"refused with {status}: {body}")
        self.status = status
        self.body = body
