"""Section 1.4: responses of inference, but streamed ones."""

from __future__ import annotations

import io
import json
import re

import pytest
import torch

from tests.compat.handlers import OBEDIENT

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NEVER_CACHED = [
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache; no-store, must-revalidate, private"),
    ("Expires", "Thu, 01 Jan 1970 00:00:00 UTC"),
]


@pytest.fixture(scope="module")
def model(ts):
    with ts.registered(OBEDIENT) as name:
        yield name


@pytest.fixture(scope="module")
def ask(ts, model):
    return lambda **order: ts.predict(model, json.dumps(order).encode())


@pytest.mark.row("1.4-str")
@pytest.mark.parametrize("text", ["é and 日本", ""])
def test_text_is_utf_8(ask, text):
    assert ask(do="value", value=text).body == text.encode()


@pytest.mark.row("1.4-bytes")
@pytest.mark.parametrize("expression", ["b'\\x00\\xff'", "bytearray(b'\\x00\\xff')"])
def test_bytes_are_as_they_are(ask, expression):
    assert ask(do="python", value=expression).body == b"\x00\xff"


@pytest.mark.row("1.4-json")
@pytest.mark.parametrize(
    ("expression", "text"),
    [
        pytest.param(
            "{'a': [1, 2.5, True, None], 'é': 'ü'}",
            '{\n  "a": [\n    1,\n    2.5,\n    true,\n    null\n  ],\n  "\\u00e9": "\\u00fc"\n}',
            id="a dict",
        ),
        pytest.param("[[1], {}, []]", "[\n  [\n    1\n  ],\n  {},\n  []\n]", id="a list"),
        pytest.param("7", "7", id="an int"),
        pytest.param("10**30", "1" + 30 * "0", id="a large int"),
        pytest.param("1e-07", "1e-07", id="a small float"),
        pytest.param("1e16", "1e+16", id="a large float"),
        pytest.param("True", "true", id="a bool"),
        pytest.param("None", "null", id="None"),
        pytest.param("{1: 2}", '{\n  "1": 2\n}', id="keys that are no text"),
        pytest.param("(1, 2)", "[\n  1,\n  2\n]", id="a tuple"),
    ],
)
def test_other_values_are_json(ask, expression, text):
    assert ask(do="python", value=expression).body == text.encode()


@pytest.mark.row("1.4-nan")
def test_nan_and_infinity_are_written_as_python_writes_them(ask):
    assert (
        ask(do="python", value="[float('nan'), -float('inf')]").body == b"[\n  NaN,\n  -Infinity\n]"
    )


@pytest.mark.row("1.4-tensor")
def test_a_tensor_is_a_file_of_torch(ask):
    body = ask(do="python", value="__import__('torch').tensor([1.5, 2])").body
    assert torch.load(io.BytesIO(body), weights_only=True).tolist() == [1.5, 2]


@pytest.mark.row(
    "1.4-no-content-type",
    "1.4-cache-headers",
    "1.4-content-length",
    "1.4-connection",
    "1.4-reason",
)
def test_the_head_of_an_answer(ts, model):
    answer = ts.predict(model, b"abc", {})
    assert answer.status_line == "HTTP/1.1 200 "
    identity, *rest = answer.fields
    assert identity[0] == "x-request-id"
    assert rest == [
        *NEVER_CACHED,
        ("content-length", str(len(answer.body))),
        ("connection", "keep-alive"),
    ]


@pytest.mark.row("1.4-request-id")
def test_every_answer_has_a_uuid_of_its_own(ask):
    ids = [ask(do="pid").header("x-request-id") for _ in range(2)]
    assert all(UUID.fullmatch(it) for it in ids)
    assert ids[0] != ids[1]


@pytest.mark.row("1.4-request-id-incoming", only="ours")
def test_an_id_that_the_client_brings_is_kept(ts, model):
    answer = ts.predict(model, b"x", {"X-Request-Id": "mine-1"})
    assert answer.header("x-request-id") == "mine-1"


@pytest.mark.row("1.4-handler-headers")
def test_headers_of_the_handler_come_first(ask):
    answer = ask(do="answer", headers={"X-Mine": "v", "x-other": "a, b"}, type="text/x")
    assert answer.fields[:3] == [("X-Mine", "v"), ("x-other", "a, b"), ("content-type", "text/x")]
    assert [name for name, _ in answer.fields[3:]] == [
        "x-request-id",
        "Pragma",
        "Cache-Control",
        "Expires",
        "content-length",
        "connection",
    ]


@pytest.mark.row("1.4-handler-status")
@pytest.mark.parametrize(
    ("status", "phrase"), [(201, "Made It"), (202, ""), (404, "Not Here"), (503, "")]
)
def test_the_status_of_the_handler_leaves_the_body_as_it_is(ask, status, phrase):
    answer = ask(do="answer", status=status, phrase=phrase)
    assert answer.status_line == f"HTTP/1.1 {status} {phrase}"
    assert answer.body == b"text"


@pytest.mark.row("1.4-handler-status")
def test_no_content_has_no_body_and_no_length(ts, model):
    with ts.wire() as wire:
        order = json.dumps({"do": "answer", "status": 204}).encode()
        asked = {"Content-Type": "application/json"}
        answer = wire.request("POST", f"/predictions/{model}", order, asked)
        assert (answer.status, answer.header("content-length")) == (204, None)
        assert wire.request("POST", f"/predictions/{model}", b"next").status == 200


ALL = """
def handle(data, context):
    if data is not None:
        context.set_all_response_status(203, "All Of Them")
        return ["text" for _ in data]
"""


@pytest.mark.row("1.4-handler-status")
def test_one_call_sets_the_status_of_every_row(ts):
    with ts.registered(ALL) as name:
        assert ts.predict(name).status_line == "HTTP/1.1 203 All Of Them"


@pytest.mark.row("1.4-connection-close", only="ours")
@pytest.mark.parametrize(
    "start", ["HTTP/1.1\r\nConnection: close\r\n", "HTTP/1.0\r\n"], ids=["asked", "HTTP/1.0"]
)
def test_a_connection_ends_when_the_client_asks(ts, model, start):
    with ts.wire() as wire:
        wire.send(f"POST /predictions/{model} {start}Content-Length: 1\r\n\r\nx".encode())
        assert wire.answer().header("connection") == "close"
        assert wire.is_closed()
