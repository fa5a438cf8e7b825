"""What the operator writes of a source the runtime reads, and an older one is told nothing new."""

import json

import pytest

from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    Owner,
    SourceEntry,
    VersionEntry,
)
from flambeau_operator.resources.pod_state_json import document_from_json, document_to_json
from flambeau_runtime.archive.fetch.credentials import FOLDER
from flambeau_runtime.errors import InvalidDocument
from flambeau_runtime.serving.desired import Source
from flambeau_runtime.serving.document import parse
from flambeau_runtime.settings import Limits
from tests.controlplane.golden import cases


def written(source):
    entry = VersionEntry("1.0", source)
    document = Document(Owner("team-a", "vision", "uid"), 1, 1, (ModelEntry("m", "1.0", (entry,)),))
    return document, document_to_json(document)


def read(body):
    return parse(json.dumps(body).encode(), Limits()).models[0].versions[0].source


def test_the_name_of_credentials_reaches_the_runtime_and_comes_back():
    document, body = written(SourceEntry("s3://models/a.mar", None, "s3-read"))
    assert read(body) == Source("s3://models/a.mar", None, "s3-read")
    assert document_from_json(body) == document


def test_a_source_without_credentials_is_written_as_it_always_was():
    _, body = written(SourceEntry("s3://models/a.mar"))
    source = body["models"][0]["versions"][0]["source"]
    assert source == {"uri": "s3://models/a.mar", "digest": None}


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a\0b", "A", "a" * 254])
def test_a_name_that_is_no_folder_of_ours_is_refused(name):
    _, body = written(SourceEntry("s3://models/a.mar", None, "x"))
    body["models"][0]["versions"][0]["source"]["credentials"] = name
    with pytest.raises(InvalidDocument, match=r"models\[0\]\.versions\[0\]\.source\.credentials"):
        read(body)


def test_secrets_are_mounted_where_the_runtime_looks_for_them():
    made = cases.manifests("sources")
    deployment = next(each for each in made if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    mounted = {each["name"]: each for each in pod["containers"][0]["volumeMounts"]}
    secrets = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
    places = {mounted[name]["mountPath"]: secret["secretName"] for name, secret in secrets.items()}
    assert places == {f"{FOLDER}/hub": "a-token", f"{FOLDER}/s3-read": "b-keys"}
    assert all(mounted[name]["readOnly"] for name in secrets)
    assert all(secret["optional"] for secret in secrets.values()), "pods start without them"
