"""Bodies become rows by their content type, as handlers of TorchServe expect them."""

import json

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.worker.context import RequestProcessor, Row
from flambeau_runtime.worker.rows import loads, parameters, read_row

FORM = "application/x-www-form-urlencoded"


def read(body, content_type="", decode=True):
    row = Row("r", b"", content_type, body)
    return read_row(row, RequestProcessor(row), decode)


@pytest.mark.parametrize(
    ("content_type", "body", "row"),
    [
        pytest.param("application/json", b'{"a": 1}', {"body": {"a": 1}}, id="JSON"),
        pytest.param("application/json; charset=utf-8", b"[1]", {"body": [1]}, id="with charset"),
        pytest.param("application/json", b"null", {"body": None}, id="JSON's null"),
        pytest.param(
            "Application/JSON", b"1", {"body": bytearray(b"1")}, id="capital letters: undecoded"
        ),
        pytest.param(
            "application/json",
            b"\xef\xbb\xbf1",
            {"body": bytearray(b"\xef\xbb\xbf1")},
            id="JSON with a byte order mark: undecoded",
        ),
        pytest.param("application/json", b"{", {"body": bytearray(b"{")}, id="broken JSON"),
        pytest.param("application/json", b"", {"body": bytearray()}, id="empty JSON"),
        pytest.param("text/plain", "é".encode(), {"body": "é"}, id="text"),
        pytest.param("text/csv; header=x", b"a,b", {"body": "a,b"}, id="any text"),
        pytest.param("text/plain", b"\xff", {"body": bytearray(b"\xff")}, id="text that is none"),
        pytest.param("", b"raw", {"body": bytearray(b"raw")}, id="no content type"),
        pytest.param("image/png", b"\x89", {"body": bytearray(b"\x89")}, id="anything else"),
        pytest.param(
            FORM,
            b"a=1&b=x+y%21&a=2&c=",
            {"a": bytearray(b"2"), "b": bytearray(b"x y!"), "c": bytearray()},
            id="a form; the last of a name counts",
        ),
    ],
)
def test_a_body_becomes(content_type, body, row):
    found = read(body, content_type)
    assert found == row
    assert {type(value) for value in found.values()} == {type(value) for value in row.values()}


def part(name, value, content_type=None, file='; filename="a file"'):
    lines = [f'Content-Disposition: form-data; name="{name}"{file}']
    lines += [f"Content-Type: {content_type}"] if content_type else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + value


def multipart(*parts, boundary="b0undary"):
    mark = f"--{boundary}".encode()
    body = b"".join(mark + b"\r\n" + content + b"\r\n" for content in parts)
    return f'multipart/form-data; boundary="{boundary}"', body + mark + b"--\r\n"


def test_every_file_is_decoded_by_its_own_content_type_and_fields_are_not():
    content_type, body = multipart(
        part("json", b'{"a": 1}', "application/json"),
        part("text", b"hi", "text/plain"),
        part("image", b"\r\n\x89PNG\r\n--b0und", "image/png"),
        part("plain", b"1"),
        part("plain", b"2"),
        part("field", b"3", "text/plain", file=""),
    )
    row = Row("r", b"", content_type, body)
    processor = RequestProcessor(row)
    assert read_row(row, processor) == {
        "json": {"a": 1},
        "text": "hi",
        "image": bytearray(b"\r\n\x89PNG\r\n--b0und"),
        "plain": bytearray(b"2"),
        "field": bytearray(b"3"),
    }
    types = {"json": "application/json", "text": "text/plain", "image": "image/png"}
    types |= {"plain": "application/octet-stream", "field": ""}
    headers = processor.get_request_properties()
    assert {name: headers[name]["content-type"] for name in types} == types
    assert "body" not in headers


WHOLE = multipart(part("a", b"1"))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("multipart/form-data", b"--x\r\n", id="no boundary"),
        pytest.param("multipart/form-data; boundary=x", b"hello", id="no parts"),
        pytest.param(WHOLE[0], WHOLE[1][:-9], id="cut off"),
    ],
)
def test_a_broken_multipart_body_stays_as_it_came(content_type, body):
    assert read(body, content_type) == {"body": bytearray(body)}


def test_without_decoding_values_stay_bytes():
    content_type, body = multipart(part("json", b"{}", "application/json"))
    assert read(body, content_type, decode=False) == {"json": bytearray(b"{}")}
    assert read(b"{}", "application/json", decode=False) == {"body": bytearray(b"{}")}


json_texts = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**80), 2**80) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(json.dumps)


@given(json_texts)
def test_json_is_read_as_json_itself_reads_it(text):
    found, expected = loads(text.encode()), json.loads(text)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    "text",
    [
        b"18446744073709551616",
        b"[-9223372036854775809]",
        b"NaN",
        b"1E400",
        b'"\\ud800"',
    ],
)
def test_what_readers_of_json_differ_in_is_read_alike(text):
    assert repr(loads(text)) == repr(json.loads(text))


@given(st.binary(max_size=300), st.sampled_from([FORM, multipart()[0], "application/json"]))
def test_no_body_is_too_strange(body, content_type):
    assert isinstance(read(body, content_type), dict)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("form-data; name=a; filename=b", {"name": "a", "filename": "b"}),
        ('form-data; name="a; b"; filename="c\\"d"', {"name": "a; b", "filename": 'c"d'}),
        ("form-data", {}),
        ('form-data; name="open', {"name": "open"}),
        ("form-data; flag; name=x", {"name": "x"}),
    ],
)
def test_parameters_of_a_header_are(header, found):
    assert parameters(header) == found
