"""BaseHandler: what it loads, how it compiles, what it measures."""

import importlib
import json
import logging
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.handlers import process_as_it_was
from tests.torch_models import LINEAR, eager, saved
from ts.torch_handler.base_handler import BaseHandler
from ts.torch_handler.densenet_handler import DenseNetHandler
from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext
from ts.utils.util import load_label_mapping, map_class_to_label

ROOT = Path(__file__).parents[2]
COMPILES = """
import sys

import torch
from tests.torch_models import LINEAR, eager

with torch.inference_mode():
    torch._export.aot_compile(
        eager(LINEAR).model,
        (torch.ones(2, 4),),
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=8)}},
        options={"aot_inductor.output_path": sys.argv[1]},
    )
"""
SAMPLE = [1.0, 2.0, 3.0, 4.0]


@pytest.fixture(autouse=True)
def _restored():
    with process_as_it_was():
        yield


@pytest.fixture
def make(tmp_path):
    def of(serialized="weights.pt", model_file="model.py", config="", handler_class=BaseHandler):
        saved_model = eager(LINEAR)
        saved_model.write(tmp_path)
        (tmp_path / "config.yaml").write_text(config)
        context = MockContext(
            serialized, str(tmp_path), model_file, model_yaml_config_file=config and "config.yaml"
        )
        handler = handler_class()
        handler.initialize(context)
        return handler, context, saved_model.model

    return of


def answer_of(model):
    with torch.inference_mode():
        return pytest.approx(model(torch.tensor([SAMPLE]))[0].tolist(), abs=1e-5)


def write_onnx(path, weights):
    """Write y = x · w + b by hand: an exporter would be another thing under test."""
    arrays = [
        helper.make_tensor(name, TensorProto.FLOAT, list(value.shape), value.flatten().tolist())
        for name, value in (("w", weights["layer.weight"].T), ("b", weights["layer.bias"]))
    ]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["y"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        arrays,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path
    )


@pytest.mark.parametrize("sample", [SAMPLE, [1, 2, 3, 4]], ids=["floats", "whole numbers"])
def test_a_model_of_onnx_answers_as_the_one_it_was_made_of(make, tmp_path, sample):
    write_onnx(tmp_path / "model.onnx", eager(LINEAR).model.state_dict())
    handler, context, model = make("model.onnx", model_file=None)
    assert handler.handle([{"body": sample}] * 2, context) == [answer_of(model)] * 2


def test_a_model_of_onnx_names_the_library_that_is_missing(make, tmp_path, monkeypatch):
    write_onnx(tmp_path / "model.onnx", eager(LINEAR).model.state_dict())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeError, match=r"model.onnx needs onnxruntime"):
        make("model.onnx", model_file=None)


@pytest.mark.process  # of a compiler
@pytest.mark.timeout(240)
def test_a_library_of_torch_export_answers_where_pt2_says_so(make, tmp_path):
    # In a process of its own: what the compiler imports depends on what was imported before.
    command = [sys.executable, "-c", COMPILES, tmp_path / "model.so"]
    subprocess.run(command, cwd=ROOT, check=True)
    model = eager(LINEAR).model
    config = "pt2: {export: {aot_compile: true}}\n"
    handler, context, _ = make("model.so", model_file=None, config=config)
    assert handler.handle([{"body": SAMPLE}] * 3, context) == [answer_of(model)] * 3


@pytest.mark.parametrize(
    ("serialized", "config"),
    [
        pytest.param("model.so", "pt2: {export: {aot_compile: false}}\n", id="not said in pt2"),
        pytest.param("model.bin", "", id="an ending that nobody knows"),
        pytest.param(None, "", id="nothing at all"),
    ],
)
def test_what_cannot_be_loaded_says_what_could(make, serialized, config):
    with pytest.raises(
        RuntimeError, match=r"No model weights could be loaded: .* \.onnx, a library"
    ):
        make(serialized, model_file=None, config=config)


@pytest.mark.parametrize(
    ("pt2", "options"),
    [
        pytest.param("eager", {"backend": "eager"}, id="a backend's name"),
        pytest.param(
            "{backend: eager, dynamic: true}", {"backend": "eager", "dynamic": True}, id="options"
        ),
        pytest.param(
            "{compile: {enable: true, backend: eager}}", {"backend": "eager"}, id="enabled options"
        ),
        pytest.param("{compile: {enable: true}}", {}, id="enabled, and all left to torch"),
    ],
)
def test_a_model_is_compiled_as_pt2_says(make, monkeypatch, pt2, options):
    asked = []
    compile_it = torch.compile

    def compiling(model, **given):
        asked.append(given)
        return compile_it(model, **{"backend": "eager", **given})

    monkeypatch.setattr(torch, "compile", compiling)
    handler, context, model = make(config=f"pt2: {pt2}\n")
    assert asked == [options]
    assert isinstance(handler.model, torch._dynamo.OptimizedModule)
    assert handler.handle([{"body": SAMPLE}], context) == [answer_of(model)]


@pytest.mark.parametrize(
    "pt2",
    [
        pytest.param("no_such_backend", id="a backend that is not on the list"),
        pytest.param("{compile: {enable: false, backend: eager}}", id="not enabled"),
        pytest.param("{compile: {backend: eager}}", id="not said to be enabled"),
        pytest.param("{compile: {enable: true, backend: fx2trt}}", id="a backend torch has not"),
        pytest.param("{compile: {enable: true, mode: no_such_mode}}", id="a mode torch has not"),
        pytest.param("{backend: openvino}", id="a backend whose package is not installed"),
        pytest.param("{export: {aot_compile: false}}", id="an export"),
    ],
)
def test_a_model_serves_uncompiled_where_torch_cannot_or_shall_not(make, pt2):
    handler, context, model = make(config=f"pt2: {pt2}\n")
    assert not isinstance(handler.model, torch._dynamo.OptimizedModule)
    assert handler.handle([{"body": SAMPLE}], context) == [answer_of(model)]


def test_what_is_compiled_is_said_in_the_log(make, caplog):
    with caplog.at_level(logging.INFO):
        make(config="pt2: {compile: {enable: true, backend: eager, dynamic: true}}\n")
    assert "Compiled model with backend eager, dynamic True" in caplog.text


@pytest.mark.parametrize("pt2", ["5", "{compile: 5}"])
def test_options_that_are_none_are_refused(make, pt2):
    with pytest.raises(ValueError, match=r"model-config.yaml: pt2"):
        make(config=f"pt2: {pt2}\n")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param('{"0": "cat"}', {"0": "cat"}, id="text"),
        pytest.param('{"0": ["n02", "cat"]}', {"0": "cat"}, id="a list, whose last entry counts"),
        pytest.param(
            '{"object_type_names": ["cat", "dog"]}', {"0": "cat", "1": "dog"}, id="numbered"
        ),
    ],
)
def test_labels_may_be_written_as(tmp_path, text, labels):
    path = tmp_path / "index_to_name.json"
    path.write_text(text)
    assert load_label_mapping(str(path)) == labels


@pytest.mark.parametrize("text", ["[]", '{"0": 1}', '{"0": []}'])
def test_labels_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "index_to_name.json"
    path.write_text(text)
    with pytest.raises(TypeError, match=r"index_to_name.json"):
        load_label_mapping(str(path))


def test_labels_that_are_not_there_are_said_in_the_log(tmp_path, caplog):
    assert load_label_mapping(str(tmp_path / "index_to_name.json")) is None
    assert "index_to_name.json is missing" in caplog.text


@pytest.mark.parametrize(
    "arguments", [((1,),), ([[0.5]], [])], ids=["a tuple", "a list as mapping"]
)
def test_only_lists_are_mapped_to_labels(arguments):
    with pytest.raises(TypeError):
        map_class_to_label(*arguments)


def test_steps_are_timed_where_the_model_asks_for_it(make):
    handler, context, _ = make(config="handler: {profile: true}\n")
    handler.handle([{"body": SAMPLE}], context)
    measured = {it["name"]: it for it in context.metrics.drain()}
    steps = {f"ts_handler_{step}" for step in ("preprocess", "inference", "postprocess")}
    assert set(measured) == steps | {"HandlerTime"}
    assert {measured[step]["unit"] for step in steps} == {"Milliseconds"}


@pytest.mark.parametrize("config", ["handler: {profile: false}\n", "handler: {note: 1}\n", ""])
def test_steps_are_not_timed_where_it_does_not(make, config):
    handler, context, _ = make(config=config)
    handler.handle([{"body": SAMPLE}], context)
    assert [it["name"] for it in context.metrics.drain()] == ["HandlerTime"]


def test_a_profile_of_torch_is_taken_where_the_environment_asks_for_it(make, tmp_path, monkeypatch):
    monkeypatch.setenv("ENABLE_TORCH_PROFILER", "1")
    handler, context, model = make()
    traces = tmp_path / "traces"
    handler.profiler_args = {
        "activities": [torch.profiler.ProfilerActivity.CPU],
        "on_trace_ready": torch.profiler.tensorboard_trace_handler(str(traces)),
    }
    handler.manifest = None  # as after an `initialize` of one's own
    assert handler.handle([{"body": SAMPLE}], context) == [answer_of(model)]
    (trace,) = traces.iterdir()
    named = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"preprocess", "inference", "postprocess"} <= named


def test_traces_are_filed_under_the_models_name(monkeypatch, tmp_path):
    profiling = importlib.import_module("flambeau_runtime.worker.profiling")
    monkeypatch.setattr(profiling, "TRACES", tmp_path)
    arguments = {}
    profiling.complete(arguments, {"model": {"modelName": "wine"}})
    with profiling.begin(arguments):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["wine"]
    assert arguments["record_shapes"] is True


def test_a_handler_without_explanations_says_so(make):
    handler, _, _ = make()
    with pytest.raises(NotImplementedError, match="BaseHandler has no get_insights"):
        handler.explain_handle(None, [{"body": 1}])


def test_a_tensors_file_is_answered_by_a_tensor(make):
    handler, context, model = make(handler_class=DenseNetHandler)
    (answer,) = handler.handle([{"body": saved(torch.tensor(SAMPLE))}], context)
    assert answer[0].tolist() == answer_of(model)


def test_what_an_envelope_hands_out_becomes_a_tensor_as_it_is(make):
    handler, _, _ = make()
    assert torch.equal(handler.preprocess([[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 4]]))
