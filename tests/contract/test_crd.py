"""The CRD that is shipped is the one that the types make, and it is within Kubernetes' limits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from flambeau_operator.resources import crd
from flambeau_operator.resources.field_problems import LATER
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.schema import NotStructural, structural_schema
from tests.builders import deployment_body, model_body

ROOT = Path(__file__).resolve().parents[2]
SPEC = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


@pytest.mark.parametrize(
    ("file", "made"),
    [
        pytest.param(
            "crds/modeldeployments.serving.flambeau.dev.yaml", crd.as_yaml, id="for kubectl"
        ),
        pytest.param("charts/flambeau/templates/crd.yaml", crd.as_helm_template, id="the chart's"),
        pytest.param("docs/fields.md", crd.as_page, id="the page of the fields"),
    ],
)
def test_the_file_is_what_the_types_make(file, made):
    assert (ROOT / file).read_text(encoding="utf-8") == made(), "run `make crds`"


def test_the_charts_template_is_the_same_crd_under_two_switches():
    text = crd.as_helm_template()
    assert text.count("{{") == text.count("}}") == 4
    plain = "\n".join(line for line in text.splitlines() if "{{" not in line)
    kept = yaml.safe_load(plain)
    assert kept["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert kept == crd.crd()


def test_the_crd_is_small_enough_for_every_client():
    assert len(json.dumps(crd.crd(), separators=(",", ":"))) < 150_000


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema in a schema, with the path to what it describes."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for key, step in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + step)


def test_everything_a_user_writes_has_a_bound_so_that_rules_have_a_price():
    bound = {"string": "maxLength", "array": "maxItems"}
    unbound = [
        path
        for path, schema in nodes(SPEC, "spec")
        if (key := bound.get(schema.get("type", ""))) and key not in schema and "enum" not in schema
    ]
    unbound += [
        path
        for path, schema in nodes(SPEC, "spec")
        if "x-kubernetes-int-or-string" in schema and "maxLength" not in schema
    ]
    unbound += [
        path
        for path, schema in nodes(SPEC, "spec")
        if "additionalProperties" in schema and "maxProperties" not in schema
    ]
    assert not unbound


def test_every_field_says_what_it_is():
    inside = ("[]", "{}")  # what a list or a map holds is told at the list or the map
    silent = [
        path
        for path, schema in nodes(SPEC, "spec")
        if "description" not in schema and not path.endswith(inside)
    ]
    assert not silent


def test_the_parents_of_a_default_are_defaulted_too_or_chosen_by_the_user():
    """Else the API server would never come to it; a member of a union is not for us to choose."""
    chosen = {
        "spec.models[].shadow",
        "spec.rollout.hot",
        "spec.rollout.hot.analysis",
        "spec.rollout.hot.analysis.failOn.workerRestarts",
        "spec.autoscaling",
        "spec.autoscaling.hpa",
        "spec.storage",
        "spec.storage.modelStore",
        "spec.storage.modelStore.persistentVolumeClaim",
    }
    everything = dict(nodes(SPEC, "spec"))
    parents = {
        path.rpartition(".")[0]
        for path, schema in everything.items()
        if "default" in schema and not path.rpartition(".")[0].endswith("[]")
    }
    parents -= chosen | {"spec"}
    assert parents
    assert not [parent for parent in parents if "default" not in everything[parent]]


@pytest.mark.parametrize("field", ["replicas", "autoscaling", "configMaps", "claims"])
def test_what_a_rule_asks_for_the_presence_of_has_no_default(field):
    assert "default" not in SPEC["properties"][field]


def test_the_defaults_of_the_crd_are_those_of_the_types():
    filled = {
        path.removeprefix("spec."): schema["default"]
        for path, schema in nodes(SPEC, "spec")
        if schema.get("default", {}) != {}
        and not any(part in path for part in ("[]", "autoscaling", "rollout.hot"))
    }
    body: dict[str, Any] = {"models": [model_body()]}
    for path, value in filled.items():
        *parents, name = path.split(".")
        here = body
        for parent in parents:
            here = here.setdefault(parent, {})
        here[name] = value
    del body["storage"]
    assert parse({**deployment_body(), "spec": body}).spec == parse(deployment_body()).spec


def test_a_field_that_comes_later_is_declared_or_it_would_be_dropped_in_silence():
    rules = [
        rule["fieldPath"].removeprefix(".")
        for _, schema in nodes(SPEC, "spec")
        for rule in schema.get("x-kubernetes-validations", ())
        if rule.get("reason") == "FieldValueForbidden"
    ]
    assert sorted(rules) == sorted(name for names in LATER.values() for name in names)


class Odd(BaseModel):
    """A type that says what a CRD cannot."""

    model_config = ConfigDict(json_schema_extra={"not": {}})


class Either(BaseModel):
    """A field of two types."""

    value: int | str


@pytest.mark.parametrize("type_", [Odd, Either])
def test_what_has_no_place_in_a_crd_is_an_error_of_the_build_not_a_loss(type_):
    with pytest.raises(NotStructural):
        structural_schema(type_)
