"""The metrics page of a real runtime: TorchServe's names and the guide's, fed by real requests."""

from __future__ import annotations

import re

import pytest

from tests.compat.server import call, serving, until, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime")
    archive = write_archive(folder / "store", config="minWorkers: 1\nmaxWorkers: 1\n")
    with serving(folder, "--models", f"classifier={archive}") as server:
        until(lambda: server.predict("classifier").status == 200)
        yield server


def value(server, name, **labels):
    """Return the value of the one sample with these labels, None without one."""
    page = call("GET", f"{server.metrics}/metrics").body.decode()
    for line in page.splitlines():
        match = re.fullmatch(rf"{re.escape(name)}\{{(.*)\}} (\S+)", line)
        if match and all(f'{key}="{text}"' in match[1] for key, text in labels.items()):
            return float(match[2])
    return None


def test_the_page_is_prometheus_text(server):
    answer = call("GET", f"{server.metrics}/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.body.endswith(b"\n")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        pytest.param(
            "ts_inference_requests_total", {"model_name": "classifier"}, id="requests per model"
        ),
        pytest.param(
            "ts_inference_latency_microseconds",
            {"model_name": "classifier", "model_version": "default"},
            id="latencies as TorchServe sums them",
        ),
        pytest.param(
            "ts_inference_latency_ms_count", {"model_name": "classifier"}, id="a latency histogram"
        ),
        pytest.param(
            "ts_queue_latency_ms_bucket",
            {"model_name": "classifier", "le": "+Inf"},
            id="a queue histogram",
        ),
        pytest.param("Requests2XX", {"Level": "Host"}, id="answers by status"),
        pytest.param("PredictionTime", {"ModelName": "classifier"}, id="the handler's time"),
        pytest.param("Seen", {"ModelName": "classifier"}, id="what the handler counts itself"),
    ],
)
def test_a_request_moves_the_numbers(server, name, labels):
    before = value(server, name, **labels)
    assert server.predict("classifier").status == 200
    # What a worker measures comes in a frame of its own, after the answer.
    until(lambda: value(server, name, **labels) != before)


def test_a_scrape_shows_all_that_has_been_answered(server):
    for expected in range(1, 4):
        seen = value(server, "Seen", ModelName="classifier")
        for _ in range(expected):
            assert server.predict("classifier").status == 200
        assert value(server, "Seen", ModelName="classifier") == seen + expected


def test_workers_are_counted_per_model(server):
    assert value(server, "ts_model_workers", model_name="classifier") == 1


def test_a_refused_request_is_a_4xx(server):
    before = value(server, "Requests4XX")
    assert server.predict("nobody").status == 404
    assert value(server, "Requests4XX") == before + 1


def test_a_worker_has_a_load_time(server):
    assert value(server, "WorkerLoadTime", WorkerName="W-9000-classifier_1.0") > 0


def test_the_machine_is_measured_when_asked(server):
    assert 0 < value(server, "MemoryUtilization", Level="Host") < 100


def test_names_filter_the_page(server):
    page = call("GET", f"{server.metrics}/metrics?name[]=ts_model_workers").body.decode()
    assert {line.split("{")[0] for line in page.splitlines() if not line.startswith("#")} == {
        "ts_model_workers"
    }


def test_the_metrics_port_has_nothing_else(server):
    assert call("GET", f"{server.metrics}/models").status == 404
    assert call("POST", f"{server.metrics}/metrics", b"").status == 405
