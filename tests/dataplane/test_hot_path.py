import asyncio
import json
import re

import pytest
from hypothesis import given, settings, strategies as st

from flambeau_runtime import protocol
from flambeau_runtime.api import hot_path
from flambeau_runtime.api.payload import LONGEST_CONTENT_TYPE
from flambeau_runtime.errors import (
    DeadlineExceeded,
    InvalidKey,
    ModelNotReady,
    PredictionFailed,
    QueueFull,
)
from flambeau_runtime.serving.arena import ARENA_BYTES
from flambeau_runtime.serving.job import Prediction
from tests.dataplane.front_door import MAX_REQUEST_BYTES, EchoVersion, Front, front, request

KEPT = "keep-alive"


async def test_an_answer_has_torchserves_headers_byte_for_byte():
    async with front() as door:
        answer = await door.ask(body=b"hello", X_Request_Id="abc")
        assert answer.head == (
            b"HTTP/1.1 200 \r\n"
            b"x-request-id: abc\r\n"
            b"Pragma: no-cache\r\n"
            b"Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
            b"Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
            b"content-length: 5\r\n"
            b"connection: keep-alive\r\n\r\n"
        )
        assert answer.body == b"hello"


@pytest.mark.parametrize(
    ("method", "target", "model", "version", "url_path", "explain"),
    [
        pytest.param("POST", "/predictions/m", "m", None, "", False, id="the default version"),
        pytest.param("PUT", "/predictions/m", "m", None, "", False, id="curl -T"),
        pytest.param("GET", "/predictions/m", "m", None, "", False, id="GET"),
        pytest.param("DELETE", "/predictions/m", "m", None, "", False, id="DELETE"),
        pytest.param("PATCH", "/predictions/m", "m", None, "", False, id="PATCH"),
        pytest.param("POST", "/predictions/m/1.0", "m", "1.0", "", False, id="a version"),
        pytest.param(
            "POST", "/predictions/m/1.0/a/b", "m", "1.0", "a/b", False, id="more segments"
        ),
        pytest.param("POST", "/predictions/m?q=1", "m", None, "", False, id="a query is no name"),
        pytest.param("POST", "/predictions/%6D", "m", None, "", False, id="an escaped name"),
        pytest.param("POST", "/explanations/m", "m", None, "", True, id="an explanation"),
        pytest.param(
            "POST", "http://here/predictions/m", "m", None, "", False, id="an absolute target"
        ),
    ],
)
async def test_routes(method, target, model, version, url_path, explain):
    async with front() as door:
        answer = await door.ask(method, target, b"x")
        assert answer.status == 200
        assert door.routes.asked == [(model, version)]
        assert (door.version.last.url_path, door.version.last.explain) == (url_path, explain)


async def test_a_handler_sees_the_clients_headers_in_the_clients_spelling():
    async with front() as door:
        await door.ask(body=b"{}", X_CuStOm="Some Value", Content_Type="application/json")
        assert b"X-CuStOm: Some Value\r\n" in door.version.last.headers
        assert door.version.last.headers.startswith(b"Host: here\r\n")
        assert door.version.last.headers.endswith(b"\r\n")
        assert door.version.last.content_type == "application/json"


async def test_a_traceparent_reaches_the_handler():
    async with front() as door:
        await door.ask(traceparent="00-4bf92f35-00f067aa-01")
        assert b"traceparent: 00-4bf92f35-00f067aa-01\r\n" in door.version.last.headers


async def test_many_requests_share_one_connection():
    async with front() as door:
        connection = await door.connect()
        for number in range(50):
            answer = await connection.ask(body=b"%d" % number)
            assert (answer.body, answer.headers["connection"]) == (b"%d" % number, KEPT)
        await connection.close()


async def test_pipelined_requests_are_answered_in_order():
    async with front() as door:
        connection = await door.connect()
        await connection.send(b"".join(request(body=b"%d" % n) for n in range(300)))
        for number in range(300):
            assert (await connection.answer()).body == b"%d" % number
        await connection.close()


async def test_pipelined_refusals_are_answered_in_order_too():
    async with front() as door:
        connection = await door.connect()
        targets = ["/predictions/x", "/predictions/m"] * 500
        await connection.send(b"".join(request(target=target) for target in targets))
        statuses = [(await connection.answer()).status for _ in targets]
        assert statuses == [404, 200] * 500
        await connection.close()


@given(st.lists(st.integers(1, 400), max_size=12), st.booleans())
@settings(max_examples=40)
def test_requests_are_the_same_wherever_the_network_cuts_them(cuts, chunked):
    async def run():
        async with front() as door:
            connection = await door.connect()
            if chunked:
                chunks = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n"
                one = request(body=chunks, Transfer_Encoding="chunked")
            else:
                one = request(body=b"hello world")
            data, position = one * 3, 0
            for cut in [*cuts, len(data)]:
                await connection.send(data[position : position + cut])
                await asyncio.sleep(0)
                position += cut
            assert [(await connection.answer()).body for _ in range(3)] == [b"hello world"] * 3
            await connection.close()

    asyncio.run(run())


async def test_expect_100_continue_is_answered_before_the_body():
    async with front() as door:
        connection = await door.connect()
        await connection.send(request(Content_Length="5", Expect="100-continue"))
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send(b"hello")
        assert (await connection.answer()).body == b"hello"
        await connection.close()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("trace-1.2_3", True, id="visible ASCII is echoed"),
        pytest.param("x" * 128, True, id="128 characters are echoed"),
        pytest.param("x" * 129, False, id="a longer one is replaced"),
        pytest.param("two words", False, id="a space is replaced"),
        pytest.param("caf\xe9", False, id="other letters are replaced"),
    ],
)
async def test_request_ids(sent, kept):
    async with front() as door:
        answer = await door.ask(X_Request_Id=sent)
        told = answer.headers["x-request-id"]
        assert (told == sent) is kept
        assert door.version.last.request_id == told


async def test_fresh_ids_look_like_uuids_and_differ():
    async with front() as door:
        ids = {(await door.ask()).headers["x-request-id"] for _ in range(20)}
        assert len(ids) == 20
        assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one) for one in ids)


async def test_a_deadline_comes_from_the_header_but_never_beyond_the_models():
    async with front() as door:
        await door.ask()
        await door.ask(X_Request_Timeout="2.5")
        await door.ask(X_Request_Timeout="900")
        lengths = [round(job.deadline - job.queued_at, 3) for job in door.version.jobs]
        assert lengths == [120, 2.5, 120]


@pytest.mark.parametrize("sent", ["soon", "-1", "0", "nan", ""])
async def test_a_deadline_that_is_no_time_is_refused(sent):
    async with front() as door:
        answer = await door.ask(X_Request_Timeout=sent)
        assert (answer.status, answer.headers["connection"]) == (400, KEPT)
        assert "X-Request-Timeout" in json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    ("target", "refuse", "status", "kind", "retry"),
    [
        pytest.param(
            "/predictions/x", None, 404, "ModelNotFoundException", None, id="an unknown model"
        ),
        pytest.param(
            "/predictions/m/9", None, 404, "ModelVersionNotFoundException", None,
            id="an unknown version",
        ),
        pytest.param(
            "/predictions/m", QueueFull("m", "1.0", 100), 503, "ServiceUnavailableException", "1",
            id="a full queue says when to come back",
        ),
        pytest.param(
            "/predictions/m", ModelNotReady("m", "1.0", "has no worker"), 503,
            "ServiceUnavailableException", "1", id="no worker",
        ),
    ],
)  # fmt: skip
async def test_refusals_name_themselves_and_keep_the_connection(
    target, refuse, status, kind, retry
):
    version = EchoVersion()
    version.refuse = refuse
    async with front(version) as door:
        answer = await door.ask(target=target, body=b"x" * 1000)
        problem = json.loads(answer.body)
        assert (answer.status, problem["code"], problem["type"]) == (status, status, kind)
        assert answer.headers["content-type"] == "application/json"
        assert (answer.headers["connection"], answer.headers.get("retry-after")) == (KEPT, retry)
        assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(PredictionFailed("Prediction failed. KeyError: 'x'"), 503, id="raised"),
        pytest.param(DeadlineExceeded("m", 5), 500, id="took too long"),
    ],
)
async def test_a_fault_of_the_model_is_an_answer_like_any_other(fault, status):
    version = EchoVersion()
    version.hold = True
    async with front(version) as door:
        connection = await door.connect()
        await connection.send(request())
        await version.taken(1)
        version.jobs[0].fail(fault)
        answer = await connection.answer()
        assert (answer.status, json.loads(answer.body)["message"]) == (status, str(fault))
        assert answer.headers["connection"] == KEPT
        await connection.close()


async def test_a_handlers_status_phrase_and_headers_are_sent():
    made = Prediction(201, "Made", (("Content-Type", "text/plain"), ("X-A", "b")), b"text")
    async with front(EchoVersion(lambda _: made)) as door:
        answer = await door.ask()
        assert (answer.status, answer.phrase, answer.body) == (201, "Made", b"text")
        assert ["Content-Type", "text/plain"] in answer.pairs
        assert ["X-A", "b"] in answer.pairs


async def test_a_handler_cannot_break_the_framing():
    headers = (("Content-Length", "1"), ("transfer-encoding", "chunked"), ("a b", "c"), ("X", "\r"))
    bad = Prediction(700, "a\r\nX: b", headers, b"text")
    async with front(EchoVersion(lambda _: bad)) as door:
        connection = await door.connect()
        for _ in range(2):
            answer = await connection.ask()
            assert (answer.status, answer.body) == (500, b"text")
            assert "transfer-encoding" not in answer.headers
            assert "\r\nx: b" not in answer.head.lower().decode()
        await connection.close()


async def test_an_answer_without_content_has_none():
    async with front(EchoVersion(lambda _: Prediction(204, body=b"ignored"))) as door:
        connection = await door.connect()
        for _ in range(2):
            answer = await connection.ask()
            assert (answer.status, answer.body) == (204, b"")
            assert "content-length" not in answer.headers
        await connection.close()


async def test_everything_else_is_answered_by_uvicorn_and_predictions_come_back():
    async with front() as door:
        connection = await door.connect()
        assert (await connection.ask("GET", "/ping")).body == b"GET /ping 0"
        assert (await connection.ask(body=b"a")).body == b"a"
        assert (await connection.ask("POST", "/other", b"abc")).body == b"POST /other 3"
        assert (await connection.ask("OPTIONS", "/predictions/m")).body.startswith(b"OPTIONS")
        assert (await connection.ask(body=b"b")).body == b"b"
        assert len(door.state.connections) == 1
        await connection.close()
        await door.gone()


async def test_a_prediction_pipelined_behind_another_request_waits_for_its_turn():
    async with front() as door:
        connection = await door.connect()
        ping = b"GET /ping HTTP/1.1\r\nHost: here\r\n\r\n"
        await connection.send(ping + request(body=b"a") + ping + ping + request(body=b"b"))
        bodies = [(await connection.answer()).body for _ in range(5)]
        assert bodies == [b"GET /ping 0", b"a", b"GET /ping 0", b"GET /ping 0", b"b"]
        await connection.close()


async def test_what_nobody_foresaw_is_an_answer_and_not_a_broken_connection():
    version = EchoVersion()
    version.refuse = ValueError("a secret")
    async with front(version) as door:
        answer = await door.ask()
        assert (answer.status, b"secret" in answer.body) == (500, False)


async def test_a_body_that_is_too_large_for_uvicorns_first_read_is_handed_over_whole():
    async with front() as door:
        answer = await door.ask("POST", "/other", b"x" * 500_000)
        assert answer.body == b"POST /other 500000"


async def test_a_long_body_arrives_whole():
    body = bytes(range(256)) * 4096 * 2
    async with front() as door:
        connection = await door.connect()
        assert (await connection.ask(body=body)).body == body
        assert (await connection.ask(body=b"small")).body == b"small"
        assert (await connection.ask(body=body)).body == body
        await connection.close()


async def test_a_big_body_is_read_to_where_the_worker_reads_it():
    body = bytes(range(256)) * 4096
    async with front() as door:
        arena = door.version.queue.arena
        door.version.hold = True
        connection = await door.connect()
        await connection.send(request(body=body))
        await door.version.taken(1)
        region = door.version.last.region
        with open(f"/proc/self/fd/{arena.fd}", "rb") as file:  # noqa: ASYNC230, PTH123
            file.seek(region.offset)
            assert file.read(region.size) == body
        del region
        door.version.jobs.pop().resolve(Prediction(body=b"done"))
        assert (await connection.answer()).body == b"done"
        await connection.close()
        await door.gone()
        assert arena.free_bytes == ARENA_BYTES


async def test_without_room_in_the_arena_a_big_body_takes_the_ordinary_way():
    async with front() as door:
        kept = door.version.queue.arena.take(ARENA_BYTES)
        assert (await door.ask(body=b"x" * 1_000_000)).body == b"x" * 1_000_000
        assert door.version.last.region is None
        del kept


async def test_a_big_body_that_is_cut_off_leaves_nothing_behind():
    async with front() as door:
        connection = await door.connect()
        await connection.send(request(Content_Length="2000000", body=b"x" * 500_000))
        async with asyncio.timeout(5):
            while door.version.queue.arena.free_bytes == ARENA_BYTES:  # noqa: ASYNC110  its own
                await asyncio.sleep(0.002)
        await connection.close()
        await door.gone()
        assert door.version.queue.arena.free_bytes == ARENA_BYTES
        assert door.version.jobs == []


async def test_a_big_body_that_stalls_is_told_and_closed(monkeypatch):
    for name in ("STALL_TIMEOUT_S", "TICK_S"):
        monkeypatch.setattr(hot_path, name, 0.05)
    async with front() as door:
        connection = await door.connect()
        await connection.send(request(Content_Length="2000000", body=b"x" * 500_000))
        assert (await connection.closed()).startswith(b"HTTP/1.1 408 ")
        await connection.close()


async def test_a_first_line_that_comes_in_pieces_finds_its_way_back():
    async with front() as door:
        connection = await door.connect()
        assert (await connection.ask("GET", "/ping")).status == 200
        for piece in (
            b"POST /pre",
            b"dictions/m HTTP/1.1\r\nHost: a\r\nContent-Len",
            b"gth: 2\r\n\r\nhi",
        ):
            await connection.send(piece)
            await asyncio.sleep(0.01)
        assert (await connection.answer()).body == b"hi"
        await connection.close()


async def test_a_body_beyond_the_limit_is_refused_in_words():
    async with front() as door:
        answer = await door.ask(body=b"x" * (MAX_REQUEST_BYTES + 2_000_000))
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        message = json.loads(answer.body)["message"]
        assert "max_request_size" in message
        assert str(MAX_REQUEST_BYTES) in message
        assert door.version.jobs == []


async def test_a_refused_body_of_up_to_1_mib_costs_no_connection(monkeypatch):
    async with front() as door:
        monkeypatch.setattr(door.protocol.door, "max_request_bytes", 100)
        connection = await door.connect()
        refused = await connection.ask(body=b"x" * 900_000)
        assert (refused.status, refused.headers["connection"]) == (413, KEPT)
        assert (await connection.ask(body=b"fits")).body == b"fits"
        await connection.close()


async def test_a_chunked_body_beyond_the_limit_is_refused(monkeypatch):
    async with front() as door:
        monkeypatch.setattr(door.protocol.door, "max_request_bytes", 100)
        answer = await door.ask(body=b"ff\r\n", Transfer_Encoding="chunked")
        assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_a_refused_body_is_not_invited():
    async with front() as door:
        answer = await door.ask(Content_Length=str(MAX_REQUEST_BYTES + 1), Expect="100-continue")
        assert answer.status == 413


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS on a plain port"),
        pytest.param(b"POST /predictions/m HTTP/1.1\r\nHost here\r\n\r\n", id="a header without :"),
        pytest.param(b"post /predictions/m HTTP/1.1\r\n\r\n", id="an unknown method"),
        pytest.param(request(Content_Length="x"), id="a length that is no number"),
        pytest.param(request(Content_Length="-1"), id="a negative length"),
        pytest.param(request(Content_Length="1_0"), id="a length in Python's spelling"),
        pytest.param(
            b"POST /predictions/m HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            id="two lengths",
        ),
        pytest.param(
            request(Content_Length="1", Transfer_Encoding="chunked"), id="a length and chunks"
        ),
        pytest.param(
            request(Transfer_Encoding="gzip", body=b"5\r\n"), id="a coding that ends nowhere"
        ),
        pytest.param(
            request(Transfer_Encoding="chunked", body=b"zz\r\n"), id="a chunk without a size"
        ),
        pytest.param(
            b"POST /predictions/m HTTP/1.1\r\nContent-Length : 4\r\n\r\nbody", id="a space before :"
        ),
        pytest.param(
            b"POST /predictions/m HTTP/1.1\r\nA: b\r\n Content-Length: 4\r\n\r\n",
            id="a folded line",
        ),
        pytest.param(
            b"POST /predictions/m HTTP/1.1\nContent-Length: 0\n\r\n\r\n", id="bare line feeds"
        ),
    ],
)
async def test_malformed_messages_are_refused_and_never_reach_a_handler(data):
    async with front() as door:
        connection = await door.connect()
        await connection.send(data)
        came = await connection.closed()
        assert came.startswith(b"HTTP/1.1 400 ")
        assert door.version.jobs == []
        await connection.close()


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=60)
def test_random_bytes_never_reach_a_handler_nor_harm_the_next_caller(data):
    async def run():
        async with front() as door:
            connection = await door.connect()
            await connection.send(data)
            await connection.close()
            assert (await door.ask(body=b"next")).body == b"next"
            assert len(door.version.jobs) == 1

    asyncio.run(run())


@given(st.data())
@settings(max_examples=80)
def test_a_mutated_request_is_answered_or_refused_and_harms_no_one(data):
    async def run():
        message = bytearray(request(body=b"hello", Content_Type="text/plain"))
        for _ in range(data.draw(st.integers(1, 3))):
            message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
        async with front() as door:
            connection = await door.connect()
            await connection.send(bytes(message))
            connection.writer.write_eof()
            came = await connection.closed()
            assert not came or came.startswith(b"HTTP/1.1 ")
            await connection.close()
            assert (await door.ask(body=b"next")).body == b"next"

    asyncio.run(run())


async def test_an_offer_to_upgrade_is_passed_by():
    async with front() as door:
        answer = await door.ask(
            body=b"hello", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AA"
        )
        assert answer.body == b"hello"


async def test_http_1_0_is_answered_and_closed():
    async with front() as door:
        connection = await door.connect()
        await connection.send(b"POST /predictions/m HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
        came = await connection.closed()
        assert came.endswith(b"connection: close\r\n\r\nhi")
        await connection.close()


async def test_connection_close_is_honoured():
    async with front() as door:
        connection = await door.connect()
        assert (await connection.ask(Connection="close")).headers["connection"] == "close"
        assert await connection.closed() == b""
        await connection.close()


async def test_a_head_without_end_is_refused():
    async with front() as door:
        connection = await door.connect()
        await connection.send(b"POST /predictions/m HTTP/1.1\r\n" + b"A: b\r\n" * 12_000)
        assert (await connection.closed()).startswith(b"HTTP/1.1 431 ")
        await connection.close()


async def test_an_endless_target_is_refused():
    async with front() as door:
        connection = await door.connect()
        await connection.send(request(target="/predictions/" + "m" * 9_000))
        assert (await connection.closed()).startswith(b"HTTP/1.1 414 ")
        await connection.close()


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"POST /predict", id="a head"),
        pytest.param(request(Content_Length="10", body=b"12345"), id="a body"),
        pytest.param(request(Transfer_Encoding="chunked", body=b"5\r\n12"), id="a chunk"),
    ],
)
async def test_whoever_begins_and_never_ends_is_told_and_closed(monkeypatch, begun):
    for name in ("HEAD_TIMEOUT_S", "STALL_TIMEOUT_S", "TICK_S"):
        monkeypatch.setattr(hot_path, name, 0.05)
    async with front() as door:
        connection = await door.connect()
        await connection.send(begun)
        assert (await connection.closed()).startswith(b"HTTP/1.1 408 ")
        assert door.version.jobs == []
        await connection.close()


async def test_a_body_that_trickles_has_an_end_too(monkeypatch):
    monkeypatch.setattr(hot_path, "TICK_S", 0.02)
    monkeypatch.setattr(hot_path, "BODY_TIMEOUT_S", 0.2)
    async with front() as door:
        connection = await door.connect()
        await connection.send(request(Content_Length="100000"))
        async with asyncio.timeout(5):
            while not connection.reader.at_eof():
                await connection.send(b"x")
                await asyncio.sleep(0.01)
                if connection.reader._buffer:
                    break
        assert (await connection.answer()).status == 408
        await connection.close()


async def test_an_idle_connection_is_closed_after_its_time(monkeypatch):
    monkeypatch.setattr(hot_path, "TICK_S", 0.02)
    async with front(keep_alive_s=0.05) as door:
        connection = await door.connect()
        assert (await connection.ask(body=b"a")).body == b"a"
        assert await connection.closed() == b""
        await connection.close()


async def test_a_cut_off_body_never_reaches_a_handler():
    async with front() as door:
        connection = await door.connect()
        await connection.send(request(Content_Length="10", body=b"12345"))
        await connection.close()
        await door.gone()
        assert door.version.jobs == []


async def test_a_client_that_leaves_abandons_its_job():
    version = EchoVersion()
    version.hold = True
    async with front(version) as door:
        connection = await door.connect()
        await connection.send(request())
        await version.taken(1)
        await connection.close()
        await door.gone()
        assert version.jobs[0].ended


async def test_a_client_that_sends_ahead_without_end_is_not_read_without_end():
    version = EchoVersion()
    version.hold = True
    async with front(version) as door:
        connection = await door.connect()
        connection.writer.write(request())
        await version.taken(1)
        connection.writer.write(request(body=b"x" * 100) * 100_000)
        async with asyncio.timeout(5):
            [inside] = door.state.connections
            while not inside._read_paused:  # noqa: ASYNC110  a state nobody announces
                await asyncio.sleep(0.002)
        assert len(inside._rest) < 1_000_000
        version.hold = False
        version.jobs[0].resolve(Prediction(body=b"first"))
        assert (await connection.answer()).body == b"first"
        for _ in range(2_000):
            assert (await connection.answer()).status == 200
        connection.writer.transport.abort()


async def test_a_client_that_does_not_read_gets_no_further_answers():
    big = Prediction(body=b"x" * 2_000_000)
    async with front(EchoVersion(lambda _: big)) as door:
        connection = await door.connect()
        connection.reader._transport.pause_reading()
        await connection.send(request() * 100)
        async with asyncio.timeout(5):
            while not any(  # noqa: ASYNC110  a state nobody announces
                inside._write_paused for inside in door.state.connections
            ):
                await asyncio.sleep(0.002)
        assert len(door.version.jobs) < 50
        connection.reader._transport.resume_reading()
        for _ in range(100):
            assert len((await connection.answer()).body) == 2_000_000
        await connection.close()


async def test_while_draining_answers_close_their_connection():
    async with front() as door:
        connection = await door.connect()
        assert (await connection.ask()).headers["connection"] == KEPT
        door.protocol.door.draining = True
        assert (await connection.ask()).headers["connection"] == "close"
        assert await connection.closed() == b""
        await connection.close()


async def test_shutdown_closes_the_idle_and_lets_the_busy_finish():
    version = EchoVersion()
    version.hold = True
    async with front(version) as door:
        idle, busy = await door.connect(), await door.connect()
        await busy.send(request())
        await version.taken(1)
        async with asyncio.timeout(5):
            while len(door.state.connections) < 2:  # noqa: ASYNC110  uvicorn's set
                await asyncio.sleep(0.002)
        for connection in list(door.state.connections):
            connection.shutdown()
        assert await idle.closed() == b""
        version.jobs[0].resolve(Prediction(body=b"done"))
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"done", "close")
        await door.gone()
        await idle.close()
        await busy.close()


async def test_an_old_connection_is_asked_to_come_anew():
    async with front(max_age_s=0.01) as door:
        connection = await door.connect()
        await asyncio.sleep(0.02)
        assert (await connection.ask()).headers["connection"] == "close"
        await connection.close()


async def test_the_gate_sees_the_headers_and_may_refuse():
    def gate(headers):
        if b"Authorization: Bearer right" not in headers:
            raise InvalidKey("Token Authorization failed.")

    async with front(gate=gate) as door:
        refused = await door.ask(body=b"a")
        assert (refused.status, json.loads(refused.body)["type"]) == (400, "InvalidKeyException")
        assert (await door.ask(body=b"a", Authorization="Bearer right")).body == b"a"
        assert len(door.version.jobs) == 1


async def test_answers_are_counted_by_the_first_digit_of_their_status():
    async with front() as door:
        await door.ask()
        await door.ask(target="/predictions/x")
        assert door.telemetry.responses == [0, 0, 1, 0, 1, 0]


async def test_an_access_log_is_told_once_per_answer():
    async with front() as door:
        lines = []
        door.telemetry.access = lambda *line: lines.append(line)
        await door.ask(target="/predictions/m/1.0?a=b")
        [(peer, method, target, status, elapsed_ms)] = lines
        assert peer.startswith("127.0.0.1:")
        assert (method, target, status) == ("POST", "/predictions/m/1.0?a=b", 200)
        assert 0 <= elapsed_ms < 5_000


def test_each_listener_has_a_door_of_its_own():
    assert Front(EchoVersion()).protocol.door is not Front(EchoVersion()).protocol.door


async def test_a_big_body_whose_head_came_in_two_parts_leaves_nothing_behind():
    async with front() as door:
        connection = await door.connect()
        whole = request(body=b"x" * 1_000_000)
        await connection.send(whole[:30])
        await asyncio.sleep(0.02)
        await connection.send(whole[30:])
        assert len((await connection.answer()).body) == 1_000_000
        assert (await connection.ask(body=b"next")).body == b"next"


async def in_the_arena(door):
    """Wait until a body has begun to come to its place."""
    async with asyncio.timeout(5):
        while door.version.queue.arena.free_bytes == ARENA_BYTES:  # noqa: ASYNC110  no event tells
            await asyncio.sleep(0.002)


async def test_a_big_body_that_outlasts_its_version_is_carried_to_the_next_one():
    async with front() as door:
        connection = await door.connect()
        body = bytes(range(256)) * 4_000
        whole = request(body=body)
        await connection.send(whole[:500_000])
        await in_the_arena(door)
        successor = door.routes.version = EchoVersion()
        await connection.send(whole[500_000:])
        assert (await connection.answer()).body == body
        assert successor.last.region is None


async def test_whatever_is_accepted_can_be_told_to_a_worker():
    longest = "\xff" * LONGEST_CONTENT_TYPE
    async with front() as door:
        target = "/predictions/m/1.0/" + "%FF" * 2_700
        answer = await door.ask(target=target, Content_Type=longest, X_Request_Id="i" * 128)
        assert answer.status == 200
        protocol.pack_predict(1, [door.version.last])
        refused = await door.ask(Content_Type=longest + "x")
        assert (refused.status, len(door.version.jobs)) == (400, 1)


async def test_a_slow_reader_is_not_cut_off_as_long_as_it_reads(monkeypatch):
    monkeypatch.setattr(hot_path, "STALL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(hot_path, "TICK_S", 0.1)
    size = 20_000_000
    async with front(EchoVersion(lambda _job: Prediction(body=b"y" * size))) as door:
        connection = await door.connect()
        connection.reader._limit = 2**16
        await connection.send(request(body=b"x"))
        await connection.reader.readuntil(b"\r\n\r\n")
        while size:
            part = await connection.reader.read(500_000)
            assert part, f"cut off, {size} bytes before the end"
            size -= len(part)
            await asyncio.sleep(0.03)


async def test_what_is_pipelined_behind_a_stranger_is_answered_however_much_it_is():
    async with front() as door:
        connection = await door.connect()
        sent = request("GET", "/other") + request(body=b"y" * 50_000) * 40
        asking = asyncio.create_task(connection.send(sent))
        assert (await connection.answer()).body == b"GET /other 0"
        for _ in range(40):
            assert len((await connection.answer()).body) == 50_000
        await asking


async def test_while_draining_what_was_pipelined_already_is_answered_before_the_close():
    version = EchoVersion()
    version.hold = True
    async with front(version) as door:
        connection = await door.connect()
        await connection.send(b"".join(request(body=b"%d" % number) for number in range(3)))
        await version.taken(1)
        door.protocol.door.draining = True
        version.hold = False
        version.jobs[0].resolve(Prediction(body=b"0"))
        answers = [await connection.answer() for _ in range(3)]
        assert [each.body for each in answers] == [b"0", b"1", b"2"]
        assert [each.headers["connection"] for each in answers] == [KEPT, KEPT, "close"]
