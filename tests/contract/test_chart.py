"""The chart's values are described where users look: in the schema, and in the guide's table."""

import json
import re
from functools import reduce
from pathlib import Path

import yaml

from flambeau_operator.settings import LEVELS, read_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "flambeau"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
GUIDE = ROOT / "docs" / "install.md"


def test_every_value_has_a_default_and_a_place_in_the_schema():
    # Helm takes a default that the schema lacks only until somebody sets something else.
    assert sorted(_paths(VALUES, SCHEMA)) == sorted(_parts(SCHEMA))


def test_every_value_is_described_in_a_sentence():
    for path, part in _parts(SCHEMA).items():
        assert part["description"].endswith("."), path


def test_an_unknown_value_is_refused_everywhere_but_in_what_charts_share():
    closed = {"": SCHEMA} | _objects(SCHEMA)
    open_ones = {path for path, part in closed.items() if part.get("additionalProperties", True)}
    assert open_ones == {"global"}


def test_the_guide_lists_every_value_with_its_default():
    _, _, table = GUIDE.read_text().partition("| --- | --- | --- |\n")
    assert [line for line in table.splitlines() if line.startswith("|")] == _table()


def test_the_chart_sets_what_the_operator_reads_and_nothing_else():
    asked = Asked(
        FLAMBEAU_NAMESPACE="flambeau-system", FLAMBEAU_POD_NAME="a", FLAMBEAU_RUNTIME_IMAGE="b"
    )
    read_settings(asked)
    template = (CHART / "templates" / "deployment.yaml").read_text()
    # The kubeconfig is for an operator outside of the cluster.
    assert set(re.findall(r"- name: (FLAMBEAU_\w+)", template)) == asked.names - {"KUBECONFIG"}


def test_the_chart_knows_every_level_of_the_log():
    assert SCHEMA["properties"]["logLevel"]["enum"] == [level.lower() for level in LEVELS]


class Asked(dict):
    """An environment that remembers what was asked for."""

    def __init__(self, **environment):
        super().__init__(environment)
        self.names = set()

    def get(self, key, default=None):
        self.names.add(key)
        return super().get(key, default)


def _table():
    """Return the rows of the guide's table, as they should be."""
    return [
        f"| `{path}` | {_shown(_at(VALUES, path))} | {part['description']} |"
        for path, part in _parts(SCHEMA).items()
    ]


def _shown(value):
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return "" if value == "" else f"`{text}`"


def _resolved(part):
    name = part.get("$ref", "").removeprefix("#/definitions/")
    return SCHEMA["definitions"][name] | part if name else part


def _objects(part, path=""):
    """Return every part of the schema that has named parts itself."""
    found = {}
    for name, child in part.get("properties", {}).items():
        resolved, here = _resolved(child), f"{path}.{name}".lstrip(".")
        if "properties" in resolved:
            found |= {here: resolved} | _objects(resolved, here)
    return found


def _parts(part, path=""):
    """Return every value of the schema that is set as a whole."""
    found = {}
    for name, child in part["properties"].items():
        resolved, here = _resolved(child), f"{path}.{name}".lstrip(".")
        found |= _parts(resolved, here) if "properties" in resolved else {here: resolved}
    return found


def _paths(values, part, path=""):
    """Return the path of every default, as deep as the schema names parts."""
    for name, value in values.items():
        child = _resolved(part.get("properties", {}).get(name, {}))
        here = f"{path}.{name}".lstrip(".")
        if "properties" in child:
            yield from _paths(value, child, here)
        else:
            yield here


def _at(values, path):
    return reduce(lambda inside, name: inside[name], path.split("."), values)
