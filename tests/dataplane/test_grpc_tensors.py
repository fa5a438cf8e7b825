"""Tensors of the Open Inference Protocol: every datatype, both ways, and what does not fit."""

import math
import struct

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.api.grpc import tensors
from flambeau_runtime.api.grpc.protos.open_inference_pb2 import InferTensorContents
from flambeau_runtime.api.grpc.tensors import BadTensor

INTEGERS = {
    f"{sign}INT{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits - (not sign)) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}


def elements_of(datatype):
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.binary(max_size=20)
    if datatype in INTEGERS:
        least, most = INTEGERS[datatype]
        return st.integers(least, most)
    width = 32 if datatype == "BF16" else int(datatype[2:])
    return st.floats(width=width, allow_nan=False)


@pytest.mark.parametrize("datatype", [name for name in tensors.DATATYPES if name != "BF16"])
@given(st.data())
def test_raw_bytes_and_elements_are_one(datatype, data):
    elements = data.draw(st.lists(elements_of(datatype), max_size=8))
    raw = tensors.to_raw(datatype, elements)
    assert tensors.from_raw(datatype, [len(elements)], raw) == elements


@pytest.mark.parametrize("datatype", [n for n in tensors.DATATYPES if n not in {"BF16", "FP16"}])
@given(st.data())
def test_contents_and_elements_are_one(datatype, data):
    elements = data.draw(st.lists(elements_of(datatype), max_size=8))
    contents = tensors.to_contents(datatype, elements)
    assert tensors.from_contents(datatype, contents) == elements


@given(st.lists(st.floats(-(2.0**126), 2.0**126, width=32), max_size=8))
def test_bf16_is_the_nearest_of_its_neighbours(elements):
    [*rounded] = tensors.from_raw("BF16", [len(elements)], tensors.to_raw("BF16", elements))
    for exact, near in zip(elements, rounded, strict=True):
        assert abs(exact - near) <= max(abs(exact) / 256, 1e-38)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(1.0, b"\x80\x3f", id="one"),
        pytest.param(float("inf"), b"\x80\x7f", id="infinity stays infinite"),
        pytest.param(1.00390625, b"\x80\x3f", id="a tie goes to the even neighbour"),
        pytest.param(1.01171875, b"\x82\x3f", id="a tie goes to the even neighbour, upwards too"),
    ],
)
def test_bf16_is_the_upper_half_of_a_float32(value, words):
    assert tensors.to_raw("BF16", [value]) == words


def test_bf16_keeps_not_a_number():
    [nan] = tensors.from_raw("BF16", [1], tensors.to_raw("BF16", [math.nan]))
    assert math.isnan(nan)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "says"),
    [
        pytest.param("FP32", [2], b"1234", "needs 8 bytes, there are 4", id="too few bytes"),
        pytest.param("FP32", [1], b"12345", "needs 4 bytes, there are 5", id="too many bytes"),
        pytest.param("FP32", [-1], b"", "needs 0 bytes", id="a shape that cannot be"),
        pytest.param("FP31", [1], b"", "FP31 is none of BOOL, INT8", id="an unknown datatype"),
        pytest.param("", [1], b"", "no datatype is none of", id="no datatype"),
        pytest.param("BYTES", [2], b"\1\0\0\0a", "needs 2 elements", id="too few elements"),
        pytest.param("BYTES", [1], b"\2\0\0\0a", "longer than what is there", id="cut in text"),
        pytest.param("BYTES", [1], b"\2\0\0", "within the length", id="cut in a length"),
        pytest.param("BYTES", [1], b"\xff\xff\xff\xff", "longer than", id="a length of gigabytes"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(datatype, shape, raw, says):
    with pytest.raises(BadTensor, match=says):
        tensors.from_raw(datatype, shape, raw)


@pytest.mark.parametrize(
    ("datatype", "elements"),
    [
        ("INT8", [300]),
        ("INT32", ["a"]),
        ("UINT64", [-1]),
        ("FP32", [None]),
        ("FP16", ["x"]),
        ("BYTES", ["text"]),
    ],
)
def test_elements_of_another_kind_are_refused_as_raw_bytes(datatype, elements):
    with pytest.raises(BadTensor, match=f"its data is not {datatype}"):
        tensors.to_raw(datatype, elements)


@pytest.mark.parametrize(
    ("datatype", "elements"), [("INT32", ["a"]), ("INT32", [2**40]), ("FP64", [None])]
)
def test_elements_of_another_kind_are_refused_in_contents(datatype, elements):
    with pytest.raises(BadTensor, match=f"its data is not {datatype}"):
        tensors.to_contents(datatype, elements)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_contents(datatype):
    assert tensors.only_raw(datatype)
    assert tensors.from_contents(datatype, InferTensorContents(fp32_contents=[1])) is None


def test_nested_lists_are_one_tensor():
    assert tensors.flat([[1, 2], [3, [4]]]) == [1, 2, 3, 4]


def test_data_that_is_no_list_is_refused():
    with pytest.raises(BadTensor, match="not a list"):
        tensors.flat("abc")


def test_a_float32_is_the_number_that_was_sent():
    [element] = tensors.from_raw("FP32", [1], struct.pack("<f", 1 / 3))
    assert element == struct.unpack("<f", struct.pack("<f", 1 / 3))[0]
