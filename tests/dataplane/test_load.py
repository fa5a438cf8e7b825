"""The clients that tests and the demo rely on: what they count as failed, and how they connect."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.load import Load, Question, expect

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def is_ok(answer):
    expect(answer.status == 200, f"status {answer.status}")
    expect(answer.body == b"ok", f"body {answer.body!r}")
    return "fine"


ASK = Question("/", b"{}", is_ok)


@asynccontextmanager
async def server(answer, *, requests_per_connection=1_000_000):
    """Answer every request with the same bytes; count connections in the list that is yielded."""
    connections = []

    async def serve(reader, writer):
        connections.append(writer)
        for _ in range(requests_per_connection):
            head = await reader.read(65536)
            if not head:
                break
            writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", connections


async def run_load(url, answers=40):
    async with Load(url, lambda _: ASK, clients=4, rate=1000) as load:
        await load.more(answers, within_s=10)
    return load


async def test_right_answers_are_counted_by_what_the_check_says_of_them():
    async with server(OK) as (url, _):
        load = await run_load(url)
    assert (len(load.failed), load.words["fine"]) == (0, len(load.asked))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nok", id="another status"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", id="another body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="a body of unknown length"),
        pytest.param(b"SSH-2.0 hello\r\n\r\n", id="no HTTP"),
    ],
)
async def test_whatever_is_not_expected_has_failed(answer):
    async with server(answer) as (url, _):
        load = await run_load(url)
    assert len(load.failed) == len(load.asked)


async def test_an_answer_cut_off_has_failed():
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"
    async with server(cut, requests_per_connection=1) as (url, _):
        load = await run_load(url)
    assert len(load.failed) == len(load.asked)


async def test_a_server_that_is_gone_is_a_failure_per_request():
    async with server(OK) as (url, _):
        pass
    load = await run_load(url)
    assert len(load.failed) == len(load.asked)


async def test_half_of_the_clients_keep_their_connection_and_half_connect_anew():
    async with server(OK) as (url, connections):
        load = await run_load(url, answers=80)
    assert len(load.asked) / 3 < len(connections) < len(load.asked) * 2 / 3


async def test_a_kept_connection_that_the_server_announces_to_close_is_replaced_without_failure():
    closing = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    async with server(closing, requests_per_connection=1) as (url, connections):
        load = await run_load(url)
    assert (len(load.failed), len(connections)) == (0, len(load.asked))
