"""Section 7.2: what a handler finds in its context."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

LOOKS = """
    import os

    class Handler:
        def initialize(self, context):
            self.at_load = {
                "model_name": context.model_name,
                "manifest": context.manifest["model"]["modelName"],
                "config": context.model_yaml_config,
                "request_ids": context.request_ids,
                "request_id": context.get_request_id(),
            }

        def handle(self, data, context):
            properties = dict(context.system_properties)
            directory = properties.pop("model_dir")
            return [
                {
                    "at_load": self.at_load,
                    "properties": properties,
                    "in_directory": os.path.isfile(os.path.join(directory, "handler.py")),
                    "ids": [context.request_ids[index], context.get_request_id(index)],
                    "no_id": context.get_request_id(99),
                    "of_metrics": context.metrics.request_ids[index],
                    "cl_socket": hasattr(context, "cl_socket"),
                    "processor": context.request_processor[index].get_request_property("X-Mine"),
                    "header": context.get_request_header(index, "X-Mine"),
                    "otherwise_spelt": context.get_request_header(index, "x-mine"),
                    "all": context.get_all_request_header(index).get("X-Mine"),
                }
                for index in range(len(data))
            ]
"""
ANSWERS = """
    def handle(data, context):
        if data is None:
            return None
        before = context.get_response_status(0)
        context.set_response_status(code=201, phrase="Made", idx=0)
        context.set_response_header(0, "X-Kind", "new")
        context.set_response_content_type(0, "text/x-mine")
        return [{
            "before": before,
            "status": context.get_response_status(0),
            "headers": context.get_response_headers(0),
            "type": context.get_response_content_type(0),
        }]

    def all_of_them(data, context):
        if data is None:
            return None
        context.set_all_response_status(code=202, phrase="Later")
        return ["x" for _ in data]
"""
MEASURES = """
    def handle(data, context):
        if data is None:
            return None
        context.metrics.add_counter("SeenBySeven", 2)
        return [[name for name in dir(context.metrics) if name.startswith("add_")]]
"""


@pytest.fixture(scope="module")
def seen(ts):
    with ts.registered(
        LOOKS, config="handler: {deep: [1, two]}\n", query={"batch_size": 3}
    ) as model:
        headers = {"Content-Type": "application/json", "X-Mine": "yes"}
        answer = ts.predict(model, b"{}", headers)
        assert answer.status == 200, answer.text
        yield {**answer.json, "model": model, "request_id": answer.header("x-request-id")}


@pytest.mark.row("7.2-names")
def test_it_names_the_model_its_manifest_and_its_configuration(seen):
    assert seen["at_load"] == {
        "model_name": seen["model"],
        "manifest": seen["model"],
        "config": {"handler": {"deep": [1, "two"]}},
        "request_ids": None,
        "request_id": None,
    }


@pytest.mark.row("7.2-names")
def test_without_a_file_the_configuration_is_an_empty_dict(ts):
    code = "def handle(data, context): return data and [context.model_yaml_config]\n"
    with ts.registered(code) as model:
        assert ts.predict(model).json == {}


@pytest.mark.row("7.2-system-properties")
def test_it_knows_the_properties_of_the_system(seen):
    assert seen["properties"] == {
        "gpu_id": None,
        "batch_size": 3,
        "server_name": "MMS",
        "server_version": "0.12.0",
        "limit_max_image_pixels": True,
    }
    assert seen["in_directory"]


@pytest.mark.row("7.2-request-ids")
def test_request_ids_are_those_of_the_answers(seen):
    assert seen["ids"] == [seen["request_id"]] * 2
    assert seen["no_id"] is None


@pytest.mark.row("7.2-metrics")
def test_metrics_know_the_requests(seen):
    assert seen["of_metrics"] == seen["request_id"]


@pytest.mark.row("7.2-metrics")
def test_metrics_are_there_to_be_added_to(ts):
    with ts.registered(MEASURES) as model:
        added = set(ts.predict(model).json)
    assert {
        "add_counter",
        "add_error",
        "add_metric",
        "add_percent",
        "add_size",
        "add_time",
    } <= added


@pytest.mark.row("7.2-request-headers")
def test_request_headers_are_found_in_the_clients_own_spelling(seen):
    assert [seen["processor"], seen["header"], seen["all"]] == ["yes"] * 3
    assert seen["otherwise_spelt"] is None


@pytest.mark.row("7.2-cl-socket")
def test_the_socket_of_streaming_helpers_is_there(seen):
    assert seen["cl_socket"] is True


@pytest.mark.row("7.2-response")
def test_a_handler_sets_and_reads_status_and_headers_of_its_answer(ts):
    with ts.registered(ANSWERS) as model:
        answer = ts.predict(model)
    assert (answer.status, answer.reason) == (201, "Made")
    assert (answer.header("X-Kind"), answer.header("content-type")) == ("new", "text/x-mine")
    found = answer.json
    assert found["before"] == [200, None]
    assert found["status"] == [201, "Made"]
    assert found["headers"] == {"X-Kind": "new", "content-type": "text/x-mine"}
    assert found["type"] == "text/x-mine"


@pytest.mark.row("7.2-response")
def test_a_handler_sets_the_status_of_every_answer(ts):
    with ts.registered(ANSWERS, handler="handler.py:all_of_them") as model:
        answer = ts.predict(model)
    assert (answer.status, answer.reason, answer.body) == (202, "Later", b"x")
