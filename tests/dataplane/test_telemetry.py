"""What is counted, and how it looks when somebody scrapes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from flambeau_runtime.api.machine import (
    MACHINE_FAMILIES,
    Machine,
    Reading,
    look_at_machine,
    make_look,
    parse_devices,
    parse_lines,
)
from flambeau_runtime.api.metrics import RuntimeCollector, render
from flambeau_runtime.metric_families import SERIES_KEPT
from flambeau_runtime.serving.counters import Counters, Histogram
from flambeau_runtime.settings import Family, MetricsFile, MetricsMode, Settings
from flambeau_runtime.telemetry import Telemetry, VersionMetrics, make_telemetry

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
    "WorkerThreadTime",
    "WorkerLoadTime",
    "HandlerTime",
    "PredictionTime",
    *MACHINE_FAMILIES,
}


def measured(name="Seen", kind="counter", value=1.0, **dimensions):
    pairs = [[key, text] for key, text in {**dimensions, "ModelName": "m"}.items()]
    return {"name": name, "unit": "ms", "type": kind, "value": value, "dimensions": pairs}


def one_version(latencies_ms=()) -> VersionMetrics:
    latency, queue = Histogram(), Histogram()
    for milliseconds in latencies_ms:
        latency.observe(milliseconds)
    return VersionMetrics(
        model="classifier",
        version="1.0",
        errors=0,
        latency=latency,
        queue=queue,
        queue_wait_ms=0.0,
        batch_ms=0.0,
        workers=2,
    )


def page(telemetry, names=()) -> str:
    registry = CollectorRegistry()
    machine = Machine(look_at_machine, telemetry.recorder)
    machine.read()
    registry.register(machine)
    registry.register(RuntimeCollector(telemetry, telemetry.recorder))
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
    telemetry.handler_measured([measured(kind=kind, value=value) for value in values])
    found = samples(page(telemetry))
    assert {key: found[key] for key in shown} == pytest.approx(shown)


def test_a_handlers_dimensions_keep_their_order_and_the_host_comes_last():
    telemetry = Telemetry()
    telemetry.handler_measured([measured(Level="Error", Kind='quo"te')])
    assert 'Seen{Level="Error",Kind="quo\\"te",ModelName="m",Hostname=' in page(telemetry)


def test_a_name_that_prometheus_would_refuse_is_spelled_with_underscores():
    telemetry = Telemetry()
    telemetry.handler_measured([measured("9 lives-left")])
    assert samples(page(telemetry))["_9_lives_left", ""] == 1


def test_two_kinds_under_one_name_do_not_break_the_page():
    telemetry = Telemetry()
    telemetry.handler_measured([measured(kind="counter", value=1)])
    telemetry.handler_measured([measured(kind="gauge", value=9)])
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
    telemetry.handler_measured([update, measured("Good")])
    assert telemetry.handler_updates_refused == 1
    assert [family.name for family, series in telemetry.handler_store.collect() if series] == [
        "Good"
    ]


def test_a_handler_that_labels_by_request_cannot_fill_the_memory():
    telemetry = Telemetry()
    updates = (measured(Request=str(number)) for number in range(SERIES_KEPT + 5))
    telemetry.handler_measured(updates)
    shown = {family.name: series for family, series in telemetry.handler_store.collect()}
    assert len(shown["Seen"]) == SERIES_KEPT
    assert telemetry.handler_updates_refused == 5


def test_devices_are_read_from_nvidias_table():
    first, second = parse_devices("0, 1024, 4096, 50\n1, [N/A], 4096, [N/A]\n")
    assert first["ts_gpu_memory_used_bytes"] == str(1024 * 1024 * 1024.0)
    assert first["GPUMemoryUtilization"] == "25.0"
    assert (second["index"], second["GPUUtilization"]) == ("1", "0.0")


def test_requests_are_counted_under_the_version_that_they_name():
    telemetry = Telemetry()
    counters = Counters(telemetry.asked_of("m", "1.0"), telemetry.asked_of("m", "default"))
    counters.answered(latency_s=0.002, queue_s=0.001, named=True)
    counters.failed(latency_s=0.001, queue_s=0.0)
    assert (counters.requests, counters.errors) == (2, 1)
    text = page(telemetry)
    assert re.search(
        r'ts_inference_requests_total{model_name="m",model_version="1.0",hostname="[^"]+",} 1.0\n',
        text,
    )
    assert re.search(r'ts_inference_latency_microseconds{[^}]*"default"[^}]*} 1000.0\n', text)


def test_what_was_asked_of_a_model_outlives_its_versions():
    telemetry = Telemetry()
    for version in ("1.0", "2.0"):
        counters = Counters(telemetry.asked_of("m", version), telemetry.asked_of("m", "default"))
        counters.answered(0.001, 0.0)
    assert samples(page(telemetry))["ts_inference_requests_total", ""] == 2


# a metrics file and the modes


FILE = MetricsFile(
    front=(
        Family("ts_inference_requests_total", "counter", "Count", ("model", "version", "host")),
        Family("QueueTime", "histogram", "Milliseconds", ("Level", "Hostname")),
    ),
    model=(Family("Seen", "gauge", "things", ("ModelName",)),),
)


def recorded(mode=MetricsMode.PROMETHEUS, file=FILE, auto_detect=None):
    telemetry = make_telemetry(
        Settings(metrics_mode=mode, metrics_file=file, metrics_auto_detect=auto_detect)
    )
    accounts = telemetry.asked_of("m", "1.0"), telemetry.asked_of("m", "default")
    Counters(*accounts, telemetry.recorder).answered(0.002, 0.001)
    if telemetry.access is not None:
        telemetry.access("127.0.0.1:1", "GET", "/ping", 200, 0.1)
    telemetry.handler_measured([measured(), measured("Other")])
    return telemetry


def test_a_metrics_file_takes_the_place_of_what_is_built_in():
    text = page(recorded())
    shown = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert {"ts_inference_requests_total", "QueueTime", "Seen"} <= shown
    assert not shown & {"Requests2XX", "MemoryUsed", "PredictionTime", "Other"}
    assert 'ts_inference_requests_total{model="m",version="default",host=' in text


def test_a_metrics_file_may_make_a_histogram_of_a_gauge():
    found = samples(page(recorded()))
    assert (found["QueueTime_bucket", "0.75"], found["QueueTime_bucket", "1.0"]) == (0, 1)
    assert found["QueueTime_sum", ""] == 1


def test_kind_and_unit_of_a_handlers_metric_are_those_of_the_file():
    text = page(recorded())
    assert "# HELP Seen Torchserve prometheus gauge metric with unit: things" in text


@pytest.mark.parametrize(
    ("file", "auto_detect", "shown"),
    [
        pytest.param(None, None, True, id="without a file everything is shown"),
        pytest.param(None, False, False, id="unless that is switched off"),
        pytest.param(FILE, None, False, id="a file says what is shown"),
        pytest.param(FILE, True, True, id="unless what it leaves out is detected"),
    ],
)
def test_what_no_file_names_is_shown_or_not(file, auto_detect, shown):
    found = samples(page(recorded(file=file, auto_detect=auto_detect)))
    assert (("Other", "") in found) is shown


def test_the_legacy_mode_shows_the_ts_counters_only():
    found = {name for name, _ in samples(page(recorded(MetricsMode.LEGACY, file=None)))}
    theirs = {name for name in found if not name.startswith("ts_inference_latency_ms")}
    assert {"ts_inference_requests_total", "ts_queue_latency_microseconds"} <= theirs
    assert not theirs & {"Requests2XX", "QueueTime", "MemoryUsed", "Seen", "Other"}


def test_the_log_mode_writes_a_line_per_measurement(caplog):
    caplog.set_level("INFO")
    telemetry = recorded(MetricsMode.LOG, file=None)
    telemetry.worker_loaded("W-9000-m_1.0", 12.6)
    lines = {record.name.rpartition(".")[2]: [] for record in caplog.records}
    for record in caplog.records:
        host = telemetry.recorder.hostname
        line = record.line.replace(f"hostname:{host}", "hostname:h")
        lines[record.name.rpartition(".")[2]].append(line)
    assert lines["ts_metrics"] == [
        "ts_inference_requests_total.Count:1.0|#model_name:m,model_version:default|#hostname:h,timestamp:",
        "ts_inference_latency_microseconds.Microseconds:2000.0|#model_name:m,model_version:default|#hostname:h,timestamp:",
        "ts_queue_latency_microseconds.Microseconds:1000.0|#model_name:m,model_version:default|#hostname:h,timestamp:",
        "QueueTime.Milliseconds:1.0|#Level:Host|#hostname:h,timestamp:",
        "Requests2XX.Count:1.0|#Level:Host|#hostname:h,timestamp:",
        "WorkerLoadTime.Milliseconds:13.0|#WorkerName:W-9000-m_1.0,Level:Host|#hostname:h,timestamp:",
    ]
    assert lines["model_metrics"] == [
        f"{name}.ms:1.0|#ModelName:m|#hostname:h,requestID:null,timestamp:"
        for name in ("Seen", "Other")
    ]


# the machine


def test_a_script_of_the_users_own_measures_the_machine(tmp_path):
    script = tmp_path / "measure.py"
    script.write_text(
        "import sys\n"
        "print('CPUUtilization.Percent:12.5|#Level:Host|#hostname:h,timestamp:1')\n"
        "print('GPUMemoryUsed.Megabytes:7|#Level:Host,device_id:3|#hostname:h,1')\n"
        "print('nonsense', sys.argv[1])\n"
    )
    look = make_look(Settings(system_metrics_cmd=f"{script} --gpu"))
    assert look() == [Reading("CPUUtilization", 12.5), Reading("GPUMemoryUsed", 7.0, "3")]


@pytest.mark.parametrize("body", ["raise SystemExit(3)", "print('no'); import nobody_has_this"])
def test_a_script_that_fails_measures_nothing_and_says_so(tmp_path, body, caplog):
    script = tmp_path / "measure.py"
    script.write_text(body)
    assert make_look(Settings(system_metrics_cmd=str(script)))() == ()
    assert "system_metrics_cmd failed" in caplog.text


@pytest.mark.parametrize(
    "line", ["", "Name", "Name.Unit:many|#Level:Host|#x", "x" * 10_000, "a.b:|#|#"]
)
def test_lines_that_are_no_measurement_are_passed_by(line):
    assert list(parse_lines(line)) == []


def test_nobody_looks_at_the_machine_when_that_is_switched_off():
    assert make_look(Settings(system_metrics=False))() == ()


def test_versions_that_share_the_requests_of_a_model_are_told_apart():
    telemetry = Telemetry()
    old, new = one_version([1.0]), replace(one_version([1.0, 2.0]), version="2.0")
    telemetry.versions = lambda: [replace(old, weight=95), replace(new, weight=5, errors=1)]
    text = page(telemetry)
    labels = 'model_name="classifier",model_version="{}",hostname="[^"]*",'
    for version, weight, count, errors in (("1.0", 95, 1, 0), ("2.0", 5, 2, 1)):
        mine = labels.format(re.escape(version))
        assert re.search(rf"flambeau_model_weight{{{mine}}} {weight}.0\n", text)
        assert re.search(rf"ts_inference_latency_ms_count{{{mine}}} {count}.0\n", text)
        assert re.search(rf"ts_inference_errors_total{{{mine}}} {errors}.0\n", text)


def test_a_shadow_has_families_of_its_own_and_without_one_there_are_none():
    telemetry = Telemetry()
    telemetry.versions = lambda: [one_version()]
    assert "flambeau_shadow" not in page(telemetry)
    copies = Counters().copies
    copies.answered, copies.errors, copies.dropped, copies.compared, copies.different = (
        9,
        1,
        2,
        8,
        3,
    )
    copies.latency.observe(4.0)
    telemetry.versions = lambda: [
        one_version(),
        replace(one_version(), version="2.0", copies=copies),
    ]
    found = samples(page(telemetry))
    names = ("copies", "errors", "dropped", "compared", "different")
    assert [found[f"flambeau_shadow_{name}_total", ""] for name in names] == [9, 1, 2, 8, 3]
    assert found["flambeau_shadow_latency_ms_bucket", "5.0"] == 1
