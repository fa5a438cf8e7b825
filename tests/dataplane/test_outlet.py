"""The worker's side of a stream: what a handler may send, and when."""

import socket
from types import SimpleNamespace

import orjson
import pytest

from flambeau_runtime import protocol
from flambeau_runtime.errors import PredictionFailed
from flambeau_runtime.protocol import Kind
from flambeau_runtime.worker.context import Context, Row
from flambeau_runtime.worker.loop import Inbox
from flambeau_runtime.worker.streaming import Outlet, ReaderLeft
from ts.handler_utils.utils import send_intermediate_predict_response as send
from ts.protocol import otf_message_handler

LIMIT = 1000
BATCH = 7


@pytest.fixture
def stage():
    """An open outlet with two rows, the context of their handler, and the front's socket."""
    front, worker = socket.socketpair()
    with front, worker:
        rows = [Row("r0"), Row("r1")]
        context = Context("m", "/", {}, 2, None)
        context.begin(rows)
        outlet = context.cl_socket = Outlet(worker, Inbox(worker), LIMIT)
        outlet.open(BATCH, rows)
        front.settimeout(5)
        yield SimpleNamespace(outlet=outlet, context=context, front=front, rows=rows)


def received(stage):
    """Return the rows of the next PART."""
    data = stage.front.recv(65536)
    length, batch, kind = protocol.read_header(data)
    assert (batch, kind, length) == (BATCH, Kind.PART, len(data) - protocol.HEADER.size)
    return protocol.unpack_end(data[protocol.HEADER.size :])


def test_each_row_gets_its_piece(stage):
    send(["a", {"b": 1}], stage.context.request_ids, "ok", 200, stage.context)
    assert [bytes(row[3]) for row in received(stage)] == [b"a", b'{\n  "b": 1\n}']


def test_only_the_named_rows_get_one(stage):
    send({1: b"x"}, {1: "r1"}, "ok", 200, stage.context)
    absent, piece = received(stage)
    assert (absent[0], bytes(piece[3])) == (protocol.ROW_ABSENT, b"x")


def test_a_row_is_known_by_its_request_wherever_the_handler_counts_it(stage):
    send(["x"], {0: "r1"}, "ok", 200, stage.context)
    assert [row[0] for row in received(stage)] == [protocol.ROW_ABSENT, 200]


def test_the_first_piece_brings_status_and_headers(stage):
    stage.context.set_response_status(201, "Made", 0)
    stage.context.set_response_header(0, "X-A", "b")
    send(["a", "b"], stage.context.request_ids, "ok", 200, stage.context)
    first, second = received(stage)
    assert first[:3] == (201, "Made", (("X-A", "b"), ("ts_stream_next", "true")))
    assert second[:3] == (200, "", (("ts_stream_next", "true"),))
    send(["a", "b"], stage.context.request_ids, "ok", 200, stage.context)
    assert received(stage)[0][:3] == (200, "", ())


def test_another_code_ends_the_row_with_that_status_and_message(stage):
    send(["a", "b"], {0: "r0"}, "bad", 503, stage.context)
    refused, _ = received(stage)
    assert refused[0] == protocol.ROW_FAULT
    assert orjson.loads(refused[3]) == {
        "reason": "HandlerRefused",
        "message": "bad",
        "status": 503,
    }


@pytest.mark.parametrize(
    ("results", "ids", "why"),
    [
        pytest.param([b"x" * (LIMIT + 1)], {0: "r0"}, "max_response_size", id="too long"),
        pytest.param([object()], {0: "r0"}, "Unsupported model output", id="no result"),
        pytest.param(["x"], {0: "gone"}, "not handled now", id="for a request of another batch"),
    ],
)
def test_what_cannot_be_sent_is_an_error_in_the_handler(stage, results, ids, why):
    with pytest.raises(PredictionFailed, match=why):
        send(results, ids, "ok", 200, stage.context)
    assert not stage.outlet.begun


def test_nothing_leaves_between_two_batches(stage):
    stage.outlet.close()
    with pytest.raises(PredictionFailed, match="no request was being handled"):
        send(["a"], {0: "r0"}, "ok", 200, stage.context)


def test_elements_of_a_list_cannot_be_streamed(stage):
    stage.context.in_list = True
    with pytest.raises(PredictionFailed, match="splitJsonArrays"):
        send(["a"], {0: "r0"}, "ok", 200, stage.context)


def test_a_handler_hears_that_its_readers_left(stage):
    stage.front.sendall(protocol.frame(Kind.CANCEL, BATCH))
    with pytest.raises(ReaderLeft):
        send(["a"], {0: "r0"}, "ok", 200, stage.context)


def test_word_about_the_last_batch_does_not_end_this_one(stage):
    stage.front.sendall(protocol.frame(Kind.CANCEL, BATCH - 1))
    send(["a"], {0: "r0"}, "ok", 200, stage.context)


def test_a_handler_hears_that_the_front_is_gone(stage):
    stage.front.close()
    with pytest.raises(ConnectionError):
        send(["a"], {0: "r0"}, "ok", 200, stage.context)


def test_without_a_context_nothing_can_be_sent():
    with pytest.raises(ValueError, match="needs the context"):
        send(["a"], {0: "r0"}, "ok", 200)


def test_of_several_ranks_only_the_first_sends(stage, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    stage.outlet.close()
    send(["a"], {0: "r0"}, "ok", 200, stage.context)


def test_the_old_place_has_the_same_function():
    assert otf_message_handler.send_intermediate_predict_response is send
