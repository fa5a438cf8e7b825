"""Section 2.2: listing, describing, scaling, defaults, unregistering."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import pytest

from tests.compat.server import until
from tests.compat.test_s01_1_paths import NOT_ALLOWED, NOT_FOUND
from tests.compat.test_s01_2_errors import error
from tests.compat.ts import new_name

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ECHO = """
    import os

    def handle(data, context):
        if data is None:
            return None
        if context.get_request_header(0, "describe") == "True":
            return [{"says": "I echo"}]
        version = context.manifest["model"]["modelVersion"]
        return [{"version": version, "pid": os.getpid()} for _ in data]
"""
STUBBORN = """
    import time

    def handle(data, context):
        if data is not None:
            time.sleep(5)
            return ["late"] * len(data)
"""
JSON = {"Content-Type": "application/json"}


def said(answer):
    return answer.status, answer.json["status"]


def refused(answer, status, kind, message):
    assert (answer.status, answer.body) == (status, error(status, kind, message))
    assert answer.header("connection") == "close"


@pytest.fixture(scope="module")
def archives(ts):
    name = new_name("calls")
    return [ts.add_archive(ECHO, name, version=version) for version in ("1.0", "2.0")]


@contextmanager
def two_versions(ts, archives):
    """Serve a model with two versions, a worker each; the first one is the default."""
    name = new_name("two")
    for archive in archives:
        asked = {"url": archive, "model_name": name, "initial_workers": 1}
        assert ts.manage("POST", "/models", **asked).status == 200
    yield name
    for version in ("2.0", "1.0", "2.0"):
        ts.manage("DELETE", f"/models/{name}/{version}")


@pytest.fixture(scope="module")
def pair(ts, archives):
    """Two versions that no test changes."""
    with two_versions(ts, archives) as name:
        yield name


@pytest.fixture
def two(ts, archives):
    """Two versions for a test to change."""
    with two_versions(ts, archives) as name:
        yield name


@pytest.fixture
def idle(ts, archives):
    """A model without workers."""
    name = new_name("idle")
    ts.manage("POST", "/models", url=archives[0], model_name=name)
    yield name
    ts.manage("DELETE", f"/models/{name}")


# list


@pytest.fixture(scope="module")
def three(serve_module):
    """A server with the models a, b and c."""
    server = serve_module()
    archive = server.add_archive(ECHO, "any")
    for name in ("c", "a", "b"):
        server.manage("POST", "/models", url=archive, model_name=name)
    return server


@pytest.mark.row("2.2-list")
@pytest.mark.parametrize("path", ["/models", "/models/"])
def test_models_are_listed_by_name(three, path):
    lines = (
        f'    {{\n      "modelName": "{name}",\n      "modelUrl": "any-1.0.mar"\n    }}'
        for name in "abc"
    )
    body = '{\n  "models": [\n' + ",\n".join(lines) + "\n  ]\n}\n"
    answer = three.manage("GET", path)
    assert (answer.status, answer.body) == (200, body.encode())


@pytest.mark.row("2.2-list-limit", "2.2-list-token", "2.2-list-zero")
@pytest.mark.parametrize(
    ("query", "names", "token"),
    [
        pytest.param("limit=2", "ab", "2", id="a page, and the token of the next"),
        pytest.param("limit=2&next_page_token=2", "c", None, id="the last page has none"),
        pytest.param("limit=1&next_page_token=1", "b", "2", id="a page in the middle"),
        pytest.param("limit=3", "abc", "3", id="a page that ends at the last model has one"),
        pytest.param("limit=3&next_page_token=3", "", None, id="which leads to the end"),
        pytest.param("limit=0", "", "0", id="an empty page"),
        pytest.param("limit=-1", "abc", None, id="a negative limit is the default"),
        pytest.param("limit=101", "abc", None, id="too high a limit is the default"),
        pytest.param("limit=word", "abc", None, id="a word is the default"),
        pytest.param("limit=2.5", "abc", None, id="so is a fraction"),
        pytest.param("limit=", "abc", None, id="so is nothing"),
        pytest.param("limit=2&next_page_token=x", "ab", "2", id="a token that is a word is 0"),
        pytest.param("next_page_token=-3", "abc", None, id="a negative token is 0"),
        pytest.param("next_page_token=99", "", None, id="a token beyond the end"),
    ],
)
def test_a_list_comes_in_pages(three, query, names, token):
    page = three.manage("GET", f"/models?{query}").json
    assert [model["modelName"] for model in page["models"]] == list(names)
    assert page.get("nextPageToken") == token


# describe


@pytest.mark.row("2.2-describe")
@pytest.mark.parametrize(
    ("path", "version"), [("", "1.0"), ("/", "1.0"), ("/1.0", "1.0"), ("/2.0/", "2.0")]
)
def test_one_version_is_described(ts, pair, path, version):
    answer = ts.manage("GET", f"/models/{pair}{path}")
    assert [it["modelVersion"] for it in answer.json] == [version]
    assert re.match(rb'\[\n  \{\n    "modelName": "', answer.body)
    assert answer.body.endswith(b"}\n]\n")


@pytest.mark.row("2.2-describe")
def test_what_is_not_registered_is_not_described(ts, pair):
    for path in ("/models/nobody", "/models/nobody/1.0", "/models/nobody/all"):
        refused(ts.manage("GET", path), 404, "ModelNotFoundException", "Model not found: nobody")
    message = f"Model version: 9 does not exist for model: {pair}"
    refused(ts.manage("GET", f"/models/{pair}/9"), 404, "ModelVersionNotFoundException", message)
    assert ts.manage("GET", f"/models/{pair}/1.0/x").body == NOT_FOUND


@pytest.mark.row("2.2-describe-all")
@pytest.mark.parametrize("query", ["", "?customized=true"])
def test_every_version_is_described(ts, pair, query):
    found = ts.manage("GET", f"/models/{pair}/all{query}").json
    assert sorted(it["modelVersion"] for it in found) == ["1.0", "2.0"]


@pytest.mark.row("2.2-customized")
@pytest.mark.parametrize("word", ["true", "TRUE"])
def test_a_handler_describes_itself(ts, pair, word):
    (found,) = ts.manage("GET", f"/models/{pair}?customized={word}").json
    assert found["customizedMetadata"] == {"says": "I echo"}


@pytest.mark.row("2.2-customized")
@pytest.mark.parametrize("word", ["false", "1", "yes"])
def test_only_the_word_true_asks_the_handler(ts, pair, word):
    (found,) = ts.manage("GET", f"/models/{pair}?customized={word}").json
    assert "customizedMetadata" not in found


@pytest.mark.row("2.2-customized-no-worker")
def test_without_a_worker_no_handler_describes_itself(ts, idle):
    answer = ts.manage("GET", f"/models/{idle}?customized=true")
    message = (
        f'Model \\"{idle}\\" has no worker to serve describe request. '
        "Please use scale workers API to add workers."
    )
    refused(answer, 503, "ServiceUnavailableException", message)


# methods


@pytest.mark.row("2.2-describe")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/models"),
        ("DELETE", "/models"),
        ("PATCH", "/models/nobody"),
        ("POST", "/models/nobody"),
        ("POST", "/models/nobody/1.0"),
        ("POST", "/models/nobody/1.0/set-default"),
        ("OPTIONS", "/models"),
        ("PUT", "/v1/models/nobody"),
        ("GET", "/"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_not_allowed(ts, method, path):
    answer = ts.manage(method, path)
    assert (answer.status, answer.body) == (405, NOT_ALLOWED)


@pytest.mark.row("2.2-describe")
@pytest.mark.parametrize(
    "path", ["/x", "/ping", "/metrics", "/predictions/x", "/models/x/1/y", "/v1"]
)
def test_a_path_that_does_not_exist_is_not_found(ts, path):
    answer = ts.manage("GET", path)
    assert (answer.status, answer.body) == (404, NOT_FOUND)


# scale


@pytest.mark.row("2.2-scale", "2.2-scale-synchronous")
@pytest.mark.parametrize(
    ("query", "least", "most"),
    [
        ({}, 1, 1),
        ({"min_worker": 2}, 2, 2),
        ({"min_worker": 1, "max_worker": 3}, 1, 3),
        ({"min_worker": "x"}, 1, 1),
    ],
)
def test_workers_are_scaled(ts, idle, query, least, most):
    answer = ts.manage("PUT", f"/models/{idle}", synchronous="true", **query)
    assert said(answer) == (200, f"Workers scaled to {least} for model: {idle}")
    found = ts.describe(idle)
    assert (found["minWorkers"], found["maxWorkers"]) == (least, most)
    assert len(found["workers"]) == least


@pytest.mark.row("2.2-scale")
def test_a_model_is_scaled_to_nothing_and_back(ts, two):
    for workers in (0, 1):
        answer = ts.manage("PUT", f"/models/{two}", synchronous="true", min_worker=workers)
        assert said(answer) == (200, f"Workers scaled to {workers} for model: {two}")
    ts.wait_for_workers(two)
    assert ts.predict(two).status == 200


@pytest.mark.row("2.2-scale-asynchronous")
@pytest.mark.parametrize("word", [{}, {"synchronous": "yes"}, {"synchronous": "false"}])
def test_scaling_does_not_wait_unless_told(ts, idle, word):
    answer = ts.manage("PUT", f"/models/{idle}", min_worker=1, **word)
    assert said(answer) == (202, "Processing worker updates...")
    ts.wait_for_workers(idle)


@pytest.mark.row("2.2-scale-asynchronous")
def test_the_body_of_a_scaling_is_not_read(ts, idle):
    body = json.dumps({"min_worker": 0, "synchronous": True}).encode()
    answer = ts.manage("PUT", f"/models/{idle}", body, JSON)
    assert said(answer) == (202, "Processing worker updates...")
    ts.wait_for_workers(idle)


@pytest.mark.row("2.2-scale-version", "2.2-versions-apart")
@pytest.mark.parametrize("where", ["the path", "a field", "the path, whatever the field says"])
def test_one_version_is_scaled(ts, two, where):
    path = f"/models/{two}" if where == "a field" else f"/models/{two}/2.0"
    field = {"the path": {}, "a field": {"model_version": "2.0"}}.get(where, {"model_version": "9"})
    answer = ts.manage("PUT", path, min_worker=2, synchronous="true", **field)
    assert said(answer) == (200, f"Workers scaled to 2 for model: {two}, version: 2.0")
    assert len(ts.workers(f"{two}/2.0")) == 2
    assert len(ts.workers(two)) == 1


@pytest.mark.row("2.2-scale-version")
def test_what_is_not_there_is_not_scaled(ts, pair):
    answer = ts.manage("PUT", "/models/nobody")
    refused(answer, 404, "ModelNotFoundException", "Model not found: nobody")
    message = f"Model version: 9 does not exist for model: {pair}"
    for path in (f"/models/{pair}/9", f"/models/{pair}?model_version=9"):
        refused(ts.manage("PUT", path), 404, "ModelVersionNotFoundException", message)


DIES_LATER = """
    import pathlib

    GONE = pathlib.Path("broken")

    def handle(data, context):
        if data is None:
            if GONE.exists():
                raise RuntimeError("it is broken")
            return None
        GONE.write_text("")
        return ["x"] * len(data)
"""


@pytest.mark.row("2.2-scale-not-in-time", only="ours")
def test_scaling_tells_when_workers_are_not_there_in_time(ts):
    with ts.registered(DIES_LATER, query={"startup_timeout": 3}) as model:
        ts.predict(model)
        answer = ts.manage("PUT", f"/models/{model}", min_worker=2, synchronous="true")
        assert said(answer) == (206, "Workers scaling in progress...")


@pytest.mark.row("2.2-scale-max")
@pytest.mark.parametrize("query", ["min_worker=2&max_worker=1", "max_worker=0", "max_worker=-1"])
def test_the_most_workers_are_not_fewer_than_the_least(ts, idle, query):
    answer = ts.manage("PUT", f"/models/{idle}?{query}")
    refused(answer, 400, "BadRequestException", "max_worker cannot be less than min_worker.")


@pytest.mark.row("2.2-scale-negative", only="ours")
def test_a_negative_number_of_workers_is_refused_by_name(ts, idle):
    answer = ts.manage("PUT", f"/models/{idle}?min_worker=-1")
    refused(answer, 400, "BadRequestException", "min_worker cannot be negative.")


@pytest.mark.row("2.2-scale-ignored")
def test_number_gpu_and_timeout_change_nothing(ts, idle):
    query = "min_worker=1&synchronous=true&number_gpu=3&timeout=1"
    answer = ts.manage("PUT", f"/models/{idle}?{query}")
    assert said(answer) == (200, f"Workers scaled to 1 for model: {idle}")


# versions


@pytest.mark.row("2.2-first-default", "2.2-set-default")
def test_the_first_version_is_the_default_until_another_is_told(ts, two):
    assert ts.predict(two).json["version"] == "1.0"
    answer = ts.manage("PUT", f"/models/{two}/2.0/set-default")
    sentence = f'Default version successfully updated for model "{two}" to "2.0"'
    assert said(answer) == (200, sentence)
    assert ts.predict(two).json["version"] == "2.0"
    assert ts.describe(two)["modelVersion"] == "2.0"


@pytest.mark.row("2.2-set-default-unknown")
def test_the_default_is_a_version_that_is_there(ts, pair):
    message = f"Model version 9 does not exist for model {pair}"
    answer = ts.manage("PUT", f"/models/{pair}/9/set-default")
    refused(answer, 404, "ModelVersionNotFoundException", message)
    answer = ts.manage("PUT", "/models/nobody/1.0/set-default")
    refused(answer, 404, "ModelNotFoundException", "Model not found: nobody")


@pytest.mark.row("2.2-versions-apart")
def test_versions_have_workers_of_their_own(ts, pair):
    pids = {ts.predict(f"{pair}/{version}").json["pid"] for version in ("1.0", "2.0")}
    assert len(pids) == 2


# unregister


@pytest.mark.row("2.2-unregister", "2.2-unregister-default")
def test_versions_are_unregistered_the_default_one_last(ts, two):
    message = f"Cannot remove default version for model {two}"
    for path in (f"/models/{two}", f"/models/{two}/1.0"):
        refused(ts.manage("DELETE", path), 403, "InvalidModelVersionException", message)
    for path in (f"/models/{two}/2.0", f"/models/{two}"):
        assert said(ts.manage("DELETE", path)) == (200, f'Model "{two}" unregistered')
    refused(
        ts.manage("GET", f"/models/{two}"), 404, "ModelNotFoundException", f"Model not found: {two}"
    )


@pytest.mark.row("2.2-unregister-unknown")
def test_what_is_not_there_is_not_unregistered(ts, pair):
    answer = ts.manage("DELETE", "/models/nobody")
    refused(answer, 404, "ModelNotFoundException", "Model not found: nobody")
    message = f"Model version: 9 does not exist for model: {pair}"
    refused(ts.manage("DELETE", f"/models/{pair}/9"), 404, "ModelVersionNotFoundException", message)


@pytest.mark.row("2.2-unregister-timeout", only="ours")
def test_workers_that_do_not_stop_in_time_are_told(serve):
    server = serve(config={"unregister_model_timeout": "1"})
    with server.registered(STUBBORN, "m"), server.wire() as wire:
        wire.send(b"GET /predictions/m HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: server.describe("m")["jobQueueStatus"]["pendingRequests"] == 0)
        answer = server.manage("DELETE", "/models/m")
        assert (answer.status, answer.json["type"]) == (408, "RequestTimeoutException")


# the rest


@pytest.mark.row("2.2-openapi")
@pytest.mark.parametrize(("method", "path"), [("OPTIONS", "/"), ("GET", "/api-description")])
def test_the_port_describes_itself(ts, method, path):
    described = ts.manage(method, path).json
    assert (described["openapi"], described["info"]["title"]) == ("3.0.1", "TorchServe APIs")
    operations = {
        item["operationId"] for methods in described["paths"].values() for item in methods.values()
    }
    assert {
        "listModels",
        "registerModel",
        "describeModel",
        "setAutoScale",
        "unregisterModel",
        "version_describeModel",
        "version_setAutoScale",
        "version_unregisterModel",
        "setDefault",
    } <= operations


@pytest.mark.row("2.2-openapi")
@pytest.mark.parametrize("rest", ["", "/1.0", "/1.0/set-default"])
def test_a_model_is_described_in_openapi(ts, idle, rest):
    described = ts.manage("OPTIONS", f"/models/{idle}{rest}").json
    assert described["info"]["title"] == f"RESTful Management API for: {idle}"
    assert set(described["paths"]) == {
        "/models/{model_name}",
        "/models/{model_name}/{model_version}",
        "/models/{model_name}/{model_version}/set-default",
    }
    unknown = ts.manage("OPTIONS", f"/models/nobody{rest}")
    refused(unknown, 404, "ModelNotFoundException", "Model not found: nobody")


@pytest.mark.row("2.2-kserve-ready")
def test_a_model_with_a_worker_is_ready_for_kserve(ts, pair, idle):
    answer = ts.manage("GET", f"/v1/models/{pair}")
    assert answer.body == f'{{\n  "name": "{pair}",\n  "ready": true\n}}\n'.encode()
    assert ts.manage("GET", f"/v1/models/{idle}").json == {"name": idle, "ready": False}
    answer = ts.manage("GET", "/v1/models/nobody")
    refused(answer, 404, "ModelNotFoundException", "Model not found: nobody")
