"""Section 1.4: streamed answers of inference."""

from __future__ import annotations

import time

import pytest

from tests.compat.server import until
from tests.compat.wire import Closed, request_bytes

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

STREAMER = """
    import os, time
    from ts.handler_utils.utils import send_intermediate_predict_response
    from ts.utils.util import PredictionException

    def send(text, context, ids=None):
        ids = ids or context.request_ids
        pieces = [text] * len(context.request_ids)
        send_intermediate_predict_response(pieces, ids, "Intermediate", 200, context)

    def handle(data, context):
        if data is None:
            return None
        what = data[0]["body"]
        if what == "plain":
            return ["whole"] * len(data)
        if what == "headers":
            context.set_response_status(201, "Made", 0)
            context.set_response_content_type(0, "text/plain")
            context.set_response_header(0, "X-Own", "yes")
        if what == "json":
            send({"a": 1}, context)
            return [{"b": [2]}] * len(data)
        if what == "empty":
            for text in ("", "x", ""):
                send(text, context)
            return [""] * len(data)
        if what == "some":
            send("first ", context, {0: context.request_ids[0]})
            return ["last"] * len(data)
        for turn in range(4):
            send(f"piece{turn} ", context)
            time.sleep(0.5 if what == "slow" else 0.05)
            if what == "raise":
                raise ValueError("no")
            if what == "refuse":
                raise PredictionException("no", 418)
            if what == "die":
                os._exit(3)
            if what == "hang":
                time.sleep(60)
        return ["last"] * len(data)
"""
CONFIG = """
    minWorkers: 1
    maxWorkers: 1
    batchSize: 2
    maxBatchDelay: 400
    responseTimeout: 1
"""


@pytest.fixture(scope="module")
def streamer(ts):
    with ts.registered(STREAMER, config=CONFIG) as model:
        yield model


def text(what: str, model: str, **headers: str) -> bytes:
    named = {"Content-Type": "text/plain", **headers}
    return request_bytes("POST", f"/predictions/{model}", what.encode(), named)


def ask(ts, model: str, what: str):
    return ts.predict(model, what.encode(), {"Content-Type": "text/plain"})


@pytest.mark.row("1.4-streaming", "7.2-cl-socket")
def test_each_piece_is_a_chunk_and_what_is_returned_the_last(ts, streamer):
    answer = ask(ts, streamer, "stream")
    assert answer.chunks == (b"piece0 ", b"piece1 ", b"piece2 ", b"piece3 ", b"last")
    assert answer.status_line == "HTTP/1.1 200 "
    assert answer.header("content-length") is None


@pytest.mark.row("1.4-streaming")
def test_pieces_become_text_as_whole_answers_do(ts, streamer):
    assert ask(ts, streamer, "json").chunks == (
        b'{\n  "a": 1\n}',
        b'{\n  "b": [\n    2\n  ]\n}',
    )


@pytest.mark.row("1.4-streaming")
def test_empty_pieces_are_no_chunks(ts, streamer):
    assert ask(ts, streamer, "empty").chunks == (b"x",)


@pytest.mark.row("1.4-streaming-header")
def test_the_head_of_a_stream_has_the_usual_headers_and_one_more(ts, streamer):
    names = [name for name, _ in ask(ts, streamer, "stream").fields]
    assert names == [
        "ts_stream_next",
        "x-request-id",
        "Pragma",
        "Cache-Control",
        "Expires",
        "transfer-encoding",
        "connection",
    ]
    assert ask(ts, streamer, "stream").header("ts_stream_next") == "true"
    assert ask(ts, streamer, "plain").header("ts_stream_next") is None


@pytest.mark.row("1.4-streaming-header")
def test_what_the_handler_sets_before_the_first_piece_holds_for_the_stream(ts, streamer):
    answer = ask(ts, streamer, "headers")
    assert answer.status_line == "HTTP/1.1 201 Made"
    assert answer.header("content-type") == "text/plain"
    assert answer.header("X-Own") == "yes"
    assert answer.header("ts_stream_next") == "true"


@pytest.mark.row("1.4-streaming-first")
def test_the_first_piece_leaves_while_the_handler_runs(ts, streamer):
    with ts.wire() as wire:
        wire.send(text("slow", streamer))
        wire.until(b"\r\n\r\n")
        pieces = wire.chunks()
        assert next(pieces) == b"piece0 "
        began = time.monotonic()
        assert list(pieces)[-1] == b"last"
        assert time.monotonic() - began > 0.5  # of the 1.5 s that it went on for


@pytest.mark.row("1.4-streaming")
def test_the_connection_is_kept_after_a_stream(ts, streamer):
    with ts.wire() as wire:
        for _ in range(2):
            wire.send(text("stream", streamer))
            assert wire.answer().chunks[-1] == b"last"
        wire.send(text("plain", streamer))
        assert wire.answer().body == b"whole"


@pytest.mark.row("1.4-streaming-some-rows")
def test_one_row_of_a_batch_streams_and_the_other_does_not(ts, streamer):
    with ts.wire() as before, ts.wire() as first, ts.wire() as second:
        before.send(text("stream", streamer))
        before.until(b"piece0")  # the worker is busy: the other two wait, and go together
        first.send(text("some", streamer))
        second.send(text("some", streamer))
        bodies = [first.answer(), second.answer()]
        assert sorted(answer.body for answer in bodies) == [b"first last", b"last"]
        assert sorted(answer.chunks for answer in bodies) == [(), (b"first ", b"last")]


@pytest.mark.row("1.4-streaming-timeout")
def test_the_timeout_is_for_each_piece_and_not_for_the_whole(ts, streamer):
    assert ask(ts, streamer, "slow").chunks[-1] == b"last"


@pytest.mark.row("1.4-streaming-broken")
@pytest.mark.parametrize("what", ["raise", "refuse", "die", "hang"])
def test_a_stream_that_cannot_go_on_breaks_off_without_an_end(ts, streamer, what):
    with ts.wire() as wire:
        wire.send(text(what, streamer))
        head = wire.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        pieces = wire.chunks()
        assert next(pieces) == b"piece0 "
        with pytest.raises(Closed):
            next(pieces)
    until(lambda: ask(ts, streamer, "plain").body == b"whole", 60)


TOO_LONG = """
    from ts.handler_utils.utils import send_intermediate_predict_response

    def handle(data, context):
        if data is None:
            return None
        if data[0]["body"] == "code":
            ids = context.request_ids
            send_intermediate_predict_response(["x"], ids, "not today", 409, context)
            return ["y"]
        size = 7_000_000 if data[0]["body"] == "long" else 1
        send_intermediate_predict_response(
            ["x" * size] * len(data), context.request_ids, "ok", 200, context
        )
        return ["end"] * len(data)
"""


@pytest.mark.row("1.4-streaming-too-long", only="ours")
def test_a_piece_that_is_too_long_is_told_and_the_worker_serves_on(ts):
    with ts.registered(TOO_LONG) as model:
        before = ts.workers(model)[0]["pid"]
        answer = ask(ts, model, "long")
        assert answer.status == 503
        assert "max_response_size" in answer.text
        assert ask(ts, model, "short").chunks == (b"x", b"end")
        assert ts.workers(model)[0]["pid"] == before


@pytest.mark.row("1.4-streaming-code")
def test_a_piece_with_another_code_is_an_error_with_that_status(ts):
    with ts.registered(TOO_LONG) as model:
        answer = ask(ts, model, "code")
        assert answer.status == 409
        assert answer.json == {
            "code": 409,
            "type": "InternalServerException",
            "message": "not today",
        }


@pytest.mark.row("1.4-streaming-code-after", only="ours")
def test_a_worker_serves_on_after_a_piece_with_another_code(ts):
    with ts.registered(TOO_LONG) as model:
        before = ts.workers(model)[0]["pid"]
        assert ask(ts, model, "code").status == 409
        assert ask(ts, model, "short").chunks == (b"x", b"end")
        assert ts.workers(model)[0]["pid"] == before
