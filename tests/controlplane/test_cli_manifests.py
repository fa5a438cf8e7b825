"""What people write, and where in it each field stands."""

from pathlib import Path

import pytest

from flambeau_operator.cli.manifests import (
    Position,
    UnreadableManifest,
    absolute_uri,
    local_uri,
    read_manifests,
)

TWO = """\
metadata:
  name: first
spec:
  models:
    - name: a
      source: {uri: archives/a.mar}
---
---
{"metadata": {"name": "second"}}
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        file = tmp_path / "wine.yaml"
        file.write_text(text, encoding="utf-8")
        return read_manifests(file)

    return read_text


def test_a_file_may_hold_several_documents_in_yaml_and_json_and_empty_ones_do_not_count(read):
    assert [each.body["metadata"]["name"] for each in read(TWO)] == ["first", "second"]


@pytest.mark.parametrize(
    ("path", "position"),
    [
        pytest.param("spec", Position(3, 1), id="a field is where its key is"),
        pytest.param("spec.models[0]", Position(5, 7), id="an item of a list is where it begins"),
        pytest.param("spec.models[0].source.uri", Position(6, 16), id="flow style has columns too"),
        pytest.param("spec.models[0].version", Position(5, 7), id="a missing field: its parent"),
        pytest.param("spec.models[3].x.y", Position(4, 3), id="the nearest parent there is"),
        pytest.param("kind", Position(1, 1), id="nothing of it there: the document's beginning"),
    ],
)
def test_every_problem_can_be_pointed_at(read, path, position):
    assert read(TWO)[0].position(path) == position


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("spec:\n  a: [1, 2\n", 3, "not YAML", id="a bracket that is never closed"),
        pytest.param("spec:\n\ta: 1\n", 2, "not YAML", id="a tab"),
        pytest.param("spec: 1\nspec: 2\n", 2, "given twice, first on line 1", id="a key twice"),
        pytest.param("- 1\n", 1, "expected an object", id="a list"),
        pytest.param("\n# nothing\n", 1, "no ModelDeployment", id="nothing but a comment"),
        pytest.param("a: " + "[" * 2000, 1, "cannot be read", id="nested without end"),
    ],
)
def test_a_file_that_is_no_object_is_refused_with_its_line(read, text, line, message):
    with pytest.raises(UnreadableManifest, match=message) as refusal:
        read(text)
    assert refusal.value.position.line == line


def test_what_looks_like_a_date_stays_text_as_in_kubernetes(read):
    assert read("version: 2024-01-31\n")[0].body["version"] == "2024-01-31"


def test_a_merge_key_overrides_without_counting_as_a_double(read):
    text = "base: &base {a: 1, b: 2}\nspec:\n  <<: *base\n  a: 3\n"
    assert read(text)[0].body["spec"] == {"a": 3, "b": 2}


def test_a_source_that_is_a_path_is_read_from_the_folder_of_the_file(read, tmp_path):
    source = read(TWO)[0].body["spec"]["models"][0]["source"]
    assert source["uri"] == f"{tmp_path.as_uri()}/archives/a.mar"


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("a.mar", "file:///models/a.mar"),
        ("./x/../a.mar", "file:///models/a.mar"),
        ("../a b.mar", "file:///a%20b.mar"),
        ("/data/a.mar", "file:///data/a.mar"),
        ("file://a.mar", "file:///models/a.mar"),
        ("file:///data/a.mar", "file:///data/a.mar"),
        ("https://example.org/a.mar", "https://example.org/a.mar"),
    ],
)
def test_sources_become_absolute_uris(uri, absolute):
    assert absolute_uri(uri, Path("/models")) == absolute


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("configmap://wine/a-1.0.mar", "file:///my%20models/wine/a-1.0.mar"),
        ("pvc://claim/teams/a%20b.mar", "file:///my%20models/claim/teams/a%20b.mar"),
        ("file:///data/a.mar", "file:///data/a.mar"),
        ("https://example.org/a.mar", "https://example.org/a.mar"),
    ],
)
def test_what_a_cluster_mounts_lies_beside_the_file_on_one_machine(uri, local):
    assert local_uri(uri, Path("/my models")) == local


def test_a_manifest_keeps_its_words_until_it_is_taken_to_this_machine(read, tmp_path):
    written = read(TWO.replace("archives/a.mar", "configmap://wine/a.mar"))[0]
    assert written.body["spec"]["models"][0]["source"]["uri"] == "configmap://wine/a.mar"
    local = written.on_this_machine()
    assert local.body["spec"]["models"][0]["source"]["uri"] == f"{tmp_path.as_uri()}/wine/a.mar"
    assert local.position("spec.models[0].source.uri") == Position(6, 16)


def test_this_machine_opens_sources_with_what_its_own_environment_has(read):
    source = "s3://models/a.mar, credentials: s3-read"
    local = read(TWO.replace("archives/a.mar", source))[0].on_this_machine()
    assert local.body["spec"]["models"][0]["source"] == {"uri": "s3://models/a.mar"}
