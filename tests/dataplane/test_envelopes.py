"""Envelopes: what an orchestrator wraps around requests and answers, taken off and put back."""

import json

import pytest

from flambeau_runtime.errors import LoadFailed
from flambeau_runtime.worker.context import Row
from tests.handlers import json_row, load_handler, process_as_it_was

SEES = """
import base64
def handle(data, context):
    if data is None:
        return None
    return [base64.b64encode(x).decode() if isinstance(x, bytes) else x for x in data]
"""
FIRST = "def handle(data, context): return data and data[:1]"


@pytest.fixture(autouse=True)
def _restored():
    with process_as_it_was():
        yield


@pytest.fixture
def load(tmp_path):
    def of(envelope, code=SEES, **message):
        return load_handler(tmp_path, code, envelope=envelope, **message)

    return of


def bodies(loaded, *rows):
    return [result.body for result in loaded.run(rows)]


def test_body_hands_the_handler_a_list_of_bodies(load):
    assert bodies(load("body"), json_row([1.0, 2.0]), json_row("x")) == [
        b"[\n  1.0,\n  2.0\n]",
        b"x",
    ]


def test_body_prefers_a_form_field_called_data(load):
    form = Row("r", b"", "application/x-www-form-urlencoded", b"data=x&body=y")
    code = "def handle(data, context): return data and [bytes(it) for it in data]"
    assert bodies(load("body", code), form) == [b"x"]


def test_json_joins_the_instances_of_a_batch_and_splits_the_results(load):
    rows = [json_row({"instances": [1]}), json_row({"instances": [[2], {"a": 3}]})]
    assert bodies(load("json"), *rows) == [
        b'{"predictions": [1]}',
        b'{"predictions": [[2], {"a": 3}]}',
    ]


@pytest.mark.parametrize(
    ("instance", "seen"),
    [
        pytest.param({"b64": "YQ=="}, "YQ==", id="an object that is bytes"),
        pytest.param({"x": 1, "b64": "YQ=="}, {"x": 1, "b64": "YQ=="}, id="one key of others"),
    ],
)
def test_json_decodes_what_stands_for_bytes(load, instance, seen):
    assert bodies(load("json"), json_row({"instances": [instance]})) == [
        json.dumps({"predictions": [seen]}).encode()
    ]


def test_json_decodes_bytes_inside_an_object(load):
    code = "def handle(data, context): return data and [it['x'].decode() for it in data]"
    row = json_row({"instances": [{"x": {"b64": "aGk="}}]})
    assert bodies(load("json", code), row) == [b'{"predictions": ["hi"]}']


@pytest.mark.parametrize("envelope", ["json", "kserve", "kservev2"])
def test_json_without_its_content_type_is_read_all_the_same(load, envelope):
    tensor = {"name": "a", "shape": [1], "datatype": "INT64", "data": [1]}
    body = json.dumps({"instances": [1], "inputs": [tensor]}).encode()
    code = "def handle(data, context): return data and [1]"
    (answer,) = load(envelope, code).run([Row("r", b"", "", body)])
    assert b"1" in answer.body


@pytest.mark.parametrize(
    ("explain", "key"), [pytest.param(False, "predictions"), pytest.param(True, "explanations")]
)
def test_kserve_answers_with_what_was_asked_for(load, explain, key):
    (answer,) = bodies(load("kserve"), json_row({"instances": [1, 2]}, explain=explain))
    assert json.loads(answer) == {key: [1, 2]}


def test_kservev2_hands_out_each_input_in_its_shape(load):
    tensors = [
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]},
        {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["text"]},
    ]
    code = "def handle(data, context): return data and [it['data'] for it in data]"
    (answer,) = bodies(load("kservev2", code), json_row({"id": "mine", "inputs": tensors}))
    assert json.loads(answer) == {
        "id": "mine",
        "model_name": "m",
        "model_version": None,
        "outputs": [
            {"name": "a", "datatype": "FP64", "data": [1.0, 2.0, 3.0, 4.0], "shape": [4]},
            {"name": "b", "datatype": "BYTES", "data": ["text"], "shape": [1]},
        ],
    }


@pytest.mark.parametrize("said", [{}, {"id": ""}, {"id": " "}])
def test_kservev2_answers_with_the_requests_own_id_where_the_client_gave_none(load, said):
    tensor = {"name": "a", "shape": [1], "datatype": "INT8", "data": [1]}
    row = json_row({**said, "inputs": [tensor]}, "the id")
    code = "def handle(data, context): return data and [[1]]"
    (answer,) = bodies(load("kservev2", code), row)
    assert json.loads(answer)["id"] == "the id"


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        pytest.param("True", "BOOL", id="a boolean"),
        pytest.param("1", "INT64", id="a whole number"),
        pytest.param("0.5", "FP64", id="a float"),
        pytest.param("'x'", "BYTES", id="text"),
        pytest.param("[[1, 2], [3, 4]]", "INT64", id="nested lists"),
        pytest.param("__import__('numpy').zeros(2, 'float16')", "FP16", id="an array of numpy"),
    ],
)
def test_kservev2_names_the_type_of_each_result(load, value, datatype):
    tensor = {"name": "a", "shape": [1], "datatype": "INT8", "data": [1]}
    code = f"def handle(data, context): return data and [{value}]"
    (answer,) = bodies(load("kservev2", code), json_row({"inputs": [tensor]}))
    assert json.loads(answer)["outputs"][0]["datatype"] == datatype


@pytest.mark.parametrize(
    ("config", "of_server", "seen"),
    [
        pytest.param("", None, b'{\n  "body": 1\n}', id="none: the handler sees rows"),
        pytest.param("", "body", b"1", id="the server's, where the model says nothing"),
        pytest.param("envelope: body\n", None, b"1", id="the model's own"),
        pytest.param("envelope: body\n", "json", b"1", id="the model's own before the server's"),
        pytest.param("envelope: null\n", "json", b'{\n  "body": 1\n}', id="the model wants none"),
    ],
)
def test_who_names_the_envelope(load, tmp_path, config, of_server, seen):
    (tmp_path / "model-config.yaml").write_text(config)
    manifest = {"model": {"modelName": "m", "configFile": "model-config.yaml", "envelope": "json"}}
    assert bodies(load(of_server, manifest=manifest), json_row(1)) == [seen]


def test_an_envelope_that_does_not_exist_is_named_with_the_nearest(load):
    with pytest.raises(LoadFailed, match=r"model-config.yaml: envelope 'kserv' .* mean kserve"):
        load(None, modelConfig={"envelope": "kserv"})


def test_a_function_is_loaded_past_the_envelope(load):
    code = """
    seen = []
    def handle(data, context):
        seen.append(data)
        return [seen[0]]
    """
    assert bodies(load("body", code), json_row(1)) == [b"null"]


def test_lists_inside_an_envelope_are_never_taken_apart(load):
    code = """
    calls = []
    def handle(data, context):
        calls.append(data)
        if data is not None:
            raise ValueError(f"call {len(calls) - 1}")
    """
    with pytest.raises(Exception, match=r"^Prediction failed. ValueError: call 1$"):
        load("body", code).run([json_row([1, 2, 3])])


def test_an_envelope_of_one_request_says_so_by_failing_the_batch(load):
    with pytest.raises(Exception, match="number of batch response mismatched"):
        load("kserve").run([json_row({"instances": [1]})] * 2)
