"""When two answers are the same."""

import orjson
import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.compare import LARGEST_JSON_BYTES, Comparison, read_rules
from flambeau_runtime.serving.desired import Shadow, Tolerance
from flambeau_runtime.serving.job import Prediction

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
)


def compared(real, copy, *tolerances, ignore=(), places=10_000):
    rules = read_rules(Shadow("2.0", 100, tolerances, tuple(ignore)))
    comparison = Comparison(Prediction(body=real), Prediction(body=copy), rules)
    while not comparison.step(places):
        pass
    return comparison


def difference(real, copy, *tolerances, **how):
    return compared(orjson.dumps(real), orjson.dumps(copy), *tolerances, **how).difference


@pytest.mark.parametrize(
    ("real", "copy", "said"),
    [
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, None, id="the order of fields is none"),
        pytest.param([1, 2], [2, 1], "$[0]: 2, not 1", id="that of items is one"),
        pytest.param(1, 1.0, None, id="a number is its value"),
        pytest.param(1, True, "$: true, not 1", id="a truth is no number"),
        pytest.param(0, None, "$: null, not 0", id="nor is null"),
        pytest.param("1", 1, '$: 1, not "1"', id="nor a text"),
        pytest.param([1], [1, 2], "$: 2 items, not 1", id="one item more"),
        pytest.param({"a": 1}, {}, "$.a: nothing, not 1", id="a field less"),
        pytest.param({}, {"a": 1}, "$.a: 1, not nothing", id="a field more"),
        pytest.param({"a": [{"b": 5}]}, {"a": [{"b": 6}]}, "$.a[0].b: 6, not 5", id="deep within"),
        pytest.param({"a": [1]}, {"a": {"0": 1}}, '$.a: {"0":1}, not [1]', id="another shape"),
    ],
)
def test_json_is_compared_by_value_and_the_first_difference_is_told(real, copy, said):
    assert difference(real, copy) == said


@pytest.mark.parametrize(
    ("real", "copy", "tolerance", "same"),
    [
        pytest.param([1.0], [1.01], Tolerance("$", absolute=0.02), True, id="all numbers"),
        pytest.param([1.0], [1.03], Tolerance("$", absolute=0.02), False, id="not so far"),
        pytest.param([100], [101], Tolerance("$[*]", relative=0.01), True, id="a share"),
        pytest.param([100], [102], Tolerance("$[*]", relative=0.01), False, id="a larger share"),
        pytest.param([0.0], [0.001], Tolerance("$", relative=0.5), False, id="a share of nothing"),
        pytest.param([1, 5], [1, 6], Tolerance("$[1]", absolute=1), True, id="one item"),
        pytest.param([5, 1], [6, 1], Tolerance("$[1]", absolute=1), False, id="another item"),
        pytest.param(
            {"a": {"b": 5}}, {"a": {"b": 6}}, Tolerance("$.a", absolute=1), True, id="below"
        ),
        pytest.param({"ab": 5}, {"ab": 6}, Tolerance("$.a", absolute=1), False, id="not its start"),
        pytest.param({"0": 5}, {"0": 6}, Tolerance("$[0]", absolute=1), False, id="no item"),
        pytest.param(["x"], ["y"], Tolerance("$", absolute=9), False, id="texts have none"),
        pytest.param([1], [True], Tolerance("$", absolute=9), False, id="truths have none"),
    ],
)
def test_numbers_may_lie_apart_as_far_as_their_place_allows(real, copy, tolerance, same):
    assert (difference(real, copy, tolerance) is None) is same


def test_of_the_tolerances_that_fit_the_first_counts():
    strict, loose = Tolerance("$.a", absolute=0.1), Tolerance("$", absolute=9)
    # `$` fits higher up, but stands behind `$.a`.
    assert difference({"a": 1, "b": 1}, {"a": 1, "b": 2}, strict, loose) is None
    assert difference({"a": 1}, {"a": 2}, strict, loose) == "$.a: 2, not 1"
    assert difference({"a": 1}, {"a": 2}, loose, strict) is None


def test_what_is_ignored_may_differ_or_be_missing():
    real, copy = {"id": 1, "items": [{"at": 5, "v": 1}]}, {"items": [{"at": 6, "v": 1}]}
    assert difference(real, copy, ignore=["$.id", "$.items[*].at"]) is None
    assert difference(real, copy, ignore=["$.items[*].at"]) == "$.id: nothing, not 1"
    assert difference({"x": 1}, {"x": 2}, Tolerance("$", absolute=0), ignore=["$.x"]) is None


@pytest.mark.parametrize(
    ("real", "copy", "said"),
    [
        pytest.param(b"\x00\x01", b"\x00\x01", None, id="the same"),
        pytest.param(
            b"\x00\x01\x02", b"\x00\x02\x02", "other bytes from byte 1 of 3", id="another"
        ),
        pytest.param(b"\xff", b"\xff\xff", "2 bytes, not 1", id="a longer one"),
        pytest.param(b"", b"{}", "2 bytes, not 0", id="nothing at all"),
    ],
)
def test_all_else_is_compared_byte_for_byte(real, copy, said):
    assert compared(real, copy).difference == said


def test_another_status_is_a_difference():
    comparison = Comparison(Prediction(200, body=b"1"), Prediction(404, body=b"1"), ())
    assert comparison.step(0)
    assert comparison.difference == "status 404, not 200"


def test_about_long_answers_nobody_says_more_than_that_they_are_the_same():
    long = b" " * LARGEST_JSON_BYTES + b"1"
    assert (compared(long, long).difference, compared(long, long).undecided) == (None, False)
    assert (compared(long, b"2").difference, compared(long, b"2").undecided) == (None, True)


def test_a_comparison_goes_on_where_it_stopped():
    real = orjson.dumps(list(range(1_000)))
    copy = orjson.dumps([*range(999), 0])
    comparison = Comparison(Prediction(body=real), Prediction(body=copy), ())
    steps = 0
    while not comparison.step(100):
        assert comparison.difference is None
        steps += 1
    assert steps == 10
    assert comparison.difference == "$[999]: 0, not 999"


@given(JSON)
def test_whatever_is_written_otherwise_is_the_same(value):
    written = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    assert compared(orjson.dumps(value), written).difference is None


@given(JSON, JSON)
def test_two_values_are_the_same_only_if_their_one_writing_is(one, other):
    writings = [orjson.dumps(it, option=orjson.OPT_SORT_KEYS) for it in (one, other)]
    assert (difference(one, other) is None) is (writings[0] == writings[1])
