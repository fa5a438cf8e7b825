"""Section 7.4: the envelopes that `service_envelope` puts around every handler."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

SEES = """
    def handle(data, context):
        return None if data is None else [_shown(it) for it in data]

    def _shown(value):
        if isinstance(value, bytes):
            return {"bytes": value.decode()}
        if isinstance(value, dict):
            return {name: _shown(it) for name, it in value.items()}
        return value
"""
GIVES_DATA = """
    def handle(data, context):
        return None if data is None else [it["data"] for it in data]
"""
JSON = {"Content-Type": "application/json"}


def serving(envelope, handler):
    @pytest.fixture(scope="module")
    def model(serve_module):
        server = serve_module(config={"service_envelope": envelope})
        with server.registered(handler) as name:
            yield lambda body, path="predictions", headers=JSON: server.inference(
                "POST",
                f"/{path}/{name}",
                body if isinstance(body, bytes) else json.dumps(body).encode(),
                headers,
            )

    return model


body = serving("body", SEES)
json_ = serving("json", SEES)
kserve = serving("kserve", SEES)
kservev2 = serving("kservev2", GIVES_DATA)


@pytest.mark.row("7.4-envelope-body", "4.2-envelope")
@pytest.mark.parametrize("sent", [[1, 2], {"a": 1}, 5])
def test_body_hands_over_the_body(body, sent):
    assert body(sent).json == sent


@pytest.mark.row("7.4-envelope-body")
def test_body_prefers_a_field_called_data(body):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n'
    sent = part + b"Content-Type: application/json\r\n\r\n[3]\r\n--x--\r\n"
    assert body(sent, headers=headers).json == [3]


@pytest.mark.row("7.4-envelope-json")
def test_json_answers_instances_by_predictions_on_one_line(json_):
    answer = json_({"instances": [1, [2], "x"]})
    assert answer.body == b'{"predictions": [1, [2], "x"]}'


@pytest.mark.row("7.4-envelope-json")
def test_json_decodes_what_is_base64(json_):
    answer = json_({"instances": [{"b64": "aGk="}, {"x": {"b64": "aGk="}, "y": 1}]})
    assert answer.json == {"predictions": [{"bytes": "hi"}, {"x": {"bytes": "hi"}, "y": 1}]}


@pytest.mark.row("7.4-envelope-kserve")
@pytest.mark.parametrize(
    ("path", "key"), [("predictions", "predictions"), ("explanations", "explanations")]
)
def test_kserve_answers_all_instances_of_one_request(kserve, path, key):
    assert (
        kserve({"instances": [1, [2]]}, path).body == json.dumps({key: [1, [2]]}, indent=2).encode()
    )


@pytest.mark.row("7.4-envelope-kserve")
def test_kserve_reads_bytes_as_json(kserve):
    sent = json.dumps({"instances": [1]}).encode()
    assert kserve(sent, headers={}).json == {"predictions": [1]}


TENSORS = [
    {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]},
    {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["text"]},
]


@pytest.mark.row("7.4-envelope-kservev2")
def test_kservev2_answers_one_output_for_each_input(kservev2):
    answer = kservev2({"id": "mine", "inputs": TENSORS})
    found = answer.json
    assert list(found) == ["id", "model_name", "model_version", "outputs"]
    assert (found["id"], found["model_version"]) == ("mine", "1.0")
    assert found["outputs"] == [
        {"name": "a", "datatype": "FP64", "data": [1.0, 2.0, 3.0, 4.0], "shape": [4]},
        {"name": "b", "datatype": "BYTES", "data": ["text"], "shape": [1]},
    ]
    assert list(found["outputs"][0]) == ["name", "datatype", "data", "shape"]


@pytest.mark.row("7.4-envelope-kservev2")
def test_kservev2_without_an_id_answers_with_the_requests_own(kservev2):
    answer = kservev2(json.dumps({"inputs": TENSORS[:1]}).encode(), headers={})
    assert answer.json["id"] == answer.header("x-request-id")


@pytest.mark.row("7.4-envelope-kservev2")
def test_kservev2_refuses_data_that_has_not_its_shape(kservev2):
    answer = kservev2({"inputs": [{**TENSORS[0], "shape": [3]}]})
    assert answer.status == 503
    assert answer.json["message"].startswith("Prediction failed")
