"""What handlers return leaves byte for byte as TorchServe sends it."""

import enum
import json
import math

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.errors import PredictionFailed
from flambeau_runtime.worker.results import dumps, encode

numbers = st.floats() | st.integers() | st.floats(-1e-3, 1e-3) | st.integers(-(2**70), 2**70)
plain = st.none() | st.booleans() | numbers | st.text()
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner)
        | st.lists(st.floats())
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.integers(), inner)
        | st.tuples(inner, inner)
    ),
)


@given(values)
def test_json_is_written_as_json_itself_writes_it(value):
    assert dumps(value) == json.dumps(value, indent=2).encode()


@pytest.mark.parametrize(
    "value",
    [
        1e-5,
        1.5e-5,
        9.99e-5,
        1e-4,
        1e-7,
        1e-10,
        1e15,
        1e16,
        1e17,
        1.7e308,
        5e-324,
        -0.0,
        math.nan,
        math.inf,
        -math.inf,
        2**64,
        -(2**63) - 1,
        "\x7f",
        "é",
        "\ud800",
        "\u2028",
        "null",
        "e-",
        '\x00\x1f\b\f\n/"\\',
    ],
    ids=ascii,
)
def test_what_writers_of_json_differ_in_is_written_alike(value):
    for holder in (value, [value], {"k": value}, {"k": [value, {"d": value}]}, [1.0, value]):
        assert dumps(holder) == json.dumps(holder, indent=2).encode()


class Colour(enum.StrEnum):
    RED = "red"


class Count(enum.IntEnum):
    ONE = 1


class Named(dict):
    pass


@pytest.mark.parametrize("value", [Colour.RED, Count.ONE, Named(a=1), (1, 2), True], ids=repr)
def test_subclasses_of_plain_types_are_written_as_those(value):
    assert dumps([value]) == json.dumps([value], indent=2).encode()


@pytest.mark.parametrize(
    ("result", "body"),
    [
        pytest.param("é", "é".encode(), id="text as UTF-8, not as JSON"),
        pytest.param(b"\xff", b"\xff", id="bytes as they are"),
        pytest.param(bytearray(b"x"), b"x", id="a bytearray as it is"),
        pytest.param(3, b"3", id="a number as JSON"),
        pytest.param(None, b"null", id="None as null"),
        pytest.param(True, b"true", id="True as true"),
        pytest.param([], b"[]", id="an empty list"),
        pytest.param({"a": [1]}, b'{\n  "a": [\n    1\n  ]\n}', id="a dict, indented by two"),
    ],
)
def test_a_result_becomes(result, body):
    assert encode(result) == body


@pytest.mark.parametrize(
    "result",
    [object(), {1, 2}, {"a": object()}, [b"x"], {(1, 2): 3}, 1j],
    ids=["an object", "a set", "an object inside", "bytes inside", "a tuple as key", "complex"],
)
def test_what_json_cannot_say_is_refused(result):
    with pytest.raises(PredictionFailed, match=r"^Unsupported model output data type\. TypeError"):
        encode(result)


def test_a_result_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(PredictionFailed, match="Unsupported"):
        encode(endless)
