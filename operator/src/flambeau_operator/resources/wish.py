"""What every part of a spec has in common: its base, and the scalars that several parts use."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core.core_schema import CoreSchema

from flambeau_operator.resources.field_problems import LATER, NOT_YET, RESERVED
from flambeau_operator.resources.quantities import DURATION_SCHEMA, Duration
from flambeau_operator.resources.rules import Rule


class Wish(BaseModel):
    """Part of a spec: nothing unknown is let through."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Add to pydantic's schema what only Kubernetes knows: rules, and fields to come."""
        schema = handler(core)
        own = handler.resolve_ref_schema(schema)
        later = LATER.get(cls.__name__, {})
        for name, type_ in later.items():
            own.setdefault("properties", {})[name] = _reserved(type_)
        rules = [each.to_json() for each in (*map(_refusal, later), *cls.rules)]
        if rules:
            own["x-kubernetes-validations"] = rules
        return schema


def _reserved(type_: str) -> dict[str, Any]:
    """Return the schema of a field that is known and refused: the refusal shall be ours.

    An undeclared field is dropped by the API server where the client does not ask for strictness.
    """
    schema: dict[str, Any] = {"type": type_, "description": RESERVED}
    if type_ == "object":
        schema["x-kubernetes-preserve-unknown-fields"] = True
    if type_ == "array":
        schema |= {"items": _anything(), "maxItems": 64}
    if type_ == "string":
        schema["maxLength"] = 253
    return schema


def _anything() -> dict[str, Any]:
    return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _refusal(name: str) -> Rule:
    return Rule(f"!has(self.{name})", NOT_YET, f".{name}", reason="FieldValueForbidden")


Natural = Annotated[StrictInt, Field(ge=0, le=10_000)]
_WITHIN_A_DAY = Rule("duration(self) <= duration('24h')", "must be at most 24h")
_NOT_NOTHING = Rule("duration(self) > duration('0s')", "must be more than 0s")
Delay = Annotated[
    Duration,
    Field(le=86_400),
    WithJsonSchema({**DURATION_SCHEMA, "x-kubernetes-validations": [_WITHIN_A_DAY.to_json()]}),
]
Patience = Annotated[
    Duration,
    Field(gt=0, le=86_400),
    WithJsonSchema(
        {
            **DURATION_SCHEMA,
            "x-kubernetes-validations": [_NOT_NOTHING.to_json(), _WITHIN_A_DAY.to_json()],
        }
    ),
]
DnsName = Annotated[
    str, StringConstraints(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""The name of a ConfigMap, a claim or a Secret."""
Opaque = Annotated[dict[str, object], WithJsonSchema(_anything())]
"""A part of core/v1 that is handed through; the API server judges it where it ends up."""
NOT_FILLED_IN = {"default": None}
"""For a struct that belongs to one of several choices: the API server shall not make it up."""
