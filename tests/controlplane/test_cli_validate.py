"""`flambeau validate`: every problem with its place, its path and the nearest known name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flambeau_operator.cli.__main__ import app

GOOD = """\
apiVersion: serving.flambeau.dev/v1alpha1
kind: ModelDeployment
metadata: {name: wine}
spec:
  models:
    - name: classifier
      version: "1.0"
      source: {uri: classifier.mar}
"""
EXAMPLE = Path(__file__).parents[2] / "examples" / "classifier" / "classifier.yaml"


@pytest.fixture
def validate(tmp_path):
    file = tmp_path / "wine.yaml"

    def run(text, *options):
        file.write_text(text, encoding="utf-8")
        result = CliRunner().invoke(app, ["validate", str(file), *options])
        return result.exit_code, result.output.replace(f"{file}:", "")

    return run


def test_a_good_file_is_named_as_valid(validate):
    assert validate(GOOD) == (0, "valid: wine\n")


def test_the_example_is_valid():
    assert CliRunner().invoke(app, ["validate", str(EXAMPLE)]).exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        pytest.param("source:", "sorce:", "8:7: spec.models[0].sorce: ", id="an unknown field"),
        pytest.param('"1.0"', "1.0", "7:7: spec.models[0].version: ", id="a number for a text"),
        pytest.param("ModelDeployment", "Deployment", "2:1: kind: ", id="another kind"),
        pytest.param("name: wine", "name: Wine!", "3:12: metadata.name: ", id="a bad name"),
        pytest.param(
            "classifier.mar",
            "configmap://wine/a.mar",
            "8:16: spec.models[0].source.uri: is not mounted: add {name: wine} to spec.configMaps",
            id="what a cluster would not mount",
        ),
        pytest.param("classifier.mar", "s4://a/b", "8:16: spec.models[0].source.uri: ", id="uri"),
    ],
)
def test_a_problem_is_reported_as_line_column_path_and_message(validate, old, new, complaint):
    code, output = validate(GOOD.replace(old, new))
    assert code == 1
    assert complaint in output


def test_an_unknown_field_comes_with_the_nearest_known_name(validate):
    assert "source" in validate(GOOD.replace("source:", "sorce:"))[1].partition("sorce")[2]


def test_all_problems_come_at_once_in_the_order_of_the_lines(validate):
    wrong = GOOD.replace("spec:", "spec:\n  replica: 2").replace('"1.0"', "[]")
    lines = [line.split(":")[0] for line in validate(wrong)[1].splitlines()]
    assert lines == ["5", "8"]


def test_two_documents_of_one_name_are_a_problem(validate):
    code, output = validate(f"{GOOD}---\n{GOOD}")
    assert (code, "12:12: metadata.name: default/wine is already" in output) == (1, True)


def test_programs_get_json(validate):
    code, output = validate(GOOD.replace("source:", "sorce:"), "-o", "json")
    verdict = json.loads(output)
    assert (code, verdict["valid"]) == (1, False)
    found = [(each["line"], each["column"], each["path"]) for each in verdict["problems"]]
    assert (8, 7, "spec.models[0].sorce") in found


def test_a_file_that_is_not_there_is_a_wrong_command_line():
    assert CliRunner().invoke(app, ["validate", "nowhere.yaml"]).exit_code == 2


def test_help_costs_neither_the_types_nor_the_server():
    heavy = {"pydantic", "aiohttp", "yaml", "cryptography", "rich", "torch"}
    script = "import flambeau_operator.cli.__main__, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(out.stdout.split())
