"""What is counted, and how it looks when somebody scrapes."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry

from flambeau_runtime.api.machine import HOST_GAUGES, Machine, parse_devices
from flambeau_runtime.api.metrics import RuntimeCollector, render
from flambeau_runtime.serving.counters import Histogram
from flambeau_runtime.telemetry import HANDLER_SERIES_KEPT, Telemetry, VersionMetrics

GUIDE_NAMES = {
    "ts_inference_requests_total",
    "ts_inference_latency_ms",
    "ts_queue_latency_ms",
    "ts_gpu_memory_used_bytes",
    "ts_model_workers",
}
TORCHSERVE_NAMES = {
    "ts_inference_requests_total",
    "ts_inference_latency_microseconds",
    "ts_queue_latency_microseconds",
    "Requests2XX",
    "Requests4XX",
    "Requests5XX",
    "QueueTime",
    "WorkerLoadTime",
    "GPUMemoryUsed",
    "GPUUtilization",
    *HOST_GAUGES,
}


def measured(name="Seen", kind="counter", value=1.0, **dimensions):
    pairs = [[key, text] for key, text in dimensions.items()]
    return {"name": name, "unit": "ms", "type": kind, "value": value, "dimensions": pairs}


def one_version(latencies_ms=()) -> VersionMetrics:
    latency, queue = Histogram(), Histogram()
    for milliseconds in latencies_ms:
        latency.observe(milliseconds)
    return VersionMetrics(
        model="classifier",
        version="1.0",
        requests=len(latencies_ms),
        errors=0,
        latency=latency,
        queue=queue,
        latency_us=latency.sum_ms * 1000,
        queue_us=0.0,
        queue_wait_ms=0.0,
        workers=2,
    )


def page(telemetry, names=()) -> str:
    registry = CollectorRegistry()
    registry.register(RuntimeCollector(telemetry))
    machine = Machine()
    machine.read()
    registry.register(machine)
    return render(registry.collect(), names).decode()


def samples(text) -> dict[tuple[str, str], float]:
    """Read a page: (name, value of `le`) to value."""
    # prometheus_client's parser would rename the counters, as its writer would.
    found = {}
    for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        bound = re.search(r'le="([^"]*)"', labels)
        found[name, bound[1] if bound else ""] = float(value)
    return found


@pytest.mark.parametrize("name", sorted(GUIDE_NAMES | TORCHSERVE_NAMES))
def test_every_documented_family_is_on_the_page(name):
    telemetry = Telemetry()
    telemetry.versions = lambda: [one_version()]
    assert f"# TYPE {name} " in page(telemetry)


def test_counters_keep_torchserves_names_without_a_suffix():
    telemetry = Telemetry()
    telemetry.responses[2] = 3
    text = page(telemetry)
    assert "# TYPE Requests2XX counter" in text
    assert samples(text)["Requests2XX", ""] == 3
    assert "Requests2XX_total" not in text


def test_buckets_are_cumulative_and_end_in_the_count():
    telemetry = Telemetry()
    telemetry.versions = lambda: [one_version([0.5, 1.0, 3.0, 100_000.0])]
    found = samples(page(telemetry))
    assert found["ts_inference_latency_ms_bucket", "1.0"] == 2
    assert found["ts_inference_latency_ms_bucket", "5.0"] == 3
    assert found["ts_inference_latency_ms_bucket", "+Inf"] == 4
    assert found["ts_inference_latency_ms_count", ""] == 4
    assert found["ts_inference_latency_ms_sum", ""] == pytest.approx(100_004.5)


def test_only_named_samples_are_shown_when_names_are_given():
    telemetry = Telemetry()
    telemetry.versions = lambda: [one_version([1.0])]
    found = samples(page(telemetry, names={"ts_model_workers", "ts_queue_latency_ms_count"}))
    assert set(found) == {("ts_model_workers", ""), ("ts_queue_latency_ms_count", "")}


@pytest.mark.parametrize(
    ("kind", "values", "shown"),
    [
        pytest.param("counter", [1, 2], {("Seen", ""): 3}, id="counters add up"),
        pytest.param("gauge", [1, 2], {("Seen", ""): 2}, id="gauges keep the last value"),
        pytest.param(
            "histogram",
            [0.02, 3],
            {("Seen_bucket", "0.025"): 1, ("Seen_bucket", "5.0"): 2, ("Seen_sum", ""): 3.02},
            id="histograms count and sum",
        ),
    ],
)
def test_what_a_handler_measures_reaches_the_page(kind, values, shown):
    telemetry = Telemetry()
    telemetry.handler_measured("m", [measured(kind=kind, value=value) for value in values])
    found = samples(page(telemetry))
    assert {key: found[key] for key in shown} == pytest.approx(shown)


def test_a_handlers_dimensions_go_before_the_default_ones():
    telemetry = Telemetry()
    telemetry.handler_measured("m", [measured(Level="Error", Kind='quo"te')])
    assert 'Seen{ModelName="m",Level="Error",Kind="quo\\"te",Hostname=' in page(telemetry)


def test_a_name_that_prometheus_would_refuse_is_spelled_with_underscores():
    telemetry = Telemetry()
    telemetry.handler_measured("m", [measured("9 lives-left")])
    assert samples(page(telemetry))["_9_lives_left", ""] == 1


def test_two_kinds_under_one_name_do_not_break_the_page():
    telemetry = Telemetry()
    telemetry.handler_measured("a", [measured(kind="counter", value=1)])
    telemetry.handler_measured("b", [measured(kind="gauge", value=9)])
    assert samples(page(telemetry))["Seen", ""] == 1


@pytest.mark.parametrize(
    "update",
    [
        pytest.param({}, id="an update without a name"),
        pytest.param(measured() | {"value": "many"}, id="a value that is no number"),
        pytest.param(measured() | {"dimensions": [1]}, id="dimensions that are no pairs"),
        pytest.param(measured(kind="summary"), id="a kind that nobody knows"),
    ],
)
def test_a_senseless_update_is_counted_and_passed_by(update):
    telemetry = Telemetry()
    telemetry.handler_measured("m", [update, measured("Good")])
    assert telemetry.handler_updates_refused == 1
    assert [metric.name for metric in telemetry.handler_metrics()] == ["Good"]


def test_a_handler_that_labels_by_request_cannot_fill_the_memory():
    telemetry = Telemetry()
    updates = (measured(Request=str(number)) for number in range(HANDLER_SERIES_KEPT + 5))
    telemetry.handler_measured("m", updates)
    assert len(telemetry.handler_metrics()) == HANDLER_SERIES_KEPT
    assert telemetry.handler_updates_refused == 5


def test_devices_are_read_from_nvidias_table():
    first, second = parse_devices("0, 1024, 4096, 50\n1, [N/A], 4096, [N/A]\n")
    assert first["ts_gpu_memory_used_bytes"] == str(1024 * 1024 * 1024.0)
    assert first["GPUMemoryUtilization"] == "25.0"
    assert (second["index"], second["GPUUtilization"]) == ("1", "0.0")
