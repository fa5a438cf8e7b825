"""When two answers count as the same."""

import json

import pytest
from hypothesis import given, strategies

from flambeau_operator.plan.differences import difference
from flambeau_operator.resources.comparison import Comparison

ROWS = [
    pytest.param({"a": 1}, {"a": 1.0}, {}, None, id="numbers by value"),
    pytest.param({"a": 1}, {"a": True}, {}, "$.a: true, not 1", id="true is no number"),
    pytest.param({"a": 1}, {}, {}, "$.a: nothing, not 1", id="a field that is missing"),
    pytest.param({}, {"a": None}, {}, "$.a: null, not nothing", id="null is not missing"),
    pytest.param([1, 2], [1], {}, "$: 1 items, not 2", id="another length"),
    pytest.param([1.0], [1.05], {"$[*]": (0.1, None)}, None, id="within absolute"),
    pytest.param([1.0], [1.2], {"$[*]": (0.1, None)}, "$[0]: 1.2, not 1.0", id="beyond it"),
    pytest.param([100], [101], {"$": (None, 0.01)}, None, id="relative to the larger one, below"),
    pytest.param(
        {"s": [{"v": 1, "w": 1}]},
        {"s": [{"v": 2, "w": 2}]},
        {"$.s[*].v": (1, None)},
        "$.s[0].w: 2, not 1",
        id="a tolerance holds for its own path alone",
    ),
    pytest.param(["a"], ["b"], {"$[*]": (9, None)}, '$[0]: "b", not "a"', id="words have none"),
]


@pytest.mark.parametrize(("old", "new", "tolerances", "words"), ROWS)
def test_json_is_compared_by_value(old, new, tolerances, words):
    rules = Comparison.model_validate(
        {
            "tolerances": [
                {"path": path, "absolute": absolute, "relative": relative}
                for path, (absolute, relative) in tolerances.items()
            ]
        }
    )
    assert difference(json.dumps(old).encode(), json.dumps(new).encode(), rules) == words


def test_what_is_ignored_may_be_anything_and_may_be_missing():
    rules = Comparison(ignore=("$.id", "$.rows[*].at"))
    old = b'{"id": 1, "rows": [{"at": 1, "v": 1}]}'
    assert difference(old, b'{"rows": [{"at": {"x": 2}, "v": 1}]}', rules) is None
    assert difference(old, b'{"rows": [{"at": 1, "v": 2}]}', rules) == "$.rows[0].v: 2, not 1"


def test_what_is_no_json_is_compared_byte_for_byte():
    assert difference(b"\xff\x00", b"\xff\x00", None) is None
    assert difference(b"\xff\x00", b"\xff\x01", None) == "other bytes from byte 1 of 2"
    assert difference(b"\xff\x00", b"\xff", None) == "1 bytes, not 2"


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=3), inner, max_size=3)
    ),
)


@given(JSON, JSON)
def test_two_answers_differ_both_ways_or_not_at_all(one, other):
    first, second = json.dumps(one).encode(), json.dumps(other, indent=1).encode()
    there, back = difference(first, second, None), difference(second, first, None)
    assert (there is None) == (back is None)
