"""A handler whose batch goes on: what it gets, and how its criteria are asked."""

import pytest

from flambeau_runtime.errors import PredictionFailed
from flambeau_runtime.protocol import WITH_HANDLER
from flambeau_runtime.worker.context import Row
from tests.handlers import load_handler, process_as_it_was

COUNTS = """
seen = {}

def handle(data, context):
    if data is None:
        return None
    for index, row in enumerate(data):
        key = context.get_request_id(index)
        if row:
            seen[key] = [0, row["body"]["calls"]]
        seen[key][0] += 1
    counts = [seen[context.get_request_id(index)] for index in range(len(data))]
    context.stopping_criteria = [lambda result, left=left: left[0] >= left[1] for left in counts]
    return [f"{done} of {calls}" for done, calls in counts]
"""


@pytest.fixture(autouse=True)
def _restored():
    with process_as_it_was():
        yield


@pytest.fixture
def load(tmp_path):
    return lambda code, **more: load_handler(tmp_path, code, continuousBatching=True, **more)


def new(key, calls):
    body = b'{"calls": %d}' % calls
    return Row(key, b"A: b\r\n", "application/json", body)


def known(key):
    return Row(key, b"A: b\r\n", "", WITH_HANDLER)


def answered(results):
    return [(result.body.decode(), dict(result.headers)["ts_stream_next"]) for result in results]


def test_a_row_comes_with_its_body_once_and_goes_on_until_its_criterion_says_stop(load):
    loaded = load(COUNTS)
    assert answered(loaded.run([new("a", 2)])) == [("1 of 2", "true")]
    assert answered(loaded.run([known("a"), new("b", 1)])) == [
        ("2 of 2", "false"),
        ("1 of 1", "false"),
    ]


def test_headers_of_a_row_that_is_known_are_still_there(load):
    loaded = load("def handle(data, c): return data and [[row, c.get_request_header(0, 'A')]\n"
                  "        for row in data]")  # fmt: skip
    [result] = loaded.run([known("a")])
    assert result.body == b'[\n  {},\n  "b"\n]'


def test_an_empty_body_is_not_one_that_is_known(load):
    loaded = load("def handle(data, context): return data and [str(row) for row in data]")
    [result] = loaded.run([Row("a", b"", "", memoryview(b""))])
    assert result.body == b"{'body': bytearray(b'')}"


def test_without_criteria_every_row_is_finished(load):
    loaded = load("def handle(data, context): return data and ['x' for row in data]")
    [result] = loaded.run([new("a", 1)])
    assert result.headers == ()


def test_a_criterion_that_has_no_opinion_finishes_the_row(load):
    loaded = load(COUNTS.replace("left[0] >= left[1]", "None"))
    [result] = loaded.run([new("a", 3)])
    assert result.headers == ()


def test_a_criterion_that_raises_fails_the_call(load):
    loaded = load(COUNTS.replace("left[0] >= left[1]", "1 / 0"))
    with pytest.raises(PredictionFailed, match="ZeroDivisionError"):
        loaded.run([new("a", 3)])


def test_json_lists_are_rows_as_they_are(load):
    loaded = load("def handle(data, context): return data and [len(row['body']) for row in data]")
    [result] = loaded.run([Row("a", b"", "application/json", b"[1, 2, 3]")])
    assert result.body == b"3"
