"""The names that third-party handlers import from `ts`: every one is there, and usable."""

import importlib
import re
import subprocess
import sys

import pytest

from ts.handler_utils.utils import import_class

PUBLIC = {
    "ts": ["__version__"],
    "ts.context": ["Context", "RequestProcessor"],
    "ts.handler_utils.distributed.deepspeed": ["get_ds_engine"],
    "ts.handler_utils.distributed.pt_pippy": ["get_pipeline_driver", "initialize_rpc_workers"],
    "ts.handler_utils.micro_batching": ["HANDLER_METHODS", "MicroBatching"],
    "ts.handler_utils.text_utils": ["get_tokenizer", "ngrams_iterator"],
    "ts.handler_utils.timer": ["timed"],
    "ts.handler_utils.utils": ["import_class", "send_intermediate_predict_response"],
    "ts.metrics.caching_metric": ["CachingMetric"],
    "ts.metrics.dimension": ["Dimension"],
    "ts.metrics.metric": ["Metric"],
    "ts.metrics.metric_type_enum": ["MetricTypes"],
    "ts.metrics.metrics_store": ["MetricsStore"],
    "ts.protocol.otf_message_handler": ["send_intermediate_predict_response"],
    "ts.service": ["emit_metrics"],
    "ts.torch_handler.base_handler": ["BaseHandler", "PROFILER_AVAILABLE", "setup_ort_session"],
    "ts.torch_handler.contractions": ["CONTRACTION_MAP"],
    "ts.torch_handler.densenet_handler": ["DenseNetHandler"],
    "ts.torch_handler.distributed.base_deepspeed_handler": ["BaseDeepSpeedHandler"],
    "ts.torch_handler.distributed.base_pippy_handler": ["BasePippyHandler"],
    "ts.torch_handler.image_classifier": ["ImageClassifier"],
    "ts.torch_handler.image_segmenter": ["ImageSegmenter"],
    "ts.torch_handler.object_detector": ["ObjectDetector"],
    "ts.torch_handler.request_envelope.base": ["BaseEnvelope"],
    "ts.torch_handler.request_envelope.body": ["BodyEnvelope"],
    "ts.torch_handler.request_envelope.json": ["JSONEnvelope"],
    "ts.torch_handler.request_envelope.kserve": ["KServeEnvelope"],
    "ts.torch_handler.request_envelope.kservev2": ["KServev2Envelope"],
    "ts.torch_handler.text_classifier": ["TextClassifier"],
    "ts.torch_handler.text_handler": ["TextHandler"],
    "ts.torch_handler.unit_tests.test_utils.mock_context": ["MockContext"],
    "ts.torch_handler.unit_tests.test_utils.model_dir": ["copy_files", "download_model"],
    "ts.torch_handler.vision_handler": ["VisionHandler"],
    "ts.utils.hf_utils": ["download_model"],
    "ts.utils.timeit_decorator": ["timeit"],
    "ts.utils.util": [
        "CLEANUP_REGEX",
        "PT2Backend",
        "PredictionException",
        "check_valid_pt2_backend",
        "deprecated",
        "get_yaml_config",
        "list_classes_from_module",
        "load_label_mapping",
        "map_class_to_label",
    ],
    "ts.version": ["__version__"],
}
DERIVED = {
    "image_classifier.ImageClassifier": "vision_handler.VisionHandler",
    "image_segmenter.ImageSegmenter": "vision_handler.VisionHandler",
    "object_detector.ObjectDetector": "vision_handler.VisionHandler",
    "vision_handler.VisionHandler": "base_handler.BaseHandler",
    "text_classifier.TextClassifier": "text_handler.TextHandler",
    "text_handler.TextHandler": "base_handler.BaseHandler",
    "distributed.base_deepspeed_handler.BaseDeepSpeedHandler": "base_handler.BaseHandler",
    "distributed.base_pippy_handler.BasePippyHandler": "base_handler.BaseHandler",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there(module):
    found = importlib.import_module(module)
    assert not [name for name in PUBLIC[module] if not hasattr(found, name)]


@pytest.mark.parametrize("derived", DERIVED)
def test_a_handler_is_derived_from_the_one_that_handlers_look_for(derived):
    ours, base = (import_class(name, "ts.torch_handler") for name in (derived, DERIVED[derived]))
    assert issubclass(ours, base)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        pytest.param(
            ["ts.context", "ts.utils.util", "ts.handler_utils.timer", "ts.handler_utils.utils"],
            ["torch", "numpy"],
            id="what handlers of other libraries use needs no torch",
        ),
        pytest.param(
            ["ts.torch_handler.base_handler", "ts.torch_handler.vision_handler"],
            ["torchvision", "captum", "PIL", "onnxruntime", "transformers"],
            id="a base to derive from needs nothing but torch",
        ),
        pytest.param(
            ["ts.torch_handler.image_classifier", "ts.torch_handler.text_classifier"],
            ["captum", "onnxruntime"],
            id="predictions need no library of explanations",
        ),
    ],
)
def test_what_an_import_brings_along(modules, forbidden):
    code = (
        f"import sys, {', '.join(modules)}; print([m for m in {forbidden!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("",), "class name is not defined", id="no name"),
        pytest.param(("Context",), "module name of the class Context", id="no module"),
        pytest.param(
            ("ts.context.Gone",), "class:Gone not found in module:ts.context", id="no class"
        ),
        pytest.param(("gone.Gone", "ts"), "No module named 'ts.gone'", id="no such module"),
    ],
)
def test_a_class_that_cannot_be_imported(arguments, says):
    with pytest.raises(ImportError, match=says):
        import_class(*arguments)


def test_a_class_by_its_name_below_a_package():
    assert import_class("Context", "ts.context").__name__ == "Context"


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        ("pt_pippy", "initialize_rpc_workers", (0, 1, None)),
        ("pt_pippy", "get_pipeline_driver", (None, 1, None)),
        ("deepspeed", "get_ds_engine", (None, None)),
    ],
)
def test_what_needs_several_processes_says_what_to_do_instead(module, function, arguments):
    found = getattr(importlib.import_module(f"ts.handler_utils.distributed.{module}"), function)
    with pytest.raises(RuntimeError, match=r"torchrun, do not exist in this release; .* custom"):
        found(*arguments)


def test_a_pipeline_of_several_processes_is_refused_when_it_is_loaded():
    handler = import_class("distributed.base_pippy_handler.BasePippyHandler", "ts.torch_handler")
    with pytest.raises(RuntimeError, match="do not exist in this release"):
        handler().initialize(None)


def test_a_handler_of_deepspeed_takes_the_device_of_its_process(monkeypatch):
    name = "distributed.base_deepspeed_handler.BaseDeepSpeedHandler"
    handler = import_class(name, "ts.torch_handler")()
    monkeypatch.setenv("LOCAL_RANK", "3")
    handler.initialize(None)
    assert handler.device == 3


def test_a_function_that_moved_warns_whoever_calls_it():
    deprecated = import_class("util.deprecated", "ts.utils")

    @deprecated("0.3", "new_name")
    def old_name():
        return 1

    with pytest.warns(
        PendingDeprecationWarning, match="old_name is deprecated since 0.3; use new_"
    ):
        assert old_name() == 1


def test_a_timed_function_prints_how_long_it_took(capsys):
    timeit = import_class("timeit_decorator.timeit", "ts.utils")
    assert timeit(len)([1]) == 1
    assert re.match(r"len took \d+\.\d", capsys.readouterr().out)


@pytest.mark.parametrize(("backend", "known"), [("inductor", True), ("no_such", False)])
def test_backends_of_torch_compile_are_checked_by_name(backend, known):
    assert import_class("util.check_valid_pt2_backend", "ts.utils")(backend) is known


def test_a_model_of_a_url_is_fetched_once(tmp_path, monkeypatch):
    model_dir = importlib.import_module("ts.torch_handler.unit_tests.test_utils.model_dir")
    monkeypatch.setattr(model_dir, "CACHE", tmp_path / "cache")
    source = tmp_path / "resnet.pth"
    source.write_bytes(b"weights")
    model_dir.download_model(source.as_uri(), tmp_path)
    source.unlink()
    model_dir.download_model(source.as_uri(), tmp_path)
    model_dir.copy_files(tmp_path, tmp_path, {"model.pt": "again.pt"})
    assert (tmp_path / "again.pt").read_bytes() == b"weights"
