"""What every part of a spec has in common: its base, and the scalars that several parts use."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from flambeau_operator.resources.quantities import Duration


class Wish(BaseModel):
    """Part of a spec: nothing unknown is let through."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, use_attribute_docstrings=True
    )


Natural = Annotated[StrictInt, Field(ge=0)]
Delay = Annotated[Duration, Field(le=86_400)]
Patience = Annotated[Duration, Field(gt=0, le=86_400)]
DnsName = Annotated[
    str, StringConstraints(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""The name of a ConfigMap, a claim or a Secret."""
Opaque = Annotated[
    dict[str, object],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""A part of core/v1 that is handed through; the API server judges it where it ends up."""
