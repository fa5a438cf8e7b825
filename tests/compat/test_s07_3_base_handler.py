"""Section 7.3: BaseHandler, which most handlers are derived from."""

from __future__ import annotations

import json
import re
import warnings

import pytest
import torch

from tests.compat.server import until
from tests.compat.ts import new_name
from tests.torch_models import LINEAR, eager

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

SAMPLE = [1.0, 2.0, 3.0, 4.0]
EAGER = {"serializedFile": "weights.pt", "modelFile": "model.py"}
NET = eager(LINEAR)

# What REST hands a handler are dicts: those of users read them in their own preprocess.
READS = """
    import json
    import torch
    from ts.torch_handler.base_handler import BaseHandler

    class Handler(BaseHandler):
        def preprocess(self, data):
            rows = [row.get("data") or row.get("body") for row in data]
            rows = [json.loads(row) if isinstance(row, (bytes, bytearray)) else row for row in rows]
            return torch.tensor(rows, dtype=torch.float32)
"""
LOOKS = """
        def postprocess(self, data):
            return [
                {
                    "model": type(self.model).__name__,
                    "training": self.model.training,
                    "mapping": self.mapping,
                    "device": str(self.device),
                    "get_device": str(self.get_device()),
                    "map_location": self.map_location,
                    "initialized": self.initialized,
                    "context": self.context.model_name,
                    "manifest": self.manifest["model"]["modelName"],
                    "model_pt_path": self.model_pt_path and self.model_pt_path.rpartition("/")[2],
                    "explain": self.explain,
                    "target": self.target,
                    "profiler_args": self.profiler_args,
                    "config": self.model_yaml_config,
                    "inference_mode": data.is_inference(),
                    "answer": super(Handler, self).postprocess(data),
                }
                for _ in data
            ]
"""
EXPLAINS = """
        def get_insights(self, tensor_data, raw_data, target=0):
            if isinstance(raw_data, (bytes, bytearray)):
                raw_data = bytes(raw_data).decode()
            return [{"shape": list(tensor_data.shape), "raw": raw_data, "target": target}]

        def describe_handle(self):
            return {"classes": 3}
"""


def scripted() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(NET.model, torch.ones(1, 4))
        return torch.jit.freeze(script).save_to_buffer()


def answer_of_the_model(*samples):
    with torch.inference_mode():
        rows = NET.model(torch.tensor(samples or (SAMPLE,))).tolist()
    return [pytest.approx(row, abs=1e-5) for row in rows]


def ask(ts, handler, sample=SAMPLE, **more):
    named = {"files": NET.files, **EAGER, **more}
    with ts.registered(handler, **named) as model:
        answer = ts.predict(model, json.dumps(sample).encode())
        assert answer.status == 200, answer.text
        return answer.json


@pytest.fixture(scope="module")
def seen(ts):
    config = "handler: {note: 1}\n"
    return ask(ts, READS + LOOKS, config=config)


@pytest.mark.row("7.3-attributes")
def test_its_attributes_are_those_that_handlers_read(seen):
    assert seen["initialized"] is True
    assert seen["context"] == seen["manifest"]
    assert seen["model_pt_path"] == "weights.pt"
    assert (seen["explain"], seen["target"], seen["profiler_args"]) == (False, 0, {})
    assert seen["config"] == {"handler": {"note": 1}}
    assert seen["mapping"] is None


@pytest.mark.row("7.3-device")
def test_without_an_accelerator_the_device_is_the_cpu(seen):
    assert (seen["device"], seen["get_device"], seen["map_location"]) == ("cpu", "cpu", "cpu")


@pytest.mark.row("7.3-inference")
def test_the_model_runs_in_inference_mode_and_its_tensor_becomes_lists(seen):
    assert seen["inference_mode"] is True
    assert seen["training"] is False
    assert seen["answer"] == answer_of_the_model()


@pytest.mark.row("7.3-loading")
def test_a_model_of_its_file_gets_the_saved_weights(ts):
    assert ask(ts, READS) == answer_of_the_model()[0]


@pytest.mark.row("7.3-loading")
def test_a_model_of_its_file_may_go_without_weights(ts):
    constant = """
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return x * 2
    """
    files = eager(constant).files
    del files["weights.pt"]
    with ts.registered(READS, files=files, modelFile="model.py") as model:
        assert ts.predict(model, b"[1, 2]").json == [2.0, 4.0]


@pytest.mark.row("7.3-loading")
def test_torchscript_needs_no_model_file(ts):
    files = {"scripted.pt": scripted()}
    with ts.registered(READS, files=files, serializedFile="scripted.pt") as model:
        assert ts.predict(model, json.dumps(SAMPLE).encode()).json == answer_of_the_model()[0]


@pytest.mark.row("7.3-loading")
@pytest.mark.parametrize(
    ("files", "names"),
    [
        pytest.param({"weights.bin": b"x"}, {"serializedFile": "weights.bin"}, id="another ending"),
        pytest.param(
            {"weights.pt": NET.files["weights.pt"], "model.py": "class A: pass\nclass B: pass\n"},
            EAGER,
            id="two classes in the model's file",
        ),
    ],
)
def test_what_cannot_be_loaded_fails_the_registration(ts, files, names):
    name = new_name()
    archive = ts.add_archive("", name, handler="base_handler", files=files, **names)
    answer = ts.manage("POST", "/models", url=archive, initial_workers=1, synchronous="true")
    assert (answer.status, answer.json["type"]) == (500, "InternalServerException")
    ts.manage("DELETE", f"/models/{name}")


@pytest.mark.row("7.3-compile")
@pytest.mark.parametrize(
    ("pt2", "kind"),
    [
        pytest.param("{compile: {enable: true, backend: eager}}", "OptimizedModule", id="enabled"),
        pytest.param("eager", "OptimizedModule", id="a backend's name, as of old"),
        pytest.param("{backend: eager, dynamic: true}", "OptimizedModule", id="options, as of old"),
        pytest.param("{compile: {enable: false, backend: eager}}", "Net", id="not enabled"),
        pytest.param("no_such_backend", "Net", id="a backend that is not on the list"),
        pytest.param("{compile: {enable: true, mode: no_such}}", "Net", id="what torch refuses"),
    ],
)
def test_a_model_is_compiled_as_pt2_says_and_serves_in_any_case(ts, pt2, kind):
    found = ask(ts, READS + LOOKS, config=f"pt2: {pt2}\n")
    assert found["model"] == kind
    assert found["answer"] == answer_of_the_model()


@pytest.mark.row("7.3-index-to-name")
@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('{"0": "cat"}', {"0": "cat"}),
        ('{"0": ["n02", "cat"], "1": "dog"}', {"0": "cat", "1": "dog"}),
        ('{"object_type_names": ["cat", "dog"]}', {"0": "cat", "1": "dog"}),
    ],
    ids=["text", "lists", "numbered"],
)
def test_labels_are_read_in_three_shapes(ts, text, labels):
    assert (
        ask(ts, READS + LOOKS, files={**NET.files, "index_to_name.json": text})["mapping"] == labels
    )


@pytest.fixture(scope="module")
def unwrapped(serve_module):
    """A server whose envelope hands handlers the bodies themselves."""
    return serve_module(config={"service_envelope": "body"})


@pytest.mark.row("7.3-preprocess")
def test_bodies_become_one_tensor(unwrapped):
    with unwrapped.registered("", handler="base_handler", files=NET.files, **EAGER) as model:
        answer = unwrapped.predict(model, json.dumps(SAMPLE).encode())
    assert (answer.status, answer.json) == (200, answer_of_the_model()[0])


@pytest.mark.row("7.3-preprocess-rows", only="ours")
@pytest.mark.parametrize("body", [SAMPLE, {"data": SAMPLE}, {"instances": [SAMPLE]}])
def test_json_needs_no_envelope(ts, body):
    with ts.registered("", handler="base_handler", files=NET.files, **EAGER) as model:
        answer = ts.predict(model, json.dumps(body).encode())
    (expected,) = answer_of_the_model()
    assert answer.json == ([expected] if "instances" in body else expected)


@pytest.fixture(scope="module")
def explaining(ts):
    with ts.registered(READS + EXPLAINS, files=NET.files, **EAGER) as model:
        yield model


@pytest.mark.row("7.3-handle", "7.3-explain")
def test_an_explanation_goes_through_get_insights_with_the_body_and_the_first_output(
    ts, explaining
):
    headers = {"Content-Type": "application/json"}
    body = json.dumps(SAMPLE).encode()
    answer = ts.inference("POST", f"/explanations/{explaining}", body, headers)
    assert answer.json == {"shape": [1, 4], "raw": SAMPLE, "target": 0}


@pytest.mark.row("7.3-explain")
def test_a_form_field_names_the_output_to_be_explained(ts, explaining):
    parts = [
        ("data", "", json.dumps(SAMPLE)),
        ("target", "Content-Type: application/json\r\n", "2"),
    ]
    body = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        f"{kind}\r\n{value}\r\n"
        for name, kind, value in parts
    )
    answer = ts.inference(
        "POST",
        f"/explanations/{explaining}",
        f"{body}--x--\r\n".encode(),
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.json == {"shape": [1, 4], "raw": json.dumps(SAMPLE), "target": 2}


@pytest.mark.row("7.3-handle")
def test_a_description_of_its_own_is_asked_of_describe_handle(ts, explaining):
    answer = ts.manage("GET", f"/models/{explaining}?customized=true")
    assert '"classes": 3' in answer.text


@pytest.mark.row("7.3-handle")
def test_a_prediction_is_measured_as_handler_time(ts, explaining):
    assert ts.predict(explaining, json.dumps(SAMPLE).encode()).status == 200
    line = rf'^HandlerTime\{{[^}}]*ModelName="{explaining}"[^}}]*\}} \d+\.\d+$'
    assert until(lambda: re.search(line, ts.metrics().text, re.MULTILINE))


@pytest.mark.row("7.3-handle")
def test_the_profiler_of_torch_writes_a_trace(serve, tmp_path):
    own = (
        READS
        + f"""
        def __init__(self):
            super().__init__()
            self.profiler_args = {{
                "activities": [torch.profiler.ProfilerActivity.CPU],
                "on_trace_ready": torch.profiler.tensorboard_trace_handler({str(tmp_path)!r}),
            }}
    """
    )
    server = serve(env={"ENABLE_TORCH_PROFILER": "1"})
    assert ask(server, own) == answer_of_the_model()[0]
    (trace,) = tmp_path.iterdir()
    named = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"preprocess", "inference", "postprocess"} <= named
