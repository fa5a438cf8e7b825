"""A runtime that a ModelDeployment owns, as a process: it boots from a file and refuses verbs."""

from __future__ import annotations

import json

import pytest

from tests.compat.server import serving, until, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

OWNER = {"namespace": "team-a", "name": "vision", "uid": "uid-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("managed")
    archive = folder / "store" / write_archive(folder / "store")
    version = {"version": "1.0", "source": {"uri": archive.as_uri()}, "workers": {"min": 1}}
    model = {"name": "echo", "required": True, "default": "1.0", "versions": [version]}
    document = {"owner": OWNER, "sequence": 3, "generation": 1, "models": [model]}
    boot = folder / "models.json"
    boot.write_text(json.dumps({"document": document, "publicKeys": []}))
    with serving(folder, "--boot-file", str(boot), "--owner-uid", OWNER["uid"]) as server:
        yield server


def test_it_boots_what_the_file_says_and_becomes_ready(server):
    until(lambda: server.manage("GET", "/ready").status == 200)
    assert server.predict("echo").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/models?url=echo-1.0.mar&model_name=b", id="register"),
        pytest.param("PUT", "/models/echo?min_worker=2", id="scale"),
        pytest.param("PUT", "/models/echo/1.0/set-default", id="set the default"),
        pytest.param("DELETE", "/models/echo", id="unregister"),
    ],
)
def test_writing_verbs_name_the_model_deployment_that_owns_it(server, method, path):
    until(lambda: server.manage("GET", "/ready").status == 200)
    answer = server.manage(method, path)
    assert (answer.status, answer.json["type"]) == (409, "ManagedElsewhere")
    assert "team-a/vision" in answer.json["message"]


def test_reading_verbs_work(server):
    (described,) = server.manage("GET", "/models/echo").json
    assert described["modelVersion"] == "1.0"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("PUT", "/state", id="a document"),
        pytest.param("GET", "/state", id="a look at the facts"),
        pytest.param("POST", "/drain", id="draining"),
    ],
)
def test_without_a_signature_nobody_drives_it(server, method, path):
    answer = server.manage(method, path, None if method == "GET" else b"{}")
    assert (answer.status, answer.json["type"]) == (401, "Unauthorised")
