"""A pod without its Secret: it starts, serves what it can, and says what it lacks."""

import json

import pytest

from tests.compat.server import serving, until, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

OWNER = {"namespace": "team-a", "name": "vision", "uid": "uid-1"}


def model(name, **source):
    version = {"version": "1.0", "source": source, "workers": {"min": 1}}
    return {"name": name, "required": False, "default": "1.0", "versions": [version]}


def test_a_missing_secret_costs_only_the_model_that_needs_it(tmp_path):
    archive = tmp_path / "store" / write_archive(tmp_path / "store")
    models = [
        model("echo", uri=archive.as_uri()),
        model("other", uri="s3://models/a.mar", credentials="nobody-has-this"),
    ]
    document = {"owner": OWNER, "sequence": 3, "generation": 1, "models": models}
    boot = tmp_path / "models.json"
    boot.write_text(json.dumps({"document": document, "publicKeys": []}))
    with serving(tmp_path, "--boot-file", str(boot), "--owner-uid", OWNER["uid"]) as server:
        until(lambda: server.predict("echo").status == 200)
        failed = until(lambda: [each for each in server.lines() if "reason" in each])
    assert failed[0]["reason"] == "CredentialsMissing"
    assert failed[0]["model"] == "other"
    assert "credentials nobody-has-this: there is no folder" in failed[0]["why"]
