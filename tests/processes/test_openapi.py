"""The OpenAPI documents are true: a client made of them works, and no call answers otherwise."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.ts import new_place, ours

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ECHO = """
    def handle(data, context):
        if data is None:
            return None
        for index, _ in enumerate(data):
            context.set_response_content_type(index, "application/octet-stream")
        return [bytes(row["body"]) if "body" in row and isinstance(row["body"], bytearray)
                else str(row).encode() for row in data]
"""
BIN = Path(sys.executable).parent
PORTS = ("inference", "management")


@pytest.fixture(scope="module")
def server():
    place = new_place(ours())
    try:
        with place.serving() as server:
            asked = {"url": server.add_archive(ECHO, "m"), "initial_workers": 1}
            assert server.manage("POST", "/models", **asked).status == 200
            yield server
    finally:
        place.clear()


def document(server, role):
    ask = server.inference if role == "inference" else server.manage
    return ask("OPTIONS", "/").json


def address(server, role):
    return f"http://127.0.0.1:{getattr(server.ports, role)}"


@pytest.fixture(scope="module")
def clients(server, tmp_path_factory):
    """One client per port, made of its document: the packages, ready to import."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "config.yaml").write_text("post_hooks: []\n")
    for role in PORTS:
        (folder / f"{role}.json").write_text(json.dumps(document(server, role)))
        made = subprocess.run(
            [
                *(BIN / "openapi-python-client", "generate", "--meta", "none"),
                *("--path", folder / f"{role}.json", "--config", folder / "config.yaml"),
                *("--output-path", folder / f"{role}_client", "--fail-on-warning"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    made = {
        role: importlib.import_module(f"{role}_client").Client(base_url=address(server, role))
        for role in PORTS
    }
    yield made
    for client in made.values():
        client.get_httpx_client().close()
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0].endswith("_client")]:
        del sys.modules[name]


def call(role, name):
    return importlib.import_module(f"{role}_client.api.default.{name}").sync_detailed


def test_a_client_made_of_the_documents_manages_and_predicts(server, clients):
    managed, predicted = clients["management"], clients["inference"]
    types = importlib.import_module("inference_client.types")
    archive = server.add_archive(ECHO, "made")
    registered = call("management", "register_model")(
        client=managed, url_query=archive, initial_workers=1
    )
    assert registered.parsed.status == 'Model "made" Version: 1.0 registered with 1 initial workers'
    listed = call("management", "list_models")(client=managed).parsed
    assert [it.model_name for it in listed.models] == ["m", "made"]
    (described,) = call("management", "describe_model")("made", client=managed).parsed
    assert (described.min_workers, described.workers[0].status) == (1, "READY")
    scaled = call("management", "set_auto_scale")(
        "made", client=managed, min_worker=2, synchronous=True
    )
    assert scaled.parsed.status == "Workers scaled to 2 for model: made"
    answer = call("inference", "predictions")(
        "made", client=predicted, body=types.File(payload=b"hello")
    )
    assert (answer.status_code, answer.parsed.payload.read()) == (200, b"hello")
    unknown = call("inference", "version_predictions")("made", "9", client=predicted)
    assert unknown.parsed.type_ == "ModelVersionNotFoundException"
    ready = call("inference", "v2_model_ready")("made", client=predicted).parsed
    assert (ready.name, ready.ready) == ("made", True)
    gone = call("management", "unregister_model")("made", client=managed)
    assert gone.parsed.status == 'Model "made" unregistered'


def test_every_operation_has_a_name_of_its_own(server):
    for role in PORTS:
        names = [
            operation["operationId"]
            for methods in document(server, role)["paths"].values()
            for operation in methods.values()
        ]
        assert len(names) == len(set(names))


def bounded(described):
    """Have half of the calls be about the model that is there; leave out what ends the server."""
    described["paths"].pop("/drain", None)
    for methods in described["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                known = {"model_name": ["m", "nobody"], "model_version": ["1.0", "9"]}
                if parameter["in"] == "path":
                    parameter["schema"] = {"type": "string", "enum": known[parameter["name"]]}
                if parameter["name"] in {"min_worker", "max_worker", "initial_workers"}:
                    parameter["schema"] = {"type": "integer", "minimum": -1, "maximum": 2}
                if parameter["name"] == "wait":
                    parameter["schema"] = {"type": "string", "enum": ["1ms", "x"]}
    return described


@pytest.mark.parametrize("role", PORTS)
def test_whatever_is_asked_the_answer_is_a_documented_one(server, tmp_path, role):
    path = tmp_path / "document.json"
    path.write_text(json.dumps(bounded(document(server, role))))
    checks = "status_code_conformance,content_type_conformance,response_schema_conformance"
    run = subprocess.run(
        [
            *(BIN / "schemathesis", "run", path, "--url", address(server, role)),
            *("--checks", checks, "--phases", "examples,fuzzing"),
            *("--max-examples", "10"),
            *("--generation-deterministic", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:]
    assert server.process.poll() is None
    assert server.inference("GET", "/ping").status == 200
