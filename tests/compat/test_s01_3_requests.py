"""Section 1.3: requests as the handler sees them."""

from __future__ import annotations

from ast import literal_eval

import pytest

from tests.compat.handlers import OBEDIENT

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def model(ts):
    with ts.registered(OBEDIENT) as name:
        yield name


@pytest.fixture(scope="module")
def received(ts, model):
    """Send a body, and return the row that the handler got."""

    def send(body, content_type=None, port=ts, name=model):
        headers = {} if content_type is None else {"Content-Type": content_type}
        return row_of(port.predict(name, body, headers))

    return send


def row_of(answer):
    assert answer.status == 200, answer.text
    row = answer.text
    # A bytearray is written bytearray(b'...'): made a tuple, so that it is told from bytes.
    return literal_eval(row.replace("bytearray(b", "(b").replace("')", "',)"))


def raw(value):
    """Return what `row_of` makes of a bytearray."""
    return (value,)


JSON_TYPES = ("application/json", "application/json; charset=utf-8")


@pytest.mark.row("1.3-json")
@pytest.mark.parametrize("content_type", JSON_TYPES)
@pytest.mark.parametrize("text", ['{"a": [1, 2.5, true]}', "[1, 2]", '"text"', "7", "null"])
def test_json_is_its_value(received, content_type, text):
    value = literal_eval(text.replace("true", "True").replace("null", "None"))
    assert received(text.encode(), content_type) == {"body": value}


@pytest.mark.row("1.3-broken-json")
@pytest.mark.parametrize("body", [b"{", b"", b"\xef\xbb\xbf1", b'"\xff"'])
def test_what_is_no_json_is_bytes(received, body):
    assert received(body, "application/json") == {"body": raw(body)}


@pytest.mark.row("1.3-text")
@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        pytest.param("text/plain", "é".encode(), "é", id="text"),
        pytest.param("text/csv; charset=utf-8", b"1,2", "1,2", id="any kind of text"),
        pytest.param("text/plain", b"", "", id="no text"),
        pytest.param("text/plain", b"\xff", raw(b"\xff"), id="what is not UTF-8"),
    ],
)
def test_text_is_text(received, content_type, body, value):
    assert received(body, content_type) == {"body": value}


@pytest.mark.row("1.3-bytes")
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("application/octet-stream", b"\x00\xff", id="bytes"),
        pytest.param("image/png", b"\x89PNG", id="an image"),
        pytest.param("application/cloudevents+json", b"{}", id="other kinds of JSON"),
        pytest.param("Application/JSON", b"{}", id="a type in capital letters"),
        pytest.param(None, b'{"a": 1}', id="no content type"),
        pytest.param(None, None, id="no body"),
    ],
)
def test_everything_else_is_bytes(received, content_type, body):
    assert received(body, content_type) == {"body": raw(body or b"")}


def part(name, value, content_type=None, file=None):
    named = f'name="{name}"' + (f'; filename="{file}"' if file else "")
    typed = f"\r\nContent-Type: {content_type}" if content_type else ""
    head = f"--B\r\nContent-Disposition: form-data; {named}{typed}\r\n\r\n"
    return head.encode() + value + b"\r\n"


PARTS = (
    part("plain", b"first")
    + part("image", b"\x00\r\n--\xff", "image/png", "a.png")
    + part("json", b'{"x": 1}', "application/json; charset=utf-8", "a.json")
    + part("text", b"hello", "text/plain", "a.txt")
    + part("broken", b"{", "application/json", "b.json")
    + part("field", b'{"x": 1}', "application/json")
    + part("untyped", b"abc", None, "c")
    + part("plain", b"last")
    + b"--B--\r\n"
)
MULTIPART = "multipart/form-data; boundary=B"


@pytest.mark.row("1.3-multipart", "1.3-multipart-decoded", "1.3-multipart-repeated")
def test_a_multipart_body_has_one_key_per_name_and_decodes_files(received):
    assert received(PARTS, MULTIPART) == {
        "plain": raw(b"last"),
        "image": raw(b"\x00\r\n--\xff"),
        "json": {"x": 1},
        "text": "hello",
        "broken": raw(b"{"),
        "field": raw(b'{"x": 1}'),
        "untyped": raw(b"abc"),
    }


@pytest.mark.row("1.3-form")
@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8"])
def test_a_form_has_one_key_per_field(received, content_type):
    row = {"a": raw(b"2"), "b": raw("é &".encode()), "c": raw(b"")}
    assert received(b"a=1&b=%C3%A9+%26&a=2&c=", content_type) == row


@pytest.mark.row("1.3-query")
def test_the_query_is_not_visible(ts, model):
    answer = ts.inference("POST", f"/predictions/{model}?a=1", b"x")
    assert row_of(answer) == {"body": raw(b"x")}


@pytest.mark.row("1.3-query-invocations")
@pytest.mark.parametrize(
    "path", ["/invocations?model_name={}&a=1&b=%C3%A9", "/{}/predict?a=1&b=%C3%A9"]
)
def test_the_query_of_other_spellings_is_extra_fields(ts, model, path):
    row = row_of(ts.inference("POST", path.format(model), b"x"))
    assert row.pop("model_name", raw(model.encode())) == raw(model.encode())
    assert row == {"a": raw(b"1"), "b": raw("é".encode()), "body": raw(b"x")}


@pytest.fixture(scope="module")
def undecoded(serve_module):
    server = serve_module(config={"decode_input_request": "false"})
    with server.registered(OBEDIENT) as name:
        yield server, name


@pytest.mark.row("1.3-not-decoded")
@pytest.mark.parametrize(
    ("content_type", "body", "row"),
    [
        pytest.param("application/json", b"1", {"body": raw(b"1")}, id="JSON"),
        pytest.param("text/plain", b"t", {"body": raw(b"t")}, id="text"),
        pytest.param(
            MULTIPART,
            part("json", b"1", "application/json", "a") + b"--B--\r\n",
            {"json": raw(b"1")},
            id="parts",
        ),
        pytest.param(FORM, b"a=1", {"a": raw(b"1")}, id="forms"),
    ],
)
def test_nothing_is_decoded_when_told_so(received, undecoded, content_type, body, row):
    server, name = undecoded
    assert received(body, content_type, server, name) == row


@pytest.mark.row("1.3-chunked")
def test_a_chunked_body_is_one_body(ts, model):
    with ts.wire() as wire:
        wire.send(
            f"POST /predictions/{model} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            "3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n".encode()
        )
        assert row_of(wire.answer()) == {"body": raw(b"abcde")}


@pytest.mark.row("1.3-expect")
def test_who_asks_may_send_its_body(ts, model):
    with ts.wire() as wire:
        wire.send(
            f"POST /predictions/{model} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
            "Content-Length: 3\r\n\r\n".encode()
        )
        assert wire.answer().status_line == "HTTP/1.1 100 Continue"
        wire.send(b"abc")
        assert row_of(wire.answer()) == {"body": raw(b"abc")}


@pytest.mark.row("1.3-keep-alive")
def test_a_connection_serves_one_request_after_the_other(ts, model):
    with ts.wire() as wire:
        for body in (b"one", b"two", b"three"):
            answer = wire.request("POST", f"/predictions/{model}", body)
            assert row_of(answer) == {"body": raw(body)}


@pytest.fixture
def seen(ts, model):
    """Return the request headers as the handler gets them, of a row that asks for them."""

    def send(lines="", body=b'{"do": "headers"}', content_type="application/json"):
        typed = f"Content-Type: {content_type}\r\n"
        with ts.wire() as wire:
            head = f"POST /predictions/{model} HTTP/1.1\r\nHost: h\r\n{typed}{lines}"
            wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return wire.answer().json

    return send


@pytest.mark.row("1.3-header-case")
def test_headers_keep_the_spelling_of_the_client(seen):
    headers = seen("X-One: 1\r\nx-two: 2\r\n")
    assert (headers["X-One"], headers["x-two"]) == ("1", "2")
    assert not {"x-one", "X-Two"} & set(headers)


@pytest.mark.row("1.3-header-repeated")
def test_a_repeated_header_keeps_its_last_value(seen):
    headers = seen("X-R: one\r\nX-R: two\r\nx-r: three\r\n")
    assert (headers["X-R"], headers["x-r"]) == ("two", "three")


@pytest.mark.row("1.3-added-headers")
def test_a_prediction_is_told_that_it_is_none_of_an_explanation(seen):
    headers = seen()
    assert (headers["explain"], headers["url_path"]) == ("False", "")
    assert "describe" not in headers


@pytest.mark.row("1.3-part-content-type")
def test_a_body_s_content_type_is_found_without_its_parameters(seen):
    assert seen(content_type="application/json; a=b")["body"] == {
        "content-type": "application/json"
    }


HEADERS = """
import json

def handle(data, context):
    if data is not None:
        return [json.dumps(context.get_all_request_header(0))]
"""


@pytest.mark.row("1.3-part-content-type")
def test_each_part_s_content_type_is_found_under_its_name(ts):
    with ts.registered(HEADERS) as name:
        of_parts = ts.predict(name, PARTS, {"Content-Type": MULTIPART}).json
        of_form = ts.predict(name, b"a=1", {"Content-Type": FORM}).json
        of_nothing = ts.predict(name, b"x", {}).json
    types = {"plain": "", "image": "image/png", "json": "application/json", "text": "text/plain"}
    types |= {"field": "", "untyped": "application/octet-stream"}
    assert {it: of_parts[it]["content-type"] for it in types} == types
    assert of_form["a"] == {"content-type": ""}
    assert "body" not in {**of_parts, **of_form}
    assert of_nothing["body"] == {"content-type": ""}


DESCRIBES = """
def handle(data, context):
    if data is not None:
        return [{"describe": context.get_request_header(0, "describe")}]
"""


@pytest.mark.row("1.3-describe-header")
def test_a_description_is_asked_for_by_a_header(ts):
    with ts.registered(DESCRIBES) as name:
        described = ts.manage("GET", f"/models/{name}", customized="true").json
        assert described[0]["customizedMetadata"] == {"describe": "True"}
        assert ts.predict(name).json == {"describe": None}
