"""From pydantic's JSON schema to the structural schema that a CRD must have.

References are written out, null is absence, and what Kubernetes words otherwise is reworded. A
keyword that nothing here knows is an error: a new feature of a type must not be lost silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from flambeau_operator.resources.quantities import format_duration

Node = Mapping[str, Any]
Schema = dict[str, Any]


class NotStructural(ValueError):
    """A type says something that has no place in a CRD."""


def structural_schema(type_: type[BaseModel]) -> Schema:
    """Return the structural schema of a type, with the defaults that the API server fills in."""
    root = type_.model_json_schema()
    return _Writer(root.get("$defs", {})).write(root)


def without_defaults(schema: Node) -> Schema:
    """Return the schema with no defaults in it: for what only a program writes."""
    return {key: _bare(key, value) for key, value in schema.items() if key != "default"}


def _bare(key: str, value: Any) -> Any:  # noqa: ANN401  JSON
    if key == "properties":  # the names below are fields, and one may be called `default`
        return {name: without_defaults(field) for name, field in value.items()}
    return without_defaults(value) if key in {"items", "additionalProperties"} else value


class _Writer:
    """Writes schemas of one root, whose references it knows."""

    def __init__(self, definitions: Mapping[str, Node]) -> None:
        self._definitions = definitions

    def write(self, node: Node) -> Schema:
        """Return the node as a structural schema."""
        schema: Schema = {}
        for key, value in self._plain(node).items():
            if key in KEPT:
                schema[key] = value
            elif key in REWORDED:
                _merge(schema, REWORDED[key](self, value))
            elif key not in DROPPED:
                raise NotStructural(f"{key!r} has no place in a structural schema")
        return _with_default(schema, node.get("default"))

    def _plain(self, node: Node) -> Schema:
        """Return the node without reference and without null; its own words go first."""
        own = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
        if "$ref" in node:
            return {**self._plain(self._definitions[node["$ref"].rpartition("/")[2]]), **own}
        if "anyOf" in node:
            some = [each for each in node["anyOf"] if each != {"type": "null"}]
            if len(some) != 1:
                raise NotStructural("of several types at once only `something or null` has a form")
            return {**self._plain(some[0]), **own}
        return own

    def properties(self, fields: Mapping[str, Node]) -> Schema:
        """Write the fields of an object."""
        return {"properties": {name: self.write(field) for name, field in fields.items()}}

    def items(self, node: Node) -> Schema:
        """Write the entries of a list."""
        return {"items": self.write(node)}

    def additional_properties(self, node: Node | bool) -> Schema:
        """Write the values of a map. That nothing else is allowed is said by leaving it out."""
        if node is False:
            return {}
        if node is True or not isinstance(node, Mapping):
            raise NotStructural("a map must say what its values are")
        return {"additionalProperties": self.write(node)}

    def pattern_properties(self, patterns: Mapping[str, Node]) -> Schema:
        """Write a map whose keys have a pattern: a rule, as the keyword is not served."""
        if len(patterns) != 1:
            raise NotStructural("the keys of a map have one pattern")
        ((pattern, node),) = patterns.items()
        return {
            "additionalProperties": self.write(node),
            **_keys(f"key.matches(r'{pattern}')", f"every name must match {pattern}"),
        }

    def property_names(self, node: Node) -> Schema:
        """Write the length of a map's keys: a rule, as the keyword is not served."""
        if unknown := node.keys() - {"maxLength"}:
            raise NotStructural(f"the keys of a map cannot be held to {sorted(unknown)}")
        longest = node["maxLength"]
        return _keys(f"size(key) <= {longest}", f"a name has at most {longest} characters")


def _keys(condition: str, message: str) -> Schema:
    return {
        "x-kubernetes-validations": [{"rule": f"self.all(key, {condition})", "message": message}]
    }


def _merge(schema: Schema, more: Schema) -> None:
    for key, value in more.items():
        schema[key] = [*schema.get(key, []), *value] if isinstance(value, list) else value


def _with_default(schema: Schema, default: object) -> Schema:
    """Add the default, if there is one that says something.

    An object is defaulted to nothing when a field in it has a default: only then does the API
    server look inside. The defaults of its fields are written there, once.
    """
    if schema.get("type") == "object":
        if default is not None and _fills_in(schema):
            schema["default"] = {}
    elif isinstance(default, float):  # seconds inside, text outside
        schema["default"] = format_duration(default)
    elif default not in (None, "", [], ()):
        schema["default"] = default
    return dict(sorted(schema.items()))


def _fills_in(schema: Node) -> bool:
    return any("default" in field for field in schema.get("properties", {}).values())


KEPT = frozenset(
    {
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    }
)
DROPPED = frozenset({"title", "$defs", "default"})
REWORDED: Mapping[str, Callable[[_Writer, Any], Schema]] = {
    "properties": _Writer.properties,
    "items": _Writer.items,
    "additionalProperties": _Writer.additional_properties,
    "patternProperties": _Writer.pattern_properties,
    "propertyNames": _Writer.property_names,
    "const": lambda _, value: {"enum": [value]},
    "exclusiveMinimum": lambda _, value: {"minimum": value, "exclusiveMinimum": True},
    "exclusiveMaximum": lambda _, value: {"maximum": value, "exclusiveMaximum": True},
}
