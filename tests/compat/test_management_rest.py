"""TorchServe's management API over real HTTP, with real workers: texts, codes and shapes."""

from __future__ import annotations

import json
import re
import urllib.parse

import pytest

from tests.compat.server import BROKEN, call, serving, until, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

DESCRIPTION_FIELDS = {
    "modelName", "modelVersion", "modelUrl", "runtime", "minWorkers", "maxWorkers", "batchSize",
    "maxBatchDelay", "responseTimeout", "startupTimeout", "maxRetryTimeoutInSec",
    "clientTimeoutInMills", "parallelType", "parallelLevel", "deviceType", "continuousBatching",
    "useJobTicket", "useVenv", "stateful", "sequenceMaxIdleMSec", "sequenceTimeoutMSec",
    "maxNumSequence", "maxSequenceJobQueueSize", "loadedAtStartup", "workers", "jobQueueStatus",
}  # fmt: skip
WORKER_FIELDS = {"id", "startTime", "status", "memoryUsage", "pid", "gpu", "gpuUsage"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime")
    for version in ("1.0", "2.0"):
        write_archive(folder / "store", version=version)
    write_archive(folder / "store", "broken", handler=BROKEN)
    write_archive(folder / "store", "tuned", config="batchSize: 4\nminWorkers: 1\nmaxWorkers: 2\n")
    (folder / "store" / "junk.mar").write_bytes(b"this is no archive")
    with serving(folder) as server:
        yield server


@pytest.fixture
def register(server):
    """Register archives under names that go away after the test."""
    names = []

    def register(name, archive="echo-1.0.mar", **parameters):
        names.append(name)
        query = urllib.parse.urlencode({"url": archive, "model_name": name, **parameters})
        return server.manage("POST", f"/models?{query}")

    yield register
    for name in names:
        while server.manage("GET", f"/models/{name}").status == 200:
            others = [it["modelVersion"] for it in server.manage("GET", f"/models/{name}/all").json]
            for version in others:
                server.manage("DELETE", f"/models/{name}/{version}")


def problem(answer):
    assert answer.body.endswith(b"}\n")
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["code"] == answer.status
    return answer.status, answer.json["type"], answer.json["message"]


def said(answer):
    return answer.status, answer.json["status"]


# register


def test_a_registration_without_workers_tells_how_to_add_some(register):
    assert said(register("a")) == (
        200,
        (
            'Model "a" Version: 1.0 registered with 0 initial workers. '
            "Use scale workers API to add workers for the model."
        ),
    )


def test_a_synchronous_registration_answers_when_its_workers_serve(server, register):
    answer = register("a", initial_workers=1)
    assert said(answer) == (200, 'Model "a" Version: 1.0 registered with 1 initial workers')
    assert server.predict("a").status == 200


def test_an_asynchronous_registration_answers_at_once(server, register):
    answer = register("a", initial_workers=1, synchronous="false")
    assert said(answer) == (202, "Processing worker updates...")
    until(lambda: server.predict("a").status == 200)


def test_a_registration_may_come_as_json(server, register):
    register("unused")
    fields = {"url": "echo-1.0.mar", "model_name": "j", "initial_workers": 1, "batch_size": 3}
    answer = server.manage(
        "POST", "/models", json.dumps(fields).encode(), Content_Type="application/json"
    )
    assert said(answer) == (200, 'Model "j" Version: 1.0 registered with 1 initial workers')
    assert server.manage("GET", "/models/j").json[0]["batchSize"] == 3
    server.manage("DELETE", "/models/j")


def test_a_version_can_be_registered_once(register):
    register("a")
    assert problem(register("a")) == (
        409,
        "ConflictStatusException",
        "Model version 1.0 is already registered for model a",
    )


@pytest.mark.parametrize(
    ("query", "status", "kind", "message"),
    [
        pytest.param("", 400, "BadRequestException", "Parameter url is required.", id="no url"),
        pytest.param("url=", 404, "ModelNotFoundException", "empty url", id="an empty url"),
        pytest.param(
            "url=x.mar",
            404,
            "ModelNotFoundException",
            "Model not found at: x.mar",
            id="no such file",
        ),
        pytest.param(
            "url=../x.mar",
            404,
            "ModelNotFoundException",
            "Relative path is not allowed in url: ../x.mar",
            id="a way out of the store",
        ),
        pytest.param(
            "url=ftp://a/x.mar",
            404,
            "ModelNotFoundException",
            "Model not found at: ftp://a/x.mar",
            id="a kind of address that is not understood",
        ),
        pytest.param(
            "url=echo-1.0.mar&runtime=java",
            400,
            "BadRequestException",
            "Invalid RuntimeType value: java",
            id="an unknown runtime",
        ),
    ],
)
def test_an_impossible_registration_is_refused(server, query, status, kind, message):
    assert problem(server.manage("POST", f"/models?{query}")) == (status, kind, message)


def test_what_is_no_archive_is_an_invalid_model(register):
    status, kind, _ = problem(register("a", "junk.mar"))
    assert (status, kind) == (400, "InvalidModelException")


def test_a_body_that_is_not_json_is_refused(server):
    answer = server.manage("POST", "/models", b"{", Content_Type="application/json")
    assert problem(answer) == (400, "BadRequestException", "The body is not JSON.")


def test_a_model_that_cannot_start_is_taken_back_and_says_why(server, register):
    status, kind, message = problem(register("a", "broken-1.0.mar", initial_workers=1))
    assert (status, kind) == (500, "InternalServerException")
    assert message.startswith("Failed to start workers for model a version: 1.0")
    assert "a_module_that_nobody_has" in message
    assert server.manage("GET", "/models/a").status == 404


def test_the_archives_own_settings_hold(server, register):
    register("tuned", "tuned-1.0.mar")
    (described,) = server.manage("GET", "/models/tuned").json
    assert (described["batchSize"], described["minWorkers"], described["maxWorkers"]) == (4, 1, 2)


# list and describe


def test_models_are_listed_by_name_a_page_at_a_time(server, register):
    for name in ("c", "a", "b"):
        register(name)
    first = server.manage("GET", "/models?limit=2").json
    assert first == {
        "nextPageToken": "2",
        "models": [
            {"modelName": "a", "modelUrl": "echo-1.0.mar"},
            {"modelName": "b", "modelUrl": "echo-1.0.mar"},
        ],
    }
    rest = server.manage("GET", f"/models?next_page_token={first['nextPageToken']}").json
    assert rest == {"models": [{"modelName": "c", "modelUrl": "echo-1.0.mar"}]}


def test_a_description_has_torchserves_fields(server, register):
    register("a", initial_workers=1)
    (described,) = server.manage("GET", "/models/a").json
    assert set(described) == DESCRIPTION_FIELDS
    (worker,) = described["workers"]
    assert set(worker) == WORKER_FIELDS
    assert worker["status"] == "READY"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", worker["startTime"])
    assert (worker["gpu"], worker["gpuUsage"]) == (False, "N/A")
    assert described["jobQueueStatus"] == {"remainingCapacity": 100, "pendingRequests": 0}


def test_a_worker_is_described_by_the_process_that_answers(server, register):
    register("a", initial_workers=1)
    (worker,) = server.manage("GET", "/models/a").json[0]["workers"]
    assert server.predict("a").json["pid"] == worker["pid"]


def test_all_versions_of_a_model_are_described(server, register):
    register("a")
    register("a", "echo-2.0.mar")
    described = server.manage("GET", "/models/a/all").json
    assert [it["modelVersion"] for it in described] == ["1.0", "2.0"]
    (second,) = server.manage("GET", "/models/a/2.0").json
    assert second["modelVersion"] == "2.0"


def test_a_handler_may_describe_itself(server, register):
    register("a", initial_workers=1)
    (described,) = server.manage("GET", "/models/a?customized=true").json
    assert described["customizedMetadata"] == {"says": "I echo"}


def test_without_a_worker_no_handler_can_describe_itself(server, register):
    register("a")
    status, kind, message = problem(server.manage("GET", "/models/a?customized=true"))
    assert (status, kind) == (503, "ServiceUnavailableException")
    assert "has no worker to serve describe request." in message


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        pytest.param("/models/x", "ModelNotFoundException", "Model not found: x", id="a model"),
        pytest.param(
            "/models/x/1.0", "ModelNotFoundException", "Model not found: x", id="and its versions"
        ),
        pytest.param(
            "/models/a/9",
            "ModelVersionNotFoundException",
            "Model version: 9 does not exist for model: a",
            id="a version",
        ),
    ],
)
def test_what_is_not_registered_is_not_found(server, register, path, kind, message):
    register("a")
    assert problem(server.manage("GET", path)) == (404, kind, message)


def test_kserve_is_told_whether_a_model_has_a_worker(server, register):
    register("a")
    assert server.manage("GET", "/v1/models/a").json == {"name": "a", "ready": False}
    server.manage("PUT", "/models/a?min_worker=1&synchronous=true")
    assert server.manage("GET", "/v1/models/a").json == {"name": "a", "ready": True}


# scale


def test_scaling_answers_at_once_unless_asked_to_wait(server, register):
    register("a")
    assert said(server.manage("PUT", "/models/a?min_worker=1")) == (
        202,
        "Processing worker updates...",
    )
    assert said(server.manage("PUT", "/models/a?min_worker=2&max_worker=4&synchronous=true")) == (
        200,
        "Workers scaled to 2 for model: a",
    )
    (described,) = server.manage("GET", "/models/a").json
    assert (described["minWorkers"], described["maxWorkers"]) == (2, 4)
    assert len(described["workers"]) == 2


def test_a_version_is_scaled_by_path_or_parameter(server, register):
    register("a")
    by_path = server.manage("PUT", "/models/a/1.0?min_worker=1&synchronous=true")
    assert said(by_path) == (200, "Workers scaled to 1 for model: a, version: 1.0")
    by_name = server.manage("PUT", "/models/a?model_version=1.0&min_worker=0&synchronous=true")
    assert said(by_name) == (200, "Workers scaled to 0 for model: a, version: 1.0")
    assert server.predict("a").status == 503


def test_impossible_bounds_are_refused(server, register):
    register("a")
    assert problem(server.manage("PUT", "/models/a?min_worker=2&max_worker=1")) == (
        400,
        "BadRequestException",
        "max_worker cannot be less than min_worker.",
    )


# the default version, and the end


def test_the_default_moves_when_it_is_told_to(server, register):
    register("a", initial_workers=1)
    register("a", "echo-2.0.mar", initial_workers=1)
    assert server.manage("GET", "/models/a").json[0]["modelVersion"] == "1.0"
    answer = server.manage("PUT", "/models/a/2.0/set-default")
    assert said(answer) == (200, 'Default version successfully updated for model "a" to "2.0"')
    assert server.manage("GET", "/models/a").json[0]["modelVersion"] == "2.0"
    second = server.manage("GET", "/models/a/2.0").json[0]["workers"][0]["pid"]
    assert server.predict("a").json["pid"] == second


def test_an_unknown_version_cannot_be_the_default(server, register):
    register("a")
    assert problem(server.manage("PUT", "/models/a/9/set-default")) == (
        404,
        "ModelVersionNotFoundException",
        "Model version 9 does not exist for model a",
    )


def test_the_default_version_stays_while_there_are_others(server, register):
    register("a")
    register("a", "echo-2.0.mar")
    assert problem(server.manage("DELETE", "/models/a/1.0")) == (
        403,
        "InvalidModelVersionException",
        "Cannot remove default version for model a",
    )
    assert said(server.manage("DELETE", "/models/a/2.0")) == (200, 'Model "a" unregistered')


def test_an_unregistered_model_is_gone_when_the_call_returns(server, register):
    register("a", initial_workers=1)
    assert said(server.manage("DELETE", "/models/a")) == (200, 'Model "a" unregistered')
    assert problem(server.predict("a")) == (
        404,
        "ModelNotFoundException",
        "Model not found: a",
    )
    assert problem(server.manage("DELETE", "/models/a"))[0] == 404


# paths and callers


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        pytest.param("GET", "/nothing", 404, "ResourceNotFoundException", id="an unknown path"),
        pytest.param("GET", "/ping", 404, "ResourceNotFoundException", id="a path of another port"),
        pytest.param("PATCH", "/models", 405, "MethodNotAllowedException", id="an unknown method"),
    ],
)
def test_other_paths_and_methods_are_refused(server, method, path, status, kind):
    assert problem(server.manage(method, path))[:2] == (status, kind)


def test_the_port_describes_itself(server):
    assert "/models" in server.manage("OPTIONS", "/").json["paths"]
    assert "/models" in server.manage("GET", "/api-description").json["paths"]


def test_a_web_page_cannot_manage_models_through_the_users_browser(server):
    answer = server.manage("GET", "/models", Origin="http://elsewhere.example")
    assert problem(answer)[:2] == (400, "InvalidKeyException")


# the inference port beside predictions


def test_ping_is_healthy(server):
    for path in ("/ping", "/ping/anything"):
        answer = call("GET", server.inference + path)
        assert (answer.status, answer.json) == (200, {"status": "Healthy"})


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        pytest.param("GET", "/models", 404, "ResourceNotFoundException", id="management's paths"),
        pytest.param("GET", "/", 405, "MethodNotAllowedException", id="the root, but for OPTIONS"),
        pytest.param(
            "OPTIONS",
            "/predictions/x",
            404,
            "ModelNotFoundException",
            id="a model that is not there",
        ),
    ],
)
def test_the_inference_port_has_nothing_else(server, method, path, status, kind):
    assert problem(call(method, server.inference + path))[:2] == (status, kind)


def test_the_inference_port_describes_itself_and_its_models(server, register):
    register("a")
    assert "/ping" in call("OPTIONS", f"{server.inference}/").json["paths"]
    described = call("OPTIONS", f"{server.inference}/predictions/a").json
    assert described["info"]["title"] == "RESTful API for: a"
