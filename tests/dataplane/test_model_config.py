"""model-config.yaml as the server reads it: types, ranges, and what is said about the rest."""

import pytest

from flambeau_runtime.archive.model_config import ModelConfig, read_model_config


def test_without_a_file_nothing_is_said():
    assert read_model_config({}) == ModelConfig()


def test_every_key_is_taken():
    content = {
        "minWorkers": 2,
        "maxWorkers": 3,
        "batchSize": 4,
        "maxBatchDelay": 5,
        "responseTimeout": 6,
        "startupTimeout": 7,
        "maxRetryTimeoutInSec": 8,
        "clientTimeoutInMills": 9,
        "jobQueueSize": 10,
        "deviceType": "gpu",
        "deviceIds": [1, 0],
        "parallelType": "custom",
        "parallelLevel": 2,
        "useJobTicket": True,
        "useVenv": True,
    }
    assert read_model_config(content) == ModelConfig(
        True, 2, 3, 4, 5, 6, 7, 8, 9, 10, "gpu", (1, 0), "custom", 2, True, True
    )


def test_what_is_the_handlers_is_no_oddity():
    read = read_model_config({"handler": {"profile": True}, "pt2": "inductor"})
    assert read == ModelConfig(is_there=True)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("minWorkers", "1", "Invalid minWorkers: 1, should be integer"),
        ("maxWorkers", 1.5, "Invalid maxWorkers: 1.5, should be integer"),
        ("batchSize", True, "Invalid batchSize: True, should be integer"),
        ("batchSize", 2**31, "Invalid batchSize: 2147483648, should be integer"),
        ("responseTimeout", 0, "Invalid responseTimeout:0"),
        ("startupTimeout", -1, "Invalid startupTimeout:-1"),
        ("maxBatchDelay", -1, "Invalid maxBatchDelay:-1"),
        ("deviceType", 1, "Invalid deviceType: 1, should be cpu, or gpu"),
        ("deviceType", "tpu", "Invalid deviceType:tpu"),
        ("deviceIds", 3, "Invalid deviceIds: 3, should be list of integer"),
        ("deviceIds", [0, "1"], "Invalid deviceIds:[0, '1']"),
        ("deviceIds", [0, True], "Invalid deviceIds:[0, True]"),
        ("parallelType", "odd", "Invalid parallelType:odd"),
        ("useVenv", "yes", "Invalid useVenv: yes, should be true or false"),
        ("useVenv", 1, "Invalid useVenv: 1, should be true or false"),
    ],
)
def test_a_value_that_cannot_be_counts_as_not_said(key, value, words):
    assert read_model_config({key: value}) == ModelConfig(is_there=True, oddities=(words,))


@pytest.mark.parametrize(
    ("content", "field", "value"),
    [
        pytest.param({"minWorkers": 0}, "min_workers", 1, id="one worker at least"),
        pytest.param({"batchSize": -3}, "batch_size", 1, id="one row at least"),
        pytest.param({"maxRetryTimeoutInSec": -5}, "max_retry_timeout_s", 0, id="no second try"),
        pytest.param({"jobQueueSize": -5}, "job_queue_size", None, id="no queue size"),
        pytest.param({"parallelLevel": 2}, "parallel_level", 0, id="a level needs a type"),
        pytest.param({"parallelType": "tp"}, "parallel_type", "", id="a type needs a level"),
        pytest.param(
            {"parallelType": "tp", "torchrun": {"nproc-per-node": 4}},
            "parallel_level",
            4,
            id="torchrun's processes are the level",
        ),
    ],
)
def test_what_one_value_becomes(content, field, value):
    assert getattr(read_model_config(content), field) == value


@pytest.mark.parametrize(
    ("least", "most", "bounds"),
    [(2, 3, (2, 3)), (2, 2, (2, 2)), (2, 1, None), (2, None, None), (None, 2, None)],
)
def test_bounds_of_workers_count_together_only(least, most, bounds):
    assert ModelConfig(min_workers=least, max_workers=most).worker_bounds == bounds
