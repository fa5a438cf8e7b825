"""Section 3: what is measured, under which names, on the page and in the logs."""

from __future__ import annotations

import re
import socket

import pytest

from tests.compat.server import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

HOST = socket.gethostname()

MODEL_LOG = "model_metrics.log"
BUCKETS = [
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.075",
    "0.1",
    "0.25",
    "0.5",
    "0.75",
    "1.0",
    "2.5",
    "5.0",
    "7.5",
    "10.0",
    "+Inf",
]

MEASURES = """
from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes

def handle(data, context):
    if data is None:
        return None
    metrics = context.metrics
    metrics.add_counter("Counted", 2)
    metrics.add_counter("Labelled", 2, None, [Dimension("Kind", "a b")])
    metrics.add_time("Lasted", 3.5, None, "s")
    metrics.add_size("Weighed", 4, None, "kB")
    metrics.add_percent("Shared", 50)
    metrics.add_error("Failed", 1)
    metrics.add_metric("Spread", 0.02, unit="hops", metric_type=MetricTypes.HISTOGRAM)
    declared = metrics.add_metric_to_cache("Declared", "count", ["A", "B"], MetricTypes.GAUGE)
    declared.add_or_update(7, ["x", "y"])
    metrics.get_metric("Declared", MetricTypes.GAUGE).add_or_update(8, ["x", "y"])
    metrics.get_metric("Declared", MetricTypes.GAUGE).add_or_update(9, ["only one"])
    said = []
    for wrong in (metrics.add_time, metrics.add_size):
        try:
            wrong("Wrong", 1, None, "hours")
        except ValueError as error:
            said.append("refused")
    return [said for _ in data]
"""
OWN_CLASS = """
from ts.torch_handler.base_handler import BaseHandler

class Own(BaseHandler):
    def initialize(self, context):
        self.context = context
        self.initialized = True

    def preprocess(self, data):
        return data

    def inference(self, data):
        return data

    def postprocess(self, data):
        return [1 for _ in data]
"""
FILE = """
dimensions:
  - &host "host"
ts_metrics:
  counter:
    - {name: Requests2XX, unit: Count, dimensions: ["Level", *host]}
  histogram:
    - {name: QueueTime, unit: Milliseconds, dimensions: ["Level", *host]}
model_metrics:
  counter:
    - {name: Counted, unit: count, dimensions: ["ModelName", "Level"]}
"""


def page(server, names=()) -> str:
    query = "&".join(f"name[]={name}" for name in names)
    answer = server.metrics(f"/metrics?{query}" if names else "/metrics")
    assert answer.status == 200
    return answer.text


def line(server, start: str) -> str:
    """Wait for the line that begins so, and return it."""

    def found() -> str | None:
        return next((it for it in page(server).splitlines() if it.startswith(start)), None)

    return until(found)


def value(server, start: str) -> float:
    return float(line(server, start).rpartition(" ")[2])


@pytest.fixture(scope="module")
def detecting(serve_module):
    return serve_module(config={"model_metrics_auto_detect": "true"})


@pytest.fixture(scope="module")
def measured(detecting):
    with detecting.registered(MEASURES) as model:
        assert detecting.predict(model).json == ["refused", "refused"]
        assert detecting.predict(f"{model}/1.0").status == 200
        yield model


@pytest.fixture(scope="module")
def logging(serve_module):
    server = serve_module(
        config={
            "metrics_mode": "log",
            "model_metrics_auto_detect": "true",
            "metric_time_interval": "1",
        }
    )
    with server.registered(MEASURES) as model:
        assert server.predict(model).status == 200
        yield server, model


@pytest.mark.row("3-mode-prometheus", "4.2-metrics")
def test_the_page_is_prometheus_text(detecting):
    answer = detecting.metrics()
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
    assert "# TYPE ts_inference_requests_total counter\n" in answer.text


@pytest.mark.row("3-ts-requests", "3-label-comma")
def test_requests_are_counted_by_the_version_that_they_name(detecting, measured):
    for version in ("default", "1.0"):
        labels = f'model_name="{measured}",model_version="{version}",hostname="{HOST}",'
        start = f"ts_inference_requests_total{{{labels}}} "
        before = value(detecting, start)
        path = measured if version == "default" else f"{measured}/{version}"
        assert detecting.predict(path).status == 200
        until(lambda start=start, before=before: value(detecting, start) == before + 1)


@pytest.mark.parametrize(
    "name", ["ts_inference_latency_microseconds", "ts_queue_latency_microseconds"]
)
@pytest.mark.row("3-ts-latency", "3-ts-queue")
def test_latencies_are_running_sums_of_microseconds(detecting, measured, name):
    start = f'{name}{{model_name="{measured}",model_version="default",hostname="{HOST}",}} '
    before = value(detecting, start)
    assert 0 < before < 60_000_000
    detecting.predict(measured)
    until(lambda: value(detecting, start) > before)
    assert f"# TYPE {name} counter\n" in page(detecting)


@pytest.mark.row("3-requests-by-class")
def test_answers_are_counted_by_the_class_of_their_status(detecting, measured):
    labels = f'{{Level="Host",Hostname="{HOST}",}} '
    detecting.predict("nobody")
    refused, answered = (value(detecting, f"Requests{it}XX{labels}") for it in (4, 2))
    detecting.predict("nobody")
    detecting.predict(measured)
    until(lambda: value(detecting, f"Requests4XX{labels}") == refused + 1)
    assert value(detecting, f"Requests2XX{labels}") > answered
    assert "# TYPE Requests5XX counter\n" in page(detecting)


@pytest.mark.parametrize("name", ["QueueTime", "WorkerThreadTime"])
@pytest.mark.row("3-queue-time")
@pytest.mark.usefixtures("measured")
def test_times_of_the_last_batch_are_gauges_in_milliseconds(detecting, name):
    labels = f'{{Level="Host",Hostname="{HOST}",}} '
    assert 0 <= value(detecting, f"{name}{labels}") < 60_000
    help_text = "Torchserve prometheus gauge metric with unit: Milliseconds"
    assert f"# HELP {name} {help_text}\n# TYPE {name} gauge\n" in page(detecting)


@pytest.mark.row("3-worker-load-time")
def test_a_worker_says_how_long_it_loaded(detecting, measured):
    (worker,) = detecting.workers(measured)
    name = f"W-{worker['id']}-{measured}_1.0"
    start = f'WorkerLoadTime{{WorkerName="{name}",Level="Host",Hostname="{HOST}",}} '
    assert 1 < value(detecting, start) < 120_000


@pytest.mark.parametrize(
    "name",
    [
        "CPUUtilization",
        "MemoryUsed",
        "MemoryAvailable",
        "MemoryUtilization",
        "DiskUsage",
        "DiskUtilization",
        "DiskAvailable",
    ],
)
@pytest.mark.row("3-system")
def test_the_host_is_measured(detecting, name):
    assert value(detecting, f'{name}{{Level="Host",Hostname="{HOST}",}} ') >= 0


@pytest.mark.parametrize("name", ["GPUMemoryUtilization", "GPUMemoryUsed", "GPUUtilization"])
@pytest.mark.row("3-gpu")
def test_devices_have_families_even_where_there_are_none(detecting, name):
    assert f"# TYPE {name} gauge\n" in page(detecting)


@pytest.mark.row("3-handler-time")
def test_times_of_handlers_are_gauges_in_milliseconds(detecting):
    with detecting.registered(OWN_CLASS) as model:
        assert detecting.predict(model).status == 200
        for name in ("HandlerTime", "PredictionTime"):
            labels = f'{{ModelName="{model}",Level="Model",Hostname="{HOST}",}} '
            assert value(detecting, f"{name}{labels}") >= 0
            help_text = "Torchserve prometheus gauge metric with unit: ms"
            assert f"# HELP {name} {help_text}\n# TYPE {name} gauge\n" in page(detecting)


@pytest.mark.row("3-helps")
@pytest.mark.usefixtures("measured")
def test_helps_name_kind_and_unit(detecting):
    line(detecting, "Weighed{")
    text = page(detecting)
    for name, kind, unit in (
        ("Requests2XX", "counter", "Count"),
        ("ts_queue_latency_microseconds", "counter", "Microseconds"),
        ("DiskUsage", "gauge", "Gigabytes"),
        ("Weighed", "gauge", "Kilobytes"),
        ("Lasted", "gauge", "Seconds"),
        ("Shared", "gauge", "Percent"),
        ("Spread", "histogram", "hops"),
        ("Failed", "counter", "unit"),
    ):
        assert f"# HELP {name} Torchserve prometheus {kind} metric with unit: {unit}\n" in text


@pytest.mark.row("3-histogram-buckets", "3-handler-types")
def test_a_handlers_histogram_has_the_usual_buckets(detecting, measured):
    labels = f'ModelName="{measured}",Level="Model",Hostname="{HOST}",'
    count = value(detecting, f"Spread_count{{{labels}}} ")
    pattern = rf'^Spread_bucket{{{labels}le="(.*?)",}} (.*)$'
    found = re.findall(pattern, page(detecting), re.MULTILINE)
    assert found == [(it, "0.0" if it in {"0.005", "0.01"} else f"{count}") for it in BUCKETS]
    assert value(detecting, f"Spread_sum{{{labels}}} ") == pytest.approx(0.02 * count)


@pytest.mark.row("3-filter")
@pytest.mark.usefixtures("measured")
def test_names_filter_the_page(detecting):
    line(detecting, "Counted{")
    text = page(detecting, ["Counted", "QueueTime"])
    assert set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) == {"Counted", "QueueTime"}
    assert page(detecting, ["NobodyKnowsIt"]) == ""


@pytest.mark.row("3-handler-api", "3-handler-dimensions")
def test_what_a_handler_adds_is_shown(detecting, measured):
    usual = f'ModelName="{measured}",Level="Model",Hostname="{HOST}",'
    requests = value(detecting, f"Counted{{{usual}}} ") / 2
    assert requests >= 2
    for start, found in (
        (f'Labelled{{Kind="a b",{usual}}} ', 2 * requests),
        (f"Lasted{{{usual}}} ", 3.5),
        (f"Weighed{{{usual}}} ", 4),
        (f"Shared{{{usual}}} ", 50),
        (f'Failed{{Level="Error",Hostname="{HOST}",}} ', requests),
    ):
        assert value(detecting, start) == found


@pytest.mark.row("3-handler-cache")
@pytest.mark.usefixtures("measured")
def test_a_declared_metric_has_its_own_labels_and_wrong_values_change_nothing(detecting):
    assert value(detecting, f'Declared{{A="x",B="y",Hostname="{HOST}",}} ') == 8


@pytest.mark.row("3-handler-wrong-unit")
def test_a_wrong_unit_raises_in_the_handler(detecting, measured):
    assert detecting.predict(measured).json == ["refused", "refused"]


@pytest.mark.row("3-auto-detect", "4.2-metrics")
@pytest.mark.usefixtures("measured")
def test_metrics_that_no_file_names_are_shown_when_detected(detecting):
    assert value(detecting, "Counted{") > 0


@pytest.mark.row("3-unlisted")
def test_metrics_that_no_file_names_are_dropped(serve):
    server = serve(config={"model_metrics_auto_detect": "false"})
    with server.registered(MEASURES) as model:
        assert server.predict(model).status == 200
        line(server, f'PredictionTime{{ModelName="{model}"')
        assert "Counted" not in page(server)


@pytest.mark.row("3-unlisted-default", only="ours")
def test_metrics_that_no_file_names_are_shown_unless_that_is_switched_off(ts):
    with ts.registered(MEASURES) as model:
        assert ts.predict(model).status == 200
        assert value(ts, f'Counted{{ModelName="{model}"') == 2


@pytest.fixture(scope="module")
def with_file(serve_module):
    def write(place) -> None:
        (place.folder / "metrics.yaml").write_text(FILE)

    server = serve_module(config={"metrics_config": "metrics.yaml"}, prepare=write)
    with server.registered(MEASURES) as model:
        assert server.predict(model).status == 200
        line(server, f'Counted{{ModelName="{model}"')
        yield server


@pytest.mark.row("3-metrics-file", "4.2-metrics")
def test_a_metrics_file_takes_the_place_of_the_built_in_one(with_file):
    text = page(with_file)
    assert re.search(rf'^Requests2XX{{Level="Host",host="{HOST}",}} ', text, re.MULTILINE)
    assert "Weighed" not in text


@pytest.mark.row("3-metrics-file-unlisted")
def test_what_a_metrics_file_leaves_out_disappears(with_file):
    shown = set(re.findall(r"^# TYPE (\w+)", page(with_file), re.MULTILINE))
    assert not shown & {"Requests4XX", "ts_inference_requests_total", "MemoryUsed", "HandlerTime"}


@pytest.mark.row("3-metrics-file-histogram")
def test_a_metrics_file_may_make_a_histogram_of_a_gauge(with_file):
    text = page(with_file)
    assert "# TYPE QueueTime histogram\n" in text
    assert re.search(
        rf'^QueueTime_bucket{{Level="Host",host="{HOST}",le="10.0",}} 1.0$', text, re.MULTILINE
    )


@pytest.mark.row("3-metrics-file-broken", only="ours")
def test_a_broken_metrics_file_is_refused_with_its_place(place):
    (place.folder / "metrics.yaml").write_text("ts_metrics: [1]\n")
    place.configure({"metrics_config": "metrics.yaml"})
    ended = place.run("--start", "--model-store", "store")
    assert ended.returncode == 1
    assert "metrics_config=metrics.yaml cannot be: ts_metrics is not a mapping" in ended.stdout


@pytest.mark.row("3-mode-log")
def test_the_log_mode_has_an_empty_page(logging):
    server, _ = logging
    answer = server.metrics()
    assert (answer.status, answer.body) == (200, b"")
    for name in ("ts_metrics.log", "model_metrics.log"):
        assert until(lambda name=name: server.log(name))


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3} - "


@pytest.mark.parametrize(
    "measurement",
    [
        r"ts_inference_requests_total\.Count:1\.0\|#model_name:MODEL,model_version:default",
        r"ts_inference_latency_microseconds\.Microseconds:\d+\.\d+\|#model_name:MODEL,model_version:default",
        r"ts_queue_latency_microseconds\.Microseconds:\d+\.\d+\|#model_name:MODEL,model_version:default",
        r"Requests2XX\.Count:1\.0\|#Level:Host",
        r"QueueTime\.Milliseconds:\d+\.0\|#Level:Host",
        r"WorkerThreadTime\.Milliseconds:\d+\.0\|#Level:Host",
        r"WorkerLoadTime\.Milliseconds:\d+\.0\|#WorkerName:W-\d+-MODEL_1\.0,Level:Host",
        r"MemoryUtilization\.Percent:\d+\.\d+\|#Level:Host",
        r"DiskAvailable\.Gigabytes:\d+\.\d+\|#Level:Host",
    ],
)
@pytest.mark.row("3-log-frontend")
def test_the_servers_own_measurements_are_lines(logging, measurement):
    server, model = logging
    pattern = rf"^{TIME}{measurement.replace('MODEL', model)}\|#hostname:{HOST},timestamp:\d{{10}}$"
    until(lambda: re.search(pattern, server.log("ts_metrics.log"), re.MULTILINE))


@pytest.mark.row("3-log-handler")
def test_a_handlers_measurements_are_lines_with_the_requests_id(logging):
    server, model = logging
    request_id = server.predict(model).header("x-request-id")
    of_model = rf"ModelName:{model},Level:Model"
    for start, request in (
        (rf"Counted\.Count:2\.0\|#{of_model}", request_id),
        (rf"Labelled\.Count:2\.0\|#Kind:a b,{of_model}", request_id),
        (rf"Lasted\.Seconds:3\.5\|#{of_model}", request_id),
        (r"Failed\.unit:1\.0\|#Level:Error", "null"),
        (r"Declared\.Count:8\.0\|#A:x,B:y", "null"),
        (rf"PredictionTime\.ms:\d+\.\d+\|#{of_model}", request_id),
    ):
        pattern = rf"^{TIME}{start}\|#hostname:{HOST},requestID:{request},timestamp:\d{{10}}$"
        until(
            lambda pattern=pattern: re.search(
                pattern, server.log("model_metrics.log"), re.MULTILINE
            )
        )


@pytest.mark.row("3-mode-unknown")
def test_an_unknown_mode_counts_as_log(serve):
    server = serve(config={"metrics_mode": "statsd"})
    assert server.metrics().body == b""


@pytest.mark.row("3-mode-default", only="ours")
def test_prometheus_is_the_default_mode(serve):
    def without_mode(place) -> None:
        lines = "".join(f"{key}={value}\n" for key, value in place.ports.config().items())
        (place.folder / "plain.properties").write_text(lines)

    server = serve("--ts-config", "plain.properties", prepare=without_mode)
    assert "ts_model_workers" in page(server)


@pytest.mark.row("3-mode-legacy")
def test_the_legacy_mode_shows_the_ts_counters(serve):
    server = serve(config={"metrics_mode": "legacy"})
    with server.registered(MEASURES) as model:
        assert server.predict(model).status == 200
        assert value(server, f'ts_inference_requests_total{{model_name="{model}"') == 1
        text = page(server)
        assert not re.search(
            r"^(Requests2XX|PredictionTime|MemoryUsed|QueueTime){", text, re.MULTILINE
        )
        until(lambda: "Requests2XX.Count:1.0" in server.log("ts_metrics.log"))


@pytest.mark.row("3-system-settings")
def test_the_host_is_not_measured_when_that_is_switched_off(serve):
    server = serve(config={"disable_system_metrics": "true"})
    assert not re.search(r"^(MemoryUsed|CPUUtilization){", page(server), re.MULTILINE)


GUIDE_NAMES = (
    "ts_inference_requests_total",
    "ts_inference_latency_ms",
    "ts_queue_latency_ms",
    "ts_gpu_memory_used_bytes",
    "ts_model_workers",
)


@pytest.mark.row("3-guide-names", only="ours")
def test_the_five_names_of_the_guide_are_there(ts):
    with ts.registered(MEASURES) as model:
        ts.predict(model)
        text = page(ts)
        for name in GUIDE_NAMES:
            assert f"# TYPE {name} " in text
        for name in ("ts_inference_latency_ms_bucket", "ts_queue_latency_ms_bucket"):
            assert re.search(rf'^{name}{{model_name="{model}",', text, re.MULTILINE)
        assert value(ts, f'ts_model_workers{{model_name="{model}"') == 1
