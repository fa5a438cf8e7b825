"""The context: what handlers read from it, and what they say through it."""

import pytest

from flambeau_runtime.worker.context import Context, Row
from flambeau_runtime.worker.metrics import Dimension, HandlerMetrics, MetricTypes
from ts.metrics.metric import Metric
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.service import emit_metrics


@pytest.fixture
def context():
    made = Context(
        "m", "/models/m", {"model": {"modelName": "m"}}, 8, 1, model_yaml_config={"a": 1}
    )
    rows = [
        Row("id-0", b"X-Who: me\r\nx-who: you\r\nX-Twice: 1\r\nX-Twice: 2\r\n", "text/plain"),
        Row("id-1", b"", url_path="a/b", explain=True, describe=True),
    ]
    made.begin(rows)
    return made


def test_what_does_not_change_between_batches(context):
    assert context.model_name == "m"
    assert context.manifest == {"model": {"modelName": "m"}}
    assert context.model_yaml_config == {"a": 1}
    assert context.system_properties == {
        "model_dir": "/models/m",
        "gpu_id": 1,
        "batch_size": 8,
        "server_name": "MMS",
        "server_version": "0.12.0",
        "limit_max_image_pixels": True,
    }


def test_request_ids_are_those_of_the_answers(context):
    assert context.request_ids == {0: "id-0", 1: "id-1"}
    assert context.get_request_id(1) == "id-1"
    assert context.get_request_id(7) is None
    assert context.metrics.request_ids == context.request_ids


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("X-Who", "me", id="in the client's own spelling"),
        pytest.param("x-who", "you", id="in another one, another header"),
        pytest.param("X-WHO", None, id="not in a spelling nobody sent"),
        pytest.param("X-Twice", "2", id="one value of a repeated header"),
        pytest.param("explain", "False", id="whether an explanation is asked for"),
        pytest.param("url_path", "", id="what follows the version in the path"),
        pytest.param("describe", None, id="no word of descriptions"),
        pytest.param("body", {"content-type": "text/plain"}, id="the body's content type"),
    ],
)
def test_request_headers_are_found(context, name, value):
    assert context.get_request_header(0, name) == value


def test_the_server_says_what_is_asked_for(context):
    assert context.get_all_request_header(1) == {
        "body": {"content-type": ""},
        "explain": "True",
        "url_path": "a/b",
        "describe": "True",
    }


def test_answers_are_shaped_row_by_row(context):
    context.set_response_status(201, "Made", 1)
    context.set_response_content_type(0, "image/png")
    context.set_response_header(0, "X-A", "1")
    assert context.get_response_status(0) == (200, None)
    assert context.get_response_status(1) == (201, "Made")
    assert context.get_response_content_type(0) == "image/png"
    assert context.get_response_headers(0) == {"content-type": "image/png", "X-A": "1"}
    assert context.get_response_content_type(1) is None
    context.set_all_response_status(503, "Busy")
    assert context.get_response_status(0) == context.get_response_status(1) == (503, "Busy")


@pytest.fixture
def metrics():
    return HandlerMetrics("m", {0: "id-0", 1: "id-1"})


BOTH = "id-0,id-1"
MEASURED = [
    ("counts", lambda m: m.add_counter("N", 2), "Count", "counter", BOTH),
    ("times of one row", lambda m: m.add_time("N", 2, 1), "Milliseconds", "gauge", "id-1"),
    ("times in seconds", lambda m: m.add_time("N", 2, None, "s"), "Seconds", "gauge", BOTH),
    ("sizes", lambda m: m.add_size("N", 2, unit="kB"), "Kilobytes", "gauge", BOTH),
    ("percentages", lambda m: m.add_percent("N", 2), "Percent", "gauge", BOTH),
    (
        "anything else",
        lambda m: m.add_metric("N", 2, "hops", metric_type=MetricTypes.HISTOGRAM),
        "hops",
        "histogram",
        BOTH,
    ),
]


@pytest.mark.parametrize(
    ("measure", "unit", "kind", "request_id"),
    [pytest.param(*rest, id=name) for name, *rest in MEASURED],
)
def test_a_handler_measures(metrics, measure, unit, kind, request_id):
    measure(metrics)
    assert metrics.drain() == [
        {
            "name": "N",
            "value": 2.0,
            "unit": unit,
            "type": kind,
            "dimensions": [("ModelName", "m"), ("Level", "Model")],
            "requestId": request_id,
        }
    ]


def test_dimensions_of_the_handler_go_before_the_usual_ones(metrics):
    metrics.add_counter("N", 1, dimensions=[Dimension("Level", "Deep"), Dimension("K", 5)])
    metrics.add_error("Bad")
    counted, error = metrics.drain()
    assert counted["dimensions"] == [("Level", "Deep"), ("K", "5"), ("ModelName", "m")]
    assert (error["dimensions"], error["unit"]) == ([("Level", "Error")], "unit")
    assert error["requestId"] == ""


def test_a_declared_metric_is_found_again_and_has_its_own_dimensions(metrics):
    metrics.add_metric_to_cache("Loads", "count", ["Kind"], MetricTypes.COUNTER)
    metrics.get_metric("Loads").add_or_update(1, ["cold"])
    assert metrics.drain()[0]["dimensions"] == [("Kind", "cold")]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda m: m.add_time("N", 1, unit="hours"), id="a unit that is no time"),
        pytest.param(lambda m: m.add_size("N", 1, unit="ms"), id="a unit that is no size"),
        pytest.param(lambda m: m.get_metric("Unknown"), id="a metric nobody declared"),
        pytest.param(lambda m: m.add_metric_to_cache(5, "count"), id="a name that is no text"),
        pytest.param(
            lambda m: m.add_metric_to_cache("N", "count", "A"), id="names that are no list"
        ),
        pytest.param(lambda m: m.get_metric("N", "counter"), id="a type that is a word"),
    ],
)
def test_wrong_measurements_raise_in_the_handler(metrics, wrong):
    with pytest.raises((ValueError, KeyError, TypeError)):
        wrong(metrics)
    assert metrics.drain() == []


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(
            lambda m: m.add_metric_to_cache("N", "count", ["A"]).add_or_update(1), id="no dimension"
        ),
        pytest.param(
            lambda m: m.add_metric_to_cache("N", "count").add_or_update(-1), id="a falling counter"
        ),
        pytest.param(lambda m: m.add_counter("N", -1), id="a falling counter by its short name"),
    ],
)
def test_a_value_that_cannot_be_is_logged_and_fails_no_request(metrics, wrong, caplog):
    wrong(metrics)
    assert metrics.drain() == []
    assert "metric N was not updated" in caplog.text


def test_metrics_of_old_reach_the_context_of_this_worker():
    context = Context("m", ".", {}, 1, None)
    emit_metrics([Metric("Old", 3, "ms", [Dimension("K", "v")], "id-7")])
    (update,) = context.metrics.drain()
    assert (update["name"], update["value"], update["requestId"]) == ("Old", 3.0, "id-7")
    assert (update["unit"], update["dimensions"]) == ("Milliseconds", [("K", "v")])


def test_a_metrics_file_declares_metrics_for_a_unit_test(tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_text("model_metrics:\n  gauge: [{name: Load, unit: ms, dimensions: [Kind]}]\n")
    metrics = MetricsCacheYamlImpl(str(path))
    metrics.initialize_cache()
    metrics.get_metric("Load", MetricTypes.GAUGE).add_or_update(1, ["cold"])
    assert metrics.drain()[0]["dimensions"] == [("Kind", "cold")]


def test_measurements_without_end_do_not_eat_the_memory(metrics):
    for _ in range(20_000):
        metrics.add_counter("N", 1)
    assert len(metrics.drain()) == 10_000
    metrics.add_counter("N", 1)
    assert len(metrics.drain()) == 1
