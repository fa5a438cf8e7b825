"""From what pydantic found wrong to words a user can act on: path, message, nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flambeau_operator.errors import FieldProblem
from flambeau_operator.names import API_VERSION, KIND

NOT_YET = "is not supported by this version"
RESERVED = f"Reserved: it {NOT_YET}."
LATER: Mapping[str, Mapping[str, str]] = {
    "Spec": {
        "inferenceAuth": "object",
        "monitoring": "object",
        "route": "object",
    },
    "Autoscaling": {"keda": "object"},
    "Workers": {"devicesPerWorker": "integer"},
}
"""Fields that the API knows and this version cannot bring about, by the type they belong to."""

SCHEMES = "http, https, s3, gs, az, hf, oci, file, pvc or configmap"


def wrong_kind(body: Mapping[str, Any]) -> tuple[FieldProblem, ...]:
    """Say so when the object is something else altogether."""
    return tuple(
        FieldProblem(
            key, f"must be {wanted}, is {body.get(key)!r}" if key in body else "is missing"
        )
        for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND))
        if body.get(key) != wanted
    )


def problems_of(error: ValidationError, root: type[BaseModel]) -> tuple[FieldProblem, ...]:
    """Translate every finding, in the order of the fields."""
    return tuple(_problem(each, root) for each in error.errors() if not _is_echo(each))


def path_of(location: Sequence[str | int]) -> str:
    """Write a location as people do: `spec.models[0].source.uri`."""
    path = ""
    for step in location:
        if step == "[key]":  # pydantic's mark for a key that is wrong itself
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path


def _is_echo(found: ErrorDetails) -> bool:
    """Tell whether a list is only called too short because its entries are wrong themselves."""
    return found["type"] == "too_short" and len(found["input"]) >= found["ctx"]["min_length"]


def _problem(found: ErrorDetails, root: type[BaseModel]) -> FieldProblem:
    location = found["loc"]
    if found["type"] == "extra_forbidden":
        return _unknown(location, root)
    say = WORDS.get(found["type"])
    message = say(found) if say else found["msg"][:1].lower() + found["msg"][1:]
    return FieldProblem(path_of(location), message)


def _unknown(location: Sequence[str | int], root: type[BaseModel]) -> FieldProblem:
    parent, name = _type_at(root, location[:-1]), str(location[-1])
    if parent and name in LATER.get(parent.__name__, ()):
        return FieldProblem(path_of(location), NOT_YET)
    known = [field.alias or key for key, field in parent.model_fields.items()] if parent else []
    lowered = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return FieldProblem(path_of(location), "unknown field", lowered[close[0]] if close else None)


def _type_at(root: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the type of the object at a location, following the types from the root."""
    here: type[BaseModel] | None = root
    for step in location:
        if here is None:
            return None
        if isinstance(step, int):
            continue
        fields = {field.alias or key: field for key, field in here.model_fields.items()}
        here = next(_models_in(fields[step].annotation), None) if step in fields else None
    return here


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _string_type(found: ErrorDetails) -> str:
    value = found["input"]
    if isinstance(value, bool | int | float):
        return f"must be a string: write {str(value).lower()!r} in quotes"
    return "must be a string"


def _pattern(found: ErrorDetails) -> str:
    value = str(found["input"])
    if found["loc"][-1] != "uri":
        return f"{value!r} does not match {found['ctx']['pattern']}"
    return f"{value!r} is not an address: use {SCHEMES}"


WORDS: Mapping[str, Callable[[ErrorDetails], str]] = {
    "missing": lambda _: "is missing",
    "string_type": _string_type,
    "string_pattern_mismatch": _pattern,
    "string_too_long": lambda found: f"must have at most {found['ctx']['max_length']} characters",
    "literal_error": lambda found: f"must be {found['ctx']['expected']}",
    "int_type": lambda _: "must be a whole number",
    "bool_type": lambda _: "must be true or false",
    "tuple_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a mapping",
    "model_type": lambda _: "must be a mapping",
    "greater_than_equal": lambda found: f"must be at least {found['ctx']['ge']}",
    "greater_than": lambda found: f"must be more than {found['ctx']['gt']:g}",
    "less_than_equal": lambda found: f"must be at most {found['ctx']['le']:g}",
    "too_short": lambda _: "must not be empty",
    "too_long": lambda found: f"must have at most {found['ctx']['max_length']} entries",
    "value_error": lambda found: str(found["ctx"]["error"]),
}
