"""Handlers as TorchServe's users write them, with real torch models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    subprocess.run(
        [sys.executable, "-m", "tests.compat.torch_scenarios", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=110,
    )
    return json.loads((folder / "found.json").read_text())


@pytest.fixture
def found(outcomes):
    def look(name):
        assert "broke" not in outcomes[name], outcomes[name]["broke"]
        return outcomes[name]

    return look


def near(expected):
    if isinstance(expected[0], list):
        return [near(row) for row in expected]
    return pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["scripted", "eager"])
@pytest.mark.parametrize("shape", ["array", "data", "features", "bytes"])
def test_base_handler_answers_one_sample(found, kind, shape):
    outcome = found(kind)
    assert outcome[shape] == near(outcome["expected"][:1])


@pytest.mark.parametrize("kind", ["scripted", "eager"])
@pytest.mark.parametrize("shape", ["instances", "list of objects"])
def test_base_handler_answers_several_samples_of_one_request_by_a_list(found, kind, shape):
    outcome = found(kind)
    (answer,) = outcome[shape]
    assert answer == near(outcome["expected"])


def test_base_handler_gives_every_request_of_a_batch_its_own(found):
    outcome = found("scripted")
    first, second = outcome["expected"]
    assert outcome["a batch"] == near([first, second])
    assert outcome["mixed"] == [near([first, second]), near(first)]


def test_base_handler_makes_whole_numbers_what_the_model_takes(found):
    outcome = found("scripted")
    assert outcome["whole numbers"] == near(outcome["whole numbers expected"])
    assert found("loading")["indices"] == 2, "an embedding takes them as they are"


def test_base_handler_says_what_it_cannot_read(found):
    outcome = found("scripted")
    assert "JSON array of numbers" in outcome["not numbers"]["message"]
    assert "one shape" in outcome["shapes"]["message"]


def test_handler_and_prediction_times_are_measured(found):
    assert found("scripted")["metrics"] == ["HandlerTime", "PredictionTime"]


def test_a_handler_of_the_guides_kind_answers_objects_and_lists_of_them(found):
    outcome = found("guide kind")
    (single,) = outcome["single"]
    assert sorted(single) == ["class_name", "predicted_class", "probabilities"]
    assert sum(single["probabilities"]) == pytest.approx(1)
    assert outcome["bytes"] == [single]
    (listed,) = outcome["list"]
    assert listed[0]["predicted_class"] == single["predicted_class"]
    assert len(listed) == 2
    again, alone = outcome["list again, in a batch"]
    assert again == listed
    assert alone["predicted_class"] == listed[1]["predicted_class"]


def test_a_derived_class_changes_one_step_and_keeps_the_others(found):
    outcome = found("extended")
    assert outcome["predicted"][0] in {0, 1, 2}
    # TorchServe reads the target from a form field, never from inside a JSON body
    assert outcome["explained"] == [{"target": 0, "shape": [1, 10]}]
    assert outcome["described"] == [{"classes": 3, "device": "cpu"}]


def test_steps_are_timed_when_the_model_asks_for_it(found):
    assert {"ts_handler_preprocess", "ts_handler_inference"} <= set(found("extended")["metrics"])


def test_a_tensor_leaves_as_a_file_that_torch_reads(found):
    assert found("functions")["tensor"] == [[1.0] * 3] * 2


def test_out_of_memory_on_a_device_is_told_from_other_failures(found):
    greedy = found("functions")["greedy"]
    assert greedy["kind"] == "OutOfMemory"
    assert greedy["message"].startswith("Out of resources. OutOfMemoryError: CUDA out of memory")


def test_weights_that_could_run_code_need_the_models_word(found):
    outcome = found("loading")
    assert outcome["unsafe weights"]["reason"] == "InitializeFailed"
    assert "weights_only" in outcome["unsafe weights"]["message"].lower()
    assert outcome["trusted weights"] == near(found("eager")["expected"][:1])


@pytest.mark.parametrize(
    ("case", "says"),
    [
        pytest.param("no model", "there is nothing", id="an archive without any"),
        pytest.param("no class", "need --model-file", id="weights without their class"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_what_is_missing(found, case, says):
    outcome = found("loading")[case]
    assert outcome["reason"] == "InitializeFailed"
    assert "No model weights could be loaded" in outcome["message"]
    assert says in outcome["message"]


def test_users_unit_tests_run_against_the_same_names(found):
    outcome = found("unit test")
    assert outcome["steps"] == near(found("eager")["expected"])
    assert outcome["handle"] == near(found("eager")["expected"][:1])
    assert outcome["mapping"] == {"0": "a", "1": "b", "2": "c"}
    assert outcome["device"] == "cpu"
