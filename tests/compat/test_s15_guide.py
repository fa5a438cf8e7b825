"""Section 15: what guides for users show, which not always is what TorchServe does."""

from __future__ import annotations

import json

import pytest

from tests.compat.mar import write_mar

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

CLASSIFIER = """
import torch

class Classifier:
    def initialize(self, context):
        self.device = torch.device("cpu")
        self.model = torch.nn.Linear(2, 2).to(self.device)
        with torch.no_grad():
            self.model.weight.copy_(torch.eye(2))
            self.model.bias.zero_()

    def handle(self, data, context):
        answers = []
        for row in data:
            asked = row.get("data") or row.get("body")
            features = torch.tensor(asked["data"], dtype=torch.float32, device=self.device)
            with torch.inference_mode():
                chances = torch.softmax(self.model(features), dim=-1)
            answers.append({"class": int(chances.argmax()), "sum": float(chances.sum())})
        return answers
"""
AS_SHOWN = {"default_workers_per_model": "1"}


@pytest.fixture(scope="module")
def shown(serve_module):
    """A server as guides start one, with the two switches that TorchServe needs for the rest."""
    server = serve_module(
        "--models",
        "classifier=classifier-1.0.mar",
        config=AS_SHOWN,
        prepare=lambda place: write_mar(place.store, "classifier", CLASSIFIER),
    )
    server.wait_for_model("classifier")
    return server


@pytest.mark.row("15-single")
def test_one_object_is_one_prediction(shown):
    answer = shown.predict("classifier", b'{"data": [0.0, 5.0]}')
    assert answer.status == 200
    assert answer.json["class"] == 1


@pytest.mark.row("15-register", "15-lifecycle")
def test_a_second_version_comes_is_scaled_becomes_the_default_and_goes(shown):
    archive = write_mar(shown.place.store, "v2", CLASSIFIER, version="2.0").name
    registered = shown.manage("POST", "/models", url=archive, model_name="classifier_v2")
    assert (registered.status, registered.json) == (
        200,
        {"status": 'Model "classifier_v2" Version: 2.0 registered with 1 initial workers'},
    )
    scaled = shown.manage("PUT", "/models/classifier_v2", min_worker=2, max_worker=4)
    assert (scaled.status, scaled.json) == (202, {"status": "Processing worker updates..."})
    assert len(shown.wait_for_workers("classifier_v2", 2)) == 2
    default = shown.manage("PUT", "/models/classifier_v2/2.0/set-default")
    assert (default.status, default.json) == (
        200,
        {"status": 'Default version successfully updated for model "classifier_v2" to "2.0"'},
    )
    listed = shown.manage("GET", "/models").json["models"]
    assert [it["modelName"] for it in listed] == ["classifier", "classifier_v2"]
    gone = shown.manage("DELETE", "/models/classifier_v2/2.0")
    assert (gone.status, gone.json) == (200, {"status": 'Model "classifier_v2" unregistered'})


@pytest.mark.row("15-list", only="ours")
def test_a_list_is_answered_by_a_list(shown):
    rows = [{"data": [0.0, 5.0]}, {"data": [5.0, 0.0]}]
    answer = shown.predict("classifier", json.dumps(rows).encode())
    assert [it["class"] for it in answer.json] == [1, 0]


@pytest.fixture(scope="module")
def plain(serve_module):
    """A server without any switch, on two devices, on a machine without Java."""
    return serve_module(
        config={
            **AS_SHOWN,
            "enable_batch": "true",
            "batch_size": "4",
            "max_batch_delay": "50",
            "metrics_mode": None,
        },
        env={"PATH": "/nowhere", "JAVA_HOME": "/nowhere", "FLAMBEAU_DEVICES": "2"},
        default_flags=(),
    )


@pytest.mark.row("15-management", "15-java", only="ours")
def test_management_as_shown_needs_neither_switches_nor_java(plain):
    archive = plain.add_archive(CLASSIFIER, "managed")
    assert plain.manage("POST", "/models", url=archive).status == 200
    assert plain.predict("managed", b'{"data": [5.0, 0.0]}').json["class"] == 0
    assert plain.manage("DELETE", "/models/managed").status == 200


@pytest.mark.row("15-probes", only="ours")
def test_probes_need_no_key(plain):
    assert plain.inference("GET", "/ping").status == 200


@pytest.mark.row("15-batch-keys", only="ours")
def test_batching_keys_are_the_defaults_of_models(plain):
    with plain.registered(CLASSIFIER) as name:
        described = plain.describe(name)
    assert (described["batchSize"], described["maxBatchDelay"]) == (4, 50)


@pytest.mark.row("15-metrics", only="ours")
def test_the_metrics_of_guides_are_there_by_default(plain):
    with plain.registered(CLASSIFIER) as name:
        plain.predict(name, b'{"data": [5.0, 0.0]}')
        page = plain.metrics().text
    for family in (
        "ts_inference_requests_total",
        "ts_inference_latency_ms_bucket",
        "ts_queue_latency_ms_bucket",
        "ts_model_workers",
    ):
        assert f'{family}{{model_name="{name}"' in page
    assert "# TYPE ts_gpu_memory_used_bytes gauge" in page


SEES = """
import os
import time

def handle(data, context):
    if data is not None:
        time.sleep(2)
        return [os.environ["CUDA_VISIBLE_DEVICES"]]
"""


@pytest.mark.row("15-gpu-id", only="ours")
def test_a_handler_that_ignores_gpu_id_spreads_over_the_devices(plain):
    with plain.registered(SEES, workers=2, query={"batch_size": 1}) as name, plain.wires(2) as two:
        for wire in two:
            wire.send(f"GET /predictions/{name} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert {wire.answer().text for wire in two} == {"0", "1"}
