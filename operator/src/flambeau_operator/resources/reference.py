"""The fields of a structural schema as lines of a table, for people who read before they write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flambeau_operator.resources.field_problems import RESERVED

Node = Mapping[str, Any]


def fields_of(schema: Node, path: str) -> Iterator[str]:
    """Yield a line for each field below, in the order of the types; reserved ones left out."""
    for name, field in schema.get("properties", {}).items():
        if field["description"] == RESERVED:
            continue
        here = f"{path}.{name}"
        known = f"`{here}`" if name not in schema.get("required", ()) else f"**`{here}`**"
        yield f"| {known} | {_type(field)} | {_default(field)} | {_cell(field['description'])} |"
        yield from fields_of(field, here)
        yield from fields_of(field.get("items", {}), f"{here}[]")


def _type(field: Node) -> str:
    """Name the type in a reader's words, with the bounds that matter to one."""
    if "enum" in field:
        return _cell(", ".join(f"`{each}`" if each else "empty" for each in field["enum"]))
    if "x-kubernetes-int-or-string" in field:
        return "share" if "minimum" in field else "quantity"
    if "additionalProperties" in field:
        return f"map, at most {field['maxProperties']}"
    if field["type"] == "array":
        return f"list, at most {field['maxItems']}"
    if field["type"] == "integer" and "maximum" in field:
        return f"{field.get('minimum', 0)} to {field['maximum']}"
    return "duration" if "ms)" in field.get("pattern", "") else str(field["type"])


def _default(field: Node) -> str:
    default = field.get("default", {})
    return "" if default == {} else f"`{json.dumps(default).strip(chr(34))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
