"""What must hold between fields: said once for the API server, in CEL, and once for ourselves.

Each type of the spec carries its own rules. The CRD takes the CEL; `breaches` asks the same of a
parsed object, so that `flambeau validate` and the API server give the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from flambeau_operator.errors import FieldProblem

BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
"""For lists whose entries are known by their names: the API server sees that each has its own."""

Find = Callable[[Any], Iterator[FieldProblem]]
"""Yields what is wrong with an object, with paths that begin at the object."""


def nothing(_: Any) -> Iterator[FieldProblem]:  # noqa: ANN401  of any type there is
    """Find nothing: what is said of an edit cannot be asked of one object."""
    yield from ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a type.

    Args:
        cel: true where it holds; `self` is the object, `oldSelf` what it was before an edit.
        message: what the API server says where it does not.
        field: the field that is blamed, `.replicas`; empty for the object as a whole.
        find: the same rule in Python.
        telling: CEL for a message that tells values; `message` where that cannot be had.
        reason: Kubernetes' word for what is wrong.
    """

    cel: str
    message: str
    field: str = ""
    find: Find = nothing
    telling: str = ""
    reason: str = "FieldValueInvalid"

    def to_json(self) -> dict[str, str]:
        """Return it as an entry of `x-kubernetes-validations`."""
        named = {
            "rule": self.cel,
            "message": self.message,
            "messageExpression": self.telling,
            "fieldPath": self.field,
            "reason": self.reason,
        }
        return {key: text for key, text in named.items() if text}


def rule(cel: str, message: str, field: str, holds: Callable[[Any], bool]) -> Rule:
    """Make a rule whose message needs no values."""

    def find(self: Any) -> Iterator[FieldProblem]:  # noqa: ANN401  the type that has the rule
        if not holds(self):
            yield FieldProblem(field.removeprefix("."), message)

    return Rule(cel, message, field, find)


def breaches(found: object, path: str) -> Iterator[FieldProblem]:
    """Yield what is wrong between fields that are each in order, in the object and below it.

    Args:
        found: a parsed object, or a list of them; anything else has no rules.
        path: where it is.
    """
    if isinstance(found, BaseModel):
        yield from _own(found, path)
        for name, field in type(found).model_fields.items():
            below, value = f"{path}.{field.alias or name}", getattr(found, name)
            if field.json_schema_extra == BY_NAME:
                yield from _doubles(value, below)
            yield from breaches(value, below)
    elif isinstance(found, tuple):
        for index, each in enumerate(found):
            yield from breaches(each, f"{path}[{index}]")


def _own(found: BaseModel, path: str) -> Iterator[FieldProblem]:
    rules: tuple[Rule, ...] = getattr(found, "rules", ())
    for each in rules:
        for problem in each.find(found):
            below = f"{path}.{problem.path}" if problem.path else path
            yield FieldProblem(below, problem.message, problem.nearest)


def _doubles(entries: Sequence[Any], path: str) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.name in seen:
            yield FieldProblem(f"{path}[{index}].name", f"{entry.name!r} is named twice")
        seen.add(entry.name)
