"""What an archive says about itself, and what is said when it makes no sense."""

import json

import pytest

from flambeau_runtime.archive.manifest import (
    Declared,
    read_config,
    read_manifest,
    to_json_types,
)
from flambeau_runtime.errors import ArchiveInvalid
from tests.dataplane.archives import MANIFEST, make_directory, manifest

UNFOLDING = "a0: &a0 [1]\n" + "\n".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)
)


def put(tmp_path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    return make_directory(tmp_path / "m", {"MAR-INF/MANIFEST.json": text, "handler.py": ""})


def test_the_fields_of_a_manifest_are_read_and_all_of_it_is_kept(tmp_path):
    content = {**manifest(configFile="model-config.yaml"), "createdOn": "01/02/2026 00:00:00"}
    found = read_manifest(put(tmp_path, content), "m.mar")
    assert (found.model, found.version, found.handler) == ("echo", "1.0", "handler.py")
    assert found.config_file == "model-config.yaml"
    assert found.content == content


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        pytest.param(Declared(model="mine"), ("mine", "1.0", "handler.py"), id="its name"),
        pytest.param(Declared(version="7"), ("echo", "7", "handler.py"), id="its version"),
        pytest.param(
            Declared(handler="base_handler"), ("echo", "1.0", "base_handler"), id="its handler"
        ),
        pytest.param(
            Declared(default_handler="base_handler"),
            ("echo", "1.0", "handler.py"),
            id="but a default handler does not",
        ),
    ],
)
def test_a_request_goes_before_the_manifest(tmp_path, declared, expected):
    found = read_manifest(put(tmp_path, MANIFEST), "m.mar", declared)
    assert (found.model, found.version, found.handler) == expected
    assert found.content["model"]["modelName"] == expected[0]
    assert found.content["model"]["handler"] == expected[2]


def test_without_a_manifest_a_name_and_a_handler_are_enough(tmp_path):
    directory = make_directory(tmp_path / "m", {"h.py": "", "model-config.yaml": "a: 1"})
    found = read_manifest(directory, "m", Declared(model="m", handler="h.py:run"))
    assert (found.model, found.version, found.handler) == ("m", "1.0", "h.py:run")
    assert read_config(directory, "m", found.config_file) == {"a": 1}


def test_an_archive_that_names_no_handler_gets_the_default_one(tmp_path):
    directory = make_directory(tmp_path / "m", {"h.py": ""})
    found = read_manifest(directory, "m", Declared(model="m", default_handler="h.py:run"))
    assert (found.handler, found.content["model"]["handler"]) == ("h.py:run", "h.py:run")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param({}, "^Model name is not defined", id="no model"),
        pytest.param("{", "MANIFEST.json is not JSON", id="broken JSON"),
        pytest.param("[]", "must be an object", id="not an object"),
        pytest.param({"model": []}, "model must be an object", id="a model that is a list"),
        pytest.param(
            {**MANIFEST, "runtime": "java"}, "Runtime is not defined", id="an unknown runtime"
        ),
        pytest.param(manifest(modelName=3), "modelName must be a string", id="a number for a name"),
        pytest.param(manifest(handler=None), "model.handler is missing", id="no handler"),
        pytest.param(
            manifest(handler="gone.py"), "gone.py is not in the archive", id="a missing handler"
        ),
        pytest.param(manifest(handler="../h.py"), "points outside", id="a handler outside"),
        pytest.param(manifest(configFile="/etc/x"), "points outside", id="a config outside"),
        pytest.param("[" * 100_000, "not JSON", id="nesting without end"),
        pytest.param({**MANIFEST, "x": 2**70}, "passed on as JSON", id="a number beyond 64 bits"),
        pytest.param(
            {**MANIFEST, "x": json.loads("[" * 300 + "]" * 300)}, "passed on", id="deep nesting"
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, content, why):
    with pytest.raises(ArchiveInvalid, match=why):
        read_manifest(put(tmp_path, content), "m.mar")


def test_a_version_written_as_a_number_is_understood(tmp_path):
    assert read_manifest(put(tmp_path, manifest(modelVersion=2.0)), "m").version == "2.0"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(
            "a: 1\nb: 'x\nc: 2\n", "model-config.yaml line 4", id="broken YAML, with its line"
        ),
        pytest.param("- 1\n", "must be a mapping", id="a list"),
        pytest.param(
            "a: !!python/object/apply:os.system ['true']", "constructor", id="YAML that runs code"
        ),
        pytest.param("a: 1208925819614629174706176", "passed on as JSON", id="a huge number"),
        pytest.param("a: " + "[" * 300 + "]" * 300, "passed on as JSON", id="deep nesting"),
        pytest.param("a: " + "[" * 3000, "model-config.yaml", id="nesting without end"),
        pytest.param(UNFOLDING, "more than", id="aliases that unfold without end"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path, text, why):
    directory = make_directory(tmp_path, {"model-config.yaml": text})
    with pytest.raises(ArchiveInvalid, match=why):
        read_config(directory, "m.mar", "model-config.yaml")


def test_a_config_the_manifest_names_must_be_there(tmp_path):
    with pytest.raises(ArchiveInvalid, match=r"x\.yaml is not in the archive"):
        read_config(tmp_path, "m.mar", "x.yaml")


def test_an_empty_config_is_no_config(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing yet\n")
    assert read_config(tmp_path, "m.mar", "c.yaml") == {}


def test_the_front_sees_a_config_in_the_types_of_json(tmp_path):
    (tmp_path / "c.yaml").write_text("1: one\nday: 2026-01-02\nlist: [1, 2.5, yes, null]\n")
    config = read_config(tmp_path, "m.mar", "c.yaml")
    assert to_json_types(config) == {
        "1": "one",
        "day": "2026-01-02",
        "list": [1, 2.5, True, None],
    }
