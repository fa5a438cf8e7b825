"""JSON lists: one request or many? Learnt once per worker, or said by the model."""

import json
import logging

import pytest

from flambeau_runtime import protocol
from flambeau_runtime.errors import PredictionFailed
from tests.handlers import answers, json_row, load_handler, process_as_it_was

ONE_OBJECT_EACH = """
calls = []
def handle(data, context):
    if data is None:
        return None
    calls.append(len(data))
    return [{"double": row["body"]["x"] * 2, "calls": list(calls)} for row in data]
"""
LISTS_TOO = "def handle(data, context): return data and [len(row['body']) for row in data]"


@pytest.fixture(autouse=True)
def _restored():
    with process_as_it_was():
        yield


@pytest.fixture
def load(tmp_path):
    return lambda code, split="auto", batch=4: load_handler(
        tmp_path, code, splitJsonArrays=split, batchSize=batch
    )


def xs(*numbers):
    return [{"x": number} for number in numbers]


def doubles(answer):
    return [element["double"] for element in answer]


def test_a_list_for_a_handler_of_single_objects_is_answered_by_a_list(load):
    (answer,) = answers(load(ONE_OBJECT_EACH), xs(1, 2, 3))
    assert doubles(answer) == [2, 4, 6]


def test_the_whole_is_tried_first_and_only_once(load, caplog):
    caplog.set_level(logging.INFO)
    loaded = load(ONE_OBJECT_EACH)
    answers(loaded, xs(1, 2))
    (answer,) = answers(loaded, xs(1, 2))
    assert answer[0]["calls"] == [1, 2, 2], "whole, split, and then split at once"
    assert [record.message for record in caplog.records if "JSON lists" in record.message] == [
        (
            "the handler takes one object at a time; JSON lists are split "
            "(set splitJsonArrays to decide it yourself)"
        )
    ]


def test_a_handler_that_takes_lists_keeps_getting_them_whole(load):
    loaded = load(LISTS_TOO)
    assert answers(loaded, [1, 2, 3]) == [3]
    with pytest.raises(PredictionFailed, match=r"^Prediction failed\. TypeError[^;]*$"):
        answers(loaded, 5)
    assert answers(loaded, [1, 2]) == [2]


def test_a_list_of_one_proves_nothing(load):
    picky = """
def handle(data, context):
    return data and [(len(row["body"]) == 1 and row["body"][0] or row["body"])["x"] for row in data]
"""
    loaded = load(picky)
    assert answers(loaded, xs(7)) == [7]
    assert answers(loaded, [{"x": 1, "a": 0}, {"x": 2, "a": 0}]) == [[1, 2]]


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        pytest.param(4, [4, 1], id="in chunks of the batch size"),
        pytest.param(1, [1] * 5, id="one by one when the batch size is one"),
        pytest.param(8, [5], id="together when there is room"),
    ],
)
def test_elements_run(load, batch, sizes):
    (answer,) = answers(load(ONE_OBJECT_EACH, "on", batch), xs(1, 2, 3, 4, 5))
    assert doubles(answer) == [2, 4, 6, 8, 10]
    assert answer[-1]["calls"] == sizes


def test_lists_and_objects_may_share_a_batch(load):
    first, second, third = answers(load(ONE_OBJECT_EACH), {"x": 1}, xs(2, 3), {"x": 4})
    assert (first["double"], doubles(second), third["double"]) == (2, [4, 6], 8)


def test_a_bad_element_fails_its_own_caller_only(load):
    loaded = load(ONE_OBJECT_EACH)
    rows = [json_row(xs(1, 2)), json_row([{"x": 1}, {"y": 2}]), json_row({"x": 5})]
    good, bad, single = loaded.run(rows)
    assert doubles(json.loads(good.body)) == [2, 4]
    assert bad.status == protocol.ROW_FAULT
    assert json.loads(bad.body)["message"] == "Prediction failed. KeyError: 'x'"
    assert json.loads(single.body)["double"] == 10


def test_when_nothing_works_both_reasons_are_told(load):
    with pytest.raises(
        PredictionFailed, match=r"KeyError: 'x' \(element .* whole list: .*TypeError"
    ):
        answers(load(ONE_OBJECT_EACH), [{"y": 1}])


def test_off_means_off(load):
    with pytest.raises(PredictionFailed, match="TypeError"):
        answers(load(ONE_OBJECT_EACH, "off"), xs(1, 2))


def test_on_means_at_once(load):
    assert answers(load(LISTS_TOO, "on"), [[1], [1, 2]]) == [[1, 2]]


def test_an_empty_list_is_answered_by_an_empty_list(load):
    assert answers(load(ONE_OBJECT_EACH, "on"), []) == [[]]


def test_text_results_become_elements(load):
    code = "def handle(data, c): return data and [str(row['body']) for row in data]"
    assert answers(load(code, "on"), [1, "é"]) == [["1", "é"]]


def test_bytes_that_are_no_text_cannot_be_elements(load):
    code = "def handle(data, c): return data and [b'\\xff' for row in data]"
    with pytest.raises(PredictionFailed, match="Bytes cannot be an element"):
        answers(load(code, "on"), [1])


def test_headers_set_for_a_split_row_reach_its_answer(load):
    code = """
def handle(data, context):
    if data:
        context.set_response_header(0, "X-Id", context.get_request_id(0))
        return [1 for _ in data]
"""
    result = load(code, "on").run([json_row([1, 2], "mine")])[0]
    assert result.headers == (("X-Id", "mine"),)


STREAMS = """
def handle(data, context):
    if data is None:
        return None
    calls.append(len(data))
    context.cl_socket.send(["piece"] * len(data), context.request_ids, "ok", 200, context)
    return [row["body"]["x"] for row in data]
calls = []
"""


class Outlet:
    """What a handler sends through, noted."""

    def __init__(self):
        self.sent = []

    @property
    def begun(self):
        return bool(self.sent)

    def send(self, _results, ids, _message, _code, context):
        if context.in_list:
            raise PredictionFailed("elements cannot be streamed")
        self.sent.append(ids)


def test_a_list_is_not_tried_again_element_by_element_after_its_first_piece(load):
    loaded = load(STREAMS)
    outlet = loaded.context.cl_socket = Outlet()
    with pytest.raises(PredictionFailed, match="TypeError"):
        loaded.run([json_row(xs(1, 2))])
    assert len(outlet.sent) == 1


def test_elements_of_a_list_are_marked_as_such_for_those_who_stream(load):
    loaded = load(STREAMS, split="on")
    loaded.context.cl_socket = Outlet()
    with pytest.raises(PredictionFailed, match="elements cannot be streamed"):
        loaded.run([json_row(xs(1, 2))])
    assert not loaded.context.in_list
