"""The inputs of a gRPC call as a row: packed by the front, read by the worker."""

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime import protocol
from flambeau_runtime.protocol import Garbage, pack_parts, unpack_parts
from flambeau_runtime.worker.context import RequestProcessor, Row
from flambeau_runtime.worker.rows import read_row

PARTS = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8), st.binary(max_size=64)))


def body_of(*parts):
    return b"".join(bytes(piece) for piece in pack_parts(parts))


def read(*parts, headers=b"", decode=True):
    row = Row("id", headers, protocol.PARTS, memoryview(body_of(*parts)))
    processor = RequestProcessor(row)
    return read_row(row, processor, decode), processor.get_request_properties()


@given(PARTS)
def test_unpacking_is_the_opposite_of_packing(parts):
    unpacked = [(name, kind, bytes(value)) for name, kind, value in unpack_parts(body_of(*parts))]
    assert unpacked == parts


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\1", id="cut within the lengths"),
        pytest.param(body_of(("a", "", b"xyz"))[:-1], id="cut within a value"),
        pytest.param(b"\xff" * 12, id="lengths of gigabytes"),
        pytest.param(b"\1\0\0\0" + bytes(8) + b"\xff", id="a name that is no text"),
    ],
)
def test_garbage_is_refused(body):
    with pytest.raises(Garbage):
        list(unpack_parts(body))


def test_inputs_are_the_keys_of_the_row_and_never_decoded():
    row, headers = read(("body", "", b'{"a": 1}'), ("data", "", b"\xff"))
    assert row == {"body": bytearray(b'{"a": 1}'), "data": bytearray(b"\xff")}
    assert all(type(value) is bytearray for value in row.values())
    assert headers == {"body": {"content-type": ""}, "data": {"content-type": ""}}


def test_a_call_without_inputs_is_an_empty_row():
    assert read() == ({}, {})


def test_a_part_with_a_content_type_is_decoded_by_it():
    row, headers = read(("body", "application/json", b'{"a": 1}'))
    assert row == {"body": {"a": 1}}
    assert headers == {"body": {"content-type": "application/json"}}


def test_decode_input_request_false_leaves_it_as_bytes():
    assert read(("body", "application/json", b"{}"), decode=False)[0] == {"body": bytearray(b"{}")}


def test_an_input_named_like_a_header_leaves_the_header_alone():
    _, headers = read(
        ("ts_request_sequence_end", "", b"true"), headers=b"ts_request_sequence_end: true\r\n"
    )
    assert headers == {"ts_request_sequence_end": "true"}


def test_no_header_of_an_http_request_can_claim_to_be_a_call():
    import httptools  # noqa: PLC0415

    head = b"POST /predictions/m HTTP/1.1\r\nContent-Type: %b\r\n\r\n" % protocol.PARTS.encode()
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(object()).feed_data(head)
