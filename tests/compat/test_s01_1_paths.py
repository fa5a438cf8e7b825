"""Section 1.1: the paths of the inference port."""

from __future__ import annotations

import json

import pytest

from tests.compat.mar import write_mar
from tests.compat.server import until
from tests.compat.test_s01_2_errors import error
from tests.compat.ts import Ports

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TELLS = """
    def handle(data, context):
        if data is None:
            return None
        return [tell(index, row, context) for index, row in enumerate(data)]

    def tell(index, row, context):
        words = ("url_path", "explain", "describe")
        return {
            "row": {name: text(value) for name, value in row.items()},
            **{word: context.get_request_header(index, word) for word in words},
            "version": context.manifest["model"]["modelVersion"],
        }

    def text(value):
        return value.decode() if isinstance(value, (bytes, bytearray)) else value
"""
"""A handler that tells what it was given."""

METHODS = ("POST", "PUT", "GET", "DELETE", "PATCH")
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NOT_FOUND = error(
    404,
    "ResourceNotFoundException",
    "Requested resource is not found, please refer to API document.",
)
NOT_ALLOWED = error(
    405,
    "MethodNotAllowedException",
    "Requested method is not allowed, please refer to API document.",
)


@pytest.fixture(scope="module")
def model(ts):
    with ts.registered(TELLS) as model:
        yield model


def told(ts, path, body=b'{"k": 1}', headers=JSON, method="POST"):
    answer = ts.inference(method, path, body, headers)
    assert answer.status == 200, answer.text
    return answer.json


@pytest.mark.row("1.1-ping")
@pytest.mark.parametrize("path", ["/ping", "/ping/", "/ping/anything"])
@pytest.mark.parametrize("method", [*METHODS, "OPTIONS"])
def test_a_ping_is_healthy(ts, method, path):
    answer = ts.inference(method, path)
    assert (answer.status, answer.body) == (200, b'{\n  "status": "Healthy"\n}\n')
    assert answer.header("content-type") == "application/json"


@pytest.mark.row("1.1-predictions")
@pytest.mark.parametrize("path", ["/predictions/{}", "/predictions/{}/", "/predictions/{}?q=1"])
def test_a_prediction_is_of_the_default_version(ts, model, path):
    assert told(ts, path.format(model)) == {
        "row": {"body": {"k": 1}},
        "url_path": "",
        "explain": "False",
        "describe": None,
        "version": "1.0",
    }


@pytest.mark.row("1.1-predictions")
def test_a_path_is_unescaped_before_it_is_cut(ts, model):
    escaped = "".join(f"%{ord(letter):02x}" for letter in model)
    assert told(ts, f"/predictions/{escaped}%2F1.0%2Fa")["url_path"] == "a"


@pytest.mark.row("1.1-predictions")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("/predictions/né", "Model not found: né", id="an unknown name, as it is"),
        pytest.param("/predictions//m", "Model not found: ", id="an empty name"),
    ],
)
def test_a_model_that_is_not_there_is_named(ts, path, message):
    answer = ts.inference("POST", path.replace("é", "%C3%A9"))
    assert (answer.status, answer.body) == (404, error(404, "ModelNotFoundException", message))


@pytest.mark.row("1.1-predictions")
@pytest.mark.parametrize("path", ["/predictions", "/predictions/", "/explanations", "/no"])
def test_a_path_without_a_model_is_not_found(ts, path):
    answer = ts.inference("POST", path)
    assert (answer.status, answer.body) == (404, NOT_FOUND)


@pytest.mark.row("1.1-predictions-methods")
@pytest.mark.parametrize("method", METHODS)
def test_a_prediction_takes_every_method(ts, model, method):
    assert told(ts, f"/predictions/{model}", method=method)["row"] == {"body": {"k": 1}}


@pytest.mark.row("1.1-predictions-version")
def test_a_version_is_asked_by_its_number(ts, model):
    archive = ts.add_archive(TELLS, model, version="2.0")
    ts.manage("POST", "/models", url=archive, initial_workers=1)
    try:
        assert told(ts, f"/predictions/{model}/2.0")["version"] == "2.0"
        assert told(ts, f"/predictions/{model}")["version"] == "1.0"
    finally:
        ts.manage("DELETE", f"/models/{model}/2.0")


@pytest.mark.row("1.1-url-path")
@pytest.mark.parametrize(
    ("rest", "url_path"),
    [
        ("", ""),
        ("/", ""),
        ("/a/b", "a/b"),
        ("/a/b/", "a/b"),
        ("/a%20b%2Fc", "a b/c"),
        ("/a+b", "a+b"),
        ("/%C3%A9", "é"),
        ("//a", "/a"),
        ("/a?b=c", "a"),
    ],
)
def test_what_follows_the_version_reaches_the_handler(ts, model, rest, url_path):
    assert told(ts, f"/predictions/{model}/1.0{rest}")["url_path"] == url_path


@pytest.mark.row("1.1-explanations")
@pytest.mark.parametrize("rest", ["", "/1.0", "/1.0/a/b"])
def test_an_explanation_says_so_to_the_handler(ts, model, rest):
    answer = told(ts, f"/explanations/{model}{rest}")
    assert (answer["explain"], answer["url_path"]) == ("True", rest.removeprefix("/1.0")[1:])


@pytest.mark.row("1.1-kserve-v1")
@pytest.mark.parametrize(("verb", "explain"), [("predict", "False"), ("explain", "True")])
@pytest.mark.parametrize("method", METHODS)
def test_kserves_first_protocol_leaves_the_body_alone(ts, model, verb, explain, method):
    body = {"instances": [1, 2]}
    answer = told(ts, f"/v1/models/{model}:{verb}", json.dumps(body).encode(), method=method)
    assert answer["row"] == {"body": body}
    assert (answer["explain"], answer["url_path"]) == (explain, None)


@pytest.mark.row("1.1-kserve-v1")
@pytest.mark.parametrize(
    "path", ["/v1", "/v1/models", "/v1/models/{}", "/v1/models/{}:x", "/v1/models/{}/1.0:predict"]
)
def test_other_paths_of_the_first_protocol_are_not_found(ts, model, path):
    answer = ts.inference("POST", path.format(model))
    assert (answer.status, answer.body) == (404, NOT_FOUND)


@pytest.mark.row("1.1-kserve-v2")
@pytest.mark.parametrize(("verb", "explain"), [("infer", "False"), ("explain", "True")])
@pytest.mark.parametrize("method", METHODS)
def test_the_open_inference_protocol_leaves_the_body_alone(ts, model, verb, explain, method):
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}]}
    answer = told(ts, f"/v2/models/{model}/{verb}", json.dumps(body).encode(), method=method)
    assert answer["row"] == {"body": body}
    assert (answer["explain"], answer["url_path"]) == (explain, None)


@pytest.mark.row("1.1-kserve-v2")
@pytest.mark.parametrize("path", ["/v2/models", "/v2/models/{}/infer/x", "/v2/models/{}/x"])
def test_other_paths_of_the_open_inference_protocol_are_not_found(ts, model, path):
    answer = ts.inference("POST", path.format(model))
    assert (answer.status, answer.body) == (404, NOT_FOUND)


@pytest.fixture(scope="module")
def oip(serve_module):
    server = serve_module(config={"ts_open_inference_protocol": "true"})
    with server.registered(TELLS, "m"):
        yield server


@pytest.mark.row("1.1-oip-health")
@pytest.mark.parametrize("word", ["live", "ready"])
@pytest.mark.parametrize("end", ["", "/", "?x=1"])
def test_the_protocols_health_is_told(oip, word, end):
    answer = oip.inference("GET", f"/v2/health/{word}{end}")
    assert (answer.status, answer.json) == (200, {word: True})


@pytest.mark.row("1.1-oip-health")
def test_the_protocols_server_is_told(oip):
    told = oip.inference("GET", "/v2").json
    assert told["name"] == "Torchserve"
    assert told["version"] == "0.12.0"
    assert told["extenstion"] == ["kserve", "kubeflow"]


@pytest.mark.row("1.1-oip-health")
@pytest.mark.parametrize("path", ["/v2/health", "/v2/health/x", "/v2/health/live/x", "/v2/x"])
def test_what_the_protocol_does_not_know_is_not_found(oip, path):
    answer = oip.inference("GET", path)
    assert (answer.status, answer.body) == (404, NOT_FOUND)


@pytest.mark.row("1.1-oip-health-off", "4.2-oip", only="ours")
def test_the_protocol_needs_no_switch(ts):
    assert ts.inference("GET", "/v2/health/live").json == {"live": True}
    assert ts.inference("GET", "/v2").json["extensions"] == ["kserve", "kubeflow"]


@pytest.mark.row("1.1-oip-versions", only="ours")
def test_the_protocol_reaches_versions(oip):
    path = "/v2/models/m/versions"
    assert told(oip, f"{path}/1.0/infer")["version"] == "1.0"
    assert oip.inference("GET", f"{path}/1.0").json["versions"] == ["1.0"]
    assert oip.inference("GET", f"{path}/1.0/ready").json == {"name": "m", "ready": True}
    answer = oip.inference("POST", f"{path}/9/infer")
    assert (answer.status, answer.json["type"]) == (404, "ModelVersionNotFoundException")


@pytest.mark.row("1.1-oip-metadata", only="ours")
def test_the_protocol_tells_of_models(oip):
    assert oip.inference("GET", "/v2/models/m").json == {
        "name": "m",
        "versions": ["1.0"],
        "platform": "pytorch",
        "inputs": [],
        "outputs": [],
    }
    assert oip.inference("GET", "/v2/models/m/ready").json == {"name": "m", "ready": True}
    assert oip.inference("GET", "/v2/models/no/ready").status == 404
    assert oip.inference("POST", "/v2/models/m").status == 405


@pytest.mark.row("1.1-oip-metadata", only="ours")
def test_a_model_without_workers_is_not_ready(ts):
    with ts.registered(TELLS, workers=0) as model:
        answer = ts.inference("GET", f"/v2/models/{model}/ready")
        assert (answer.status, answer.json) == (503, {"name": model, "ready": False})


@pytest.mark.row("1.1-kserve-v2-errors", only="ours")
def test_an_error_is_told_as_the_open_inference_protocol_has_it(ts):
    answer = ts.inference("POST", "/v2/models/nobody/infer")
    assert (answer.status, answer.json["error"]) == (404, "Model not found: nobody")
    assert answer.json["type"] == "ModelNotFoundException"


SLEEPS = """
    import time

    def handle(data, context):
        if data is not None:
            time.sleep(60)
"""


@pytest.mark.row("1.1-kserve-v2-errors", only="ours")
def test_what_takes_too_long_is_504_for_the_open_inference_protocol_alone(ts):
    with ts.registered(SLEEPS, query={"response_timeout": 1}) as model:
        v2 = ts.inference("POST", f"/v2/models/{model}/infer")
        ts.wait_for_workers(model)
        plain = ts.predict(model)
    assert (v2.status, plain.status) == (504, 500)
    assert v2.json["message"] == plain.json["message"]


@pytest.mark.row("1.1-invocations")
def test_an_invocation_names_its_model_and_its_query_belongs_to_the_row(ts, model):
    answer = told(ts, f"/invocations?model_name={model}&a=1&b=c%20d&a=2")
    assert answer["row"] == {"model_name": model, "a": "2", "b": "c d", "body": {"k": 1}}
    assert (answer["url_path"], answer["explain"]) == (None, None)


@pytest.mark.row("1.1-invocations")
def test_fields_of_the_body_overwrite_those_of_the_query(ts, model):
    answer = told(ts, f"/invocations?a=query;b=%C3%A9+x&model_name={model}", b"a=body&c=", FORM)
    assert answer["row"] == {"a": "body", "b": "é x", "model_name": model, "c": ""}


@pytest.mark.row("1.1-invocations")
def test_a_form_may_name_the_model(ts, model):
    assert told(ts, "/invocations", f"a=1&model_name={model}".encode(), FORM)["row"]["a"] == "1"
    part = f'--b\r\nContent-Disposition: form-data; name="model_name"\r\n\r\n{model}\r\n--b--\r\n'
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    assert told(ts, "/invocations", part.encode(), multipart)["row"] == {"model_name": model}


@pytest.mark.row("1.1-invocations-no-name")
@pytest.mark.parametrize("method", METHODS)
def test_an_invocation_of_nothing_is_refused(ts, method):
    answer = ts.inference(method, "/invocations", b'{"model_name": "x"}', JSON)
    message = "Parameter model_name is required."
    assert (answer.status, answer.body) == (400, error(400, "BadRequestException", message))


@pytest.mark.row("1.1-invocations-no-name")
def test_an_invocation_of_an_unknown_model_is_not_found(ts):
    answer = ts.inference("POST", "/invocations?model_name=nobody")
    assert answer.body == error(404, "ModelNotFoundException", "Model not found: nobody")


@pytest.mark.row("1.1-sagemaker-invoke")
def test_a_model_is_invoked_by_its_path(ts, model):
    assert told(ts, f"/models/{model}/invoke?x=1")["row"] == {"x": "1", "body": {"k": 1}}
    assert ts.inference("POST", f"/models/{model}/invoke/x").body == NOT_FOUND


@pytest.mark.row("1.1-oldest")
def test_the_oldest_spelling_predicts(ts, model):
    assert told(ts, f"/{model}/predict?x=1")["row"] == {"x": "1", "body": {"k": 1}}
    assert told(ts, f"/{model}/1.0/predict?x=1")["version"] == "1.0"


@pytest.mark.row("1.1-oldest")
@pytest.mark.parametrize(
    "path", ["/predict", "/a/b/c/predict", "/{}/predict/1.0", "/models/predict"]
)
def test_what_is_not_quite_the_oldest_spelling_is_not_found(ts, model, path):
    assert ts.inference("POST", path.format(model)).body == NOT_FOUND


@pytest.fixture(scope="module")
def merged(serve_module):
    """A server with one model from the start, and inference and management on one address."""
    port = Ports.free().inference
    url = f"http://127.0.0.1:{port}"
    server = serve_module(
        "--models",
        "lone=lone-1.0.mar",
        config={
            "inference_address": url,
            "management_address": url,
            "default_workers_per_model": "1",
        },
        prepare=lambda place: write_mar(place.store, "lone", TELLS),
    )

    def ask(method, path, body=b'{"k": 1}', headers=JSON):
        return server.call(port, method, path, body if method == "POST" else None, headers)

    until(lambda: ask("POST", "/predictions/lone").status == 200)
    return ask


@pytest.mark.row("1.1-invocations", "1.1-merged")
def test_an_invocation_without_a_name_is_of_the_only_model_from_the_start(merged):
    assert merged("POST", "/invocations?x=1").json["row"] == {"x": "1", "body": {"k": 1}}


@pytest.mark.row("1.1-merged")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ping", 200),
        ("POST", "/predictions/lone", 200),
        ("POST", "/models/lone/invoke", 200),
        ("POST", "/v1/models/lone:predict", 200),
        ("POST", "/v2/models/lone/infer", 200),
        ("POST", "/lone/predict", 200),
        ("GET", "/models", 200),
        ("GET", "/models/lone", 200),
        ("GET", "/v1/models/lone", 200),
        ("GET", "/metrics", 200),
        ("OPTIONS", "/", 200),
        ("GET", "/api-description", 200),
        ("OPTIONS", "/models/lone", 200),
        ("OPTIONS", "/predictions/lone", 200),
        ("POST", "/v1/models/lone", 405),
        ("GET", "/", 405),
        ("GET", "/predictions", 404),
        ("GET", "/nothing", 404),
        ("POST", "/models", 400),
    ],
)
def test_one_address_serves_everything(merged, method, path, status):
    assert merged(method, path).status == status


@pytest.mark.row("1.1-inference-only")
@pytest.mark.parametrize("path", ["/models", "/models/{}", "/v1/models/{}"])
def test_management_is_not_on_the_inference_port(ts, model, path):
    answer = ts.inference("GET", path.format(model))
    assert (answer.status, answer.body) == (404, NOT_FOUND)


@pytest.mark.row("1.1-openapi")
def test_the_port_describes_itself(ts):
    answer = ts.inference("OPTIONS", "/")
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    described = answer.json
    assert (described["openapi"], described["info"]["title"]) == ("3.0.1", "TorchServe APIs")
    assert {
        "/",
        "/api-description",
        "/ping",
        "/predictions/{model_name}",
        "/predictions/{model_name}/{model_version}",
        "/v1/models/{model_name}:predict",
        "/v2/models/{model_name}/infer",
    } <= set(described["paths"])


@pytest.mark.row("1.1-openapi")
@pytest.mark.parametrize("method", METHODS)
def test_the_root_takes_options_alone(ts, method):
    answer = ts.inference(method, "/")
    assert (answer.status, answer.body) == (405, NOT_ALLOWED)


@pytest.mark.row("1.1-api-description")
@pytest.mark.parametrize("method", [*METHODS, "OPTIONS"])
def test_the_old_spelling_gives_the_same_description(ts, method):
    answer = ts.inference(method, "/api-description")
    assert (answer.status, answer.body) == (200, ts.inference("OPTIONS", "/").body)


PREDICTING = [
    "/predictions/{}",
    "/explanations/{}",
    "/v1/models/{}:predict",
    "/v2/models/{}/infer",
    "/models/{}/invoke",
    "/{}/predict",
]


@pytest.mark.row("1.1-openapi-model")
@pytest.mark.parametrize("path", PREDICTING)
def test_a_model_is_described_wherever_it_predicts(ts, model, path):
    answer = ts.inference("OPTIONS", path.format(model))
    assert (answer.status, answer.json["info"]["title"]) == (200, f"RESTful API for: {model}")
    unknown = ts.inference("OPTIONS", path.format("nobody"))
    assert (unknown.status, unknown.json["message"]) == (404, "Model not found: nobody")


@pytest.mark.row("1.1-openapi-model-path", only="ours")
def test_the_path_in_a_models_description_is_the_one_that_works(ts, model):
    described = ts.inference("OPTIONS", f"/predictions/{model}").json
    assert f"/predictions/{model}" in described["paths"]


FORGETS = """
    import os, pathlib

    GONE = pathlib.Path(__file__).with_name("gone")

    def handle(data, context):
        if data is None:
            if GONE.exists():
                raise RuntimeError("it does not come back")
            return None
        GONE.write_text("")
        os._exit(1)
"""


@pytest.mark.row("1.1-ping-unhealthy")
def test_a_ping_is_unhealthy_once_a_worker_is_given_up(serve):
    server = serve()
    config = "minWorkers: 1\nmaxWorkers: 1\nmaxRetryTimeoutInSec: 3\n"
    with server.registered(FORGETS, config=config) as model:
        assert server.predict(model).status >= 500
        answer = until(lambda: (it := server.inference("GET", "/ping")).status == 500 and it, 60)
        assert answer.body == b'{\n  "status": "Unhealthy"\n}\n'


@pytest.mark.row("1.1-predictions-head", only="ours")
@pytest.mark.parametrize("method", ["HEAD", "TRACE"])
def test_methods_that_promise_to_do_nothing_run_no_model(ts, model, method):
    with ts.wire() as wire:
        wire.send(f"{method} /predictions/{model} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 405 ")
