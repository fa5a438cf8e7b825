"""Section 5: model-config.yaml, key by key, and who has the last word."""

from __future__ import annotations

import json

import pytest

from tests.compat.mar import write_mar
from tests.compat.server import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SEES = """
    import sys

    def handle(data, context):
        if data is not None:
            seen = {"config": context.model_yaml_config}
            seen["gpu_id"] = context.system_properties["gpu_id"]
            seen["venv"] = sys.prefix if sys.prefix != sys.base_prefix else ""
            return [seen for _ in data]
"""


def described(ts, config, *fields, workers=0, **query):
    """Return fields of the description of a model with that model-config.yaml."""
    with ts.registered(SEES, config=config, workers=workers, query=query) as model:
        description = ts.describe(model)
    return tuple(description[field] for field in fields)


@pytest.mark.row("5-whole", "5-pt2", "5-engines", "5-handler")
def test_the_whole_document_reaches_the_handler(ts):
    config = """
        batchSize: 2
        handler: {model_path: weights.pt, profile: false, sizes: [1, 2.5, null, "three"]}
        pt2: {compile: {enable: false, backend: inductor, mode: reduce-overhead}}
        vllm_engine: {engine_config: {max_num_seqs: 16}}
        deepspeed: {config: ds-config.json}
    """
    with ts.registered(SEES, config=config) as model:
        seen = ts.predict(model).json
    assert seen["config"]["handler"] == {
        "model_path": "weights.pt",
        "profile": False,
        "sizes": [1, 2.5, None, "three"],
    }
    assert seen["config"]["pt2"]["compile"]["backend"] == "inductor"
    assert seen["config"]["vllm_engine"]["engine_config"]["max_num_seqs"] == 16
    assert seen["config"]["batchSize"] == 2


@pytest.mark.row("5-whole")
def test_without_a_file_the_document_is_empty(ts):
    with ts.registered(SEES) as model:
        assert ts.predict(model).json["config"] == {}


@pytest.mark.row("5-wrong-type")
@pytest.mark.parametrize(
    "line",
    [
        'batchSize: "8"',
        "batchSize: 8.0",
        "batchSize: yes",
        "batchSize: 99999999999",
        "maxBatchDelay: soon",
        "responseTimeout: [1]",
        "responseTimeout: 0",
        "jobQueueSize: -3",
        'maxRetryTimeoutInSec: "10"',
        "deviceIds: 1",
        "deviceType: tpu",
        "parallelType: odd",
        "useVenv: 1",
    ],
)
def test_a_value_that_cannot_be_is_ignored(ts, line):
    fields = ("batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout")
    assert described(ts, line, *fields, "maxRetryTimeoutInSec", "parallelType", "useVenv") == (
        *(1, 100, 120, 120),
        *(300, "", False),
    )


@pytest.mark.row("5-wrong-type")
def test_it_is_warned_about(ts):
    described(ts, "batchSize: eight-and-a-half", "batchSize")
    assert "Invalid batchSize: eight-and-a-half, should be integer" in ts.log("ts_log.log")


@pytest.mark.row("5-batch")
def test_batch_size_and_delay_are_taken(ts):
    config = "batchSize: 3\nmaxBatchDelay: 70"
    assert described(ts, config, "batchSize", "maxBatchDelay") == (3, 70)


@pytest.mark.row("5-batch")
def test_a_delay_of_0_says_nothing(ts):
    assert described(ts, "maxBatchDelay: 0", "maxBatchDelay") == (100,)


@pytest.mark.row("5-priority-batch")
def test_register_parameters_beat_the_file_for_batches(ts):
    config = "batchSize: 3\nmaxBatchDelay: 70"
    asked = {"batch_size": 5, "max_batch_delay": 9}
    assert described(ts, config, "batchSize", "maxBatchDelay", **asked) == (5, 9)


@pytest.mark.row("5-timeouts", "5-priority-workers")
@pytest.mark.parametrize(
    ("config", "asked", "seconds"),
    [
        pytest.param("responseTimeout: 7\nstartupTimeout: 8", {}, (7, 8), id="the file's"),
        pytest.param(
            "responseTimeout: 7\nstartupTimeout: 8",
            {"response_timeout": 9, "startup_timeout": 9},
            (7, 8),
            id="the file beats the call",
        ),
        pytest.param(
            "handler: {}",
            {"response_timeout": 9, "startup_timeout": 9},
            (120, 120),
            id="even one that does not speak of them",
        ),
        pytest.param(
            "", {"response_timeout": 9, "startup_timeout": 8}, (9, 8), id="the call, without a file"
        ),
    ],
)
def test_timeouts(ts, config, asked, seconds):
    assert described(ts, config, "responseTimeout", "startupTimeout", **asked) == seconds


@pytest.mark.row("5-workers", "5-priority-workers")
@pytest.mark.parametrize(
    ("config", "workers", "bounds"),
    [
        pytest.param("minWorkers: 2\nmaxWorkers: 3", 0, (2, 3), id="both bounds"),
        pytest.param("minWorkers: 2\nmaxWorkers: 3", 1, (2, 3), id="they beat the call"),
        pytest.param("minWorkers: 2\nmaxWorkers: 1", 1, (1, 1), id="max below min: ignored"),
        pytest.param("minWorkers: 2", 0, (0, 0), id="one without the other: ignored"),
        pytest.param("minWorkers: 0\nmaxWorkers: 2", 0, (1, 2), id="0 at least is 1"),
    ],
)
def test_workers(ts, config, workers, bounds):
    assert described(ts, config, "minWorkers", "maxWorkers", workers=workers) == bounds


@pytest.mark.row("5-max-retry")
@pytest.mark.parametrize(("config", "seconds"), [("", 300), ("maxRetryTimeoutInSec: 20", 20)])
def test_the_retry_window(ts, config, seconds):
    assert described(ts, config, "maxRetryTimeoutInSec") == (seconds,)


@pytest.mark.row("5-job-queue-size")
def test_the_job_queue(ts):
    def capacity(config):
        (status,) = described(ts, config, "jobQueueStatus")
        return status["remainingCapacity"]

    assert capacity("jobQueueSize: 7") == 7
    assert capacity("handler: {}") == 100


@pytest.mark.row("5-client-timeout-described")
def test_the_clients_timeout_is_described(ts):
    assert described(ts, "clientTimeoutInMills: 900", "clientTimeoutInMills") == (900,)


@pytest.mark.row("5-device-type")
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_without_devices_every_device_type_is_the_cpu(ts, kind):
    with ts.registered(SEES, config=f'deviceType: "{kind}"') as model:
        assert ts.describe(model)["deviceType"] == "cpu"
        assert ts.predict(model).json["gpu_id"] is None


@pytest.mark.row("5-device-ids")
def test_unknown_devices_drop_the_whole_list(ts):
    with ts.registered(SEES, config="deviceIds: [0, 1]") as model:
        assert "deviceIds" not in ts.describe(model)
        assert ts.predict(model).status == 200


@pytest.mark.row("5-parallel-custom")
def test_a_model_that_starts_its_own_processes_is_served(ts):
    with ts.registered(SEES, config="parallelType: custom\nparallelLevel: 1") as model:
        description = ts.describe(model)
        assert (description["parallelType"], description["parallelLevel"]) == ("custom", 1)
        assert ts.predict(model).status == 200


@pytest.mark.row("5-parallel-custom")
def test_a_type_without_a_level_says_nothing(ts):
    assert described(ts, "parallelType: custom", "parallelType", "parallelLevel") == ("", 0)


@pytest.mark.row("5-parallel-several", only="ours")
def test_its_level_may_be_more_than_one(ts):
    with ts.registered(SEES, config="parallelType: custom\nparallelLevel: 2") as model:
        assert ts.describe(model)["parallelLevel"] == 2
        assert ts.predict(model).status == 200


@pytest.mark.row("5-use-venv")
def test_a_model_may_have_a_virtual_environment(ts):
    with ts.registered(SEES, config="useVenv: true") as model:
        assert ts.describe(model)["useVenv"] is True
        assert ts.predict(model).json["venv"].endswith("/venv")


TIMED = """
    from ts.handler_utils.timer import timed

    class Timed:
        def initialize(self, context):
            self.context = context

        @timed
        def preprocess(self, data):
            return data

        def handle(self, data, context):
            return [len(it) for it in self.preprocess(data)]
"""


@pytest.mark.row("5-handler")
@pytest.mark.parametrize("profile", [True, False])
def test_profile_times_the_steps(with_models_key, profile):
    ts = with_models_key
    switch = str(profile).lower()
    with ts.registered(TIMED, config=f"handler: {{profile: {switch}}}") as model:
        assert ts.predict(model).status == 200
        assert until(lambda: _samples(ts, "PredictionTime", model))
        assert bool(_samples(ts, "ts_handler_preprocess", model)) is profile


def _samples(ts, name, model):
    lines = ts.metrics().text.splitlines()
    return [line for line in lines if line.startswith(name) and f'"{model}"' in line]


@pytest.fixture(scope="module")
def with_models_key(serve_module):
    said = {"minWorkers": 2, "maxWorkers": 4, "batchSize": 6, "maxBatchDelay": 60}
    said |= {"responseTimeout": 61, "startupTimeout": 62}
    names = ("plain", "unsaid", "said")

    def prepare(place):
        write_mar(place.store, "plain", SEES)
        write_mar(place.store, "unsaid", SEES, config="handler: {}")
        config = "minWorkers: 1\nmaxWorkers: 3\nbatchSize: 7\nmaxBatchDelay: 70"
        write_mar(place.store, "said", SEES, config=config + "\nresponseTimeout: 71")

    ts = serve_module(
        config={
            "models": json.dumps({name: {"1.0": said} for name in names}),
            "load_models": "all",
            "default_response_timeout": "77",
            "model_metrics_auto_detect": "true",  # for those of the steps
        },
        prepare=prepare,
    )
    for name, workers in (("plain", 2), ("unsaid", 2), ("said", 1)):
        ts.wait_for_workers(name, workers)  # what is added to the store later is none of `all`
    return ts


FIELDS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout")


@pytest.mark.row("5-priority-models")
@pytest.mark.parametrize(
    ("model", "values"),
    [
        pytest.param("plain", (2, 4, 6, 60, 61), id="without a file models= counts"),
        pytest.param("unsaid", (2, 4, 6, 60, 120), id="a silent file still decides on timeouts"),
        pytest.param("said", (1, 3, 7, 70, 71), id="the file beats models="),
    ],
)
def test_the_file_and_the_models_key(with_models_key, model, values):
    description = with_models_key.describe(model)
    assert tuple(description[field] for field in FIELDS) == values


@pytest.mark.row("5-priority-models")
def test_the_models_key_beats_the_call_for_timeouts_and_not_for_workers(with_models_key):
    ts = with_models_key
    assert ts.manage("DELETE", "/models/plain").status == 200
    asked = {"url": "plain-1.0.mar", "response_timeout": 9, "batch_size": 5, "initial_workers": 1}
    assert ts.manage("POST", "/models", **asked).status == 200
    description = ts.describe("plain")
    assert tuple(description[field] for field in FIELDS) == (1, 1, 5, 60, 61)


@pytest.mark.row("5-broken", only="ours")
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("batchSize: [1\n", "model-config.yaml line"),
        ("- a\n- b\n", "must be a mapping"),
        ("a word", "must be a mapping"),
        ('handler: !!python/object/apply:os.system ["touch pwned"]', "could not determine a cons"),
    ],
    ids=["broken YAML", "a list", "a word", "a Python object"],
)
def test_a_file_that_is_no_mapping_is_refused_with_the_reason(ts, config, says):
    archive = ts.add_archive(SEES, config=config)
    answer = ts.manage("POST", "/models", url=archive)
    assert (answer.status, answer.json["type"]) == (400, "InvalidModelException")
    assert says in answer.json["message"]
    assert not list(ts.place.folder.rglob("pwned"))


@pytest.mark.row("5-parallel-refused", only="ours")
@pytest.mark.parametrize("kind", ["pp", "tp", "pptp"])
def test_a_model_for_torchrun_is_refused(ts, kind):
    archive = ts.add_archive(SEES, config=f"parallelType: {kind}\nparallelLevel: 2")
    answer = ts.manage("POST", "/models", url=archive)
    assert (answer.status, answer.json["type"]) == (400, "InvalidModelException")
    assert f"parallelType {kind} needs torchrun" in answer.json["message"]
