"""Streams through real sockets and a real worker: their pace, their ends, those beside them."""

import asyncio
import os
import signal
import time

import orjson
import pytest
import uvloop

from flambeau_runtime.serving.desired import Batching, Timeouts
from tests.dataplane.front_door import request
from tests.processes.served import chunk, first_chunk, served, whole

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

STREAMER = """
import os, time
from pathlib import Path
from ts.handler_utils.utils import send_intermediate_predict_response

def note(name, text):
    path = Path(NOTES) / name
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(str(text))
    new.rename(path)

def handle(data, context):
    if data is None:
        return None
    asked = [row["body"] for row in data]
    if not any("pieces" in each for each in asked):
        return [each["say"] for each in asked]
    ids = context.request_ids
    for turn in range(max(each.get("pieces", 0) for each in asked)):
        streams = {i: ids[i] for i, each in enumerate(asked) if turn < each.get("pieces", 0)}
        ask = asked[next(iter(streams))]
        pieces = {i: "%d " % turn + "x" * asked[i].get("size", 0) for i in streams}
        try:
            send_intermediate_predict_response(pieces, streams, "ok", 200, context)
        except OSError as error:
            note("left", f"{type(error).__name__} after {turn}")
            raise
        note("sent", turn + 1)
        time.sleep(ask.get("every", 0))
        if ask.get("die") == turn:
            os._exit(3)
        if ask.get("fail") == turn:
            raise ValueError("no more")
    return ["end" for _ in data]
"""


def note(made, name):
    path = made.folder / name
    return path.read_text() if path.exists() else ""


async def until_noted(made, name):
    async with asyncio.timeout(20):
        while not note(made, name):  # noqa: ASYNC110  the handler's file has no event
            await asyncio.sleep(0.01)
    return note(made, name)


def ask(**what):
    return orjson.dumps(what)


def streaming(tmp_path, run, **how):
    async def main():
        async with served(tmp_path, STREAMER, **how) as made:
            await run(made)

    uvloop.run(main())


def test_pieces_arrive_while_the_handler_runs(tmp_path):
    async def run(made):
        client = await made.send(ask(pieces=3, every=1))
        began = time.monotonic()
        assert await first_chunk(client) == b"0 "
        assert time.monotonic() - began < 2  # and not 3, when the handler is through
        assert [await chunk(client) for _ in range(4)] == [b"1 ", b"2 ", b"end", b""]
        assert time.monotonic() - began > 2
        await client.send(request(body=ask(say="next"), Content_Type="application/json"))
        assert await whole(client) == (200, b"next")
        await client.close()

    streaming(tmp_path, run)


def test_rows_of_one_batch_stream_for_as_long_as_each_wants(tmp_path):
    async def run(made):
        blocker = asyncio.create_task(made.ask(ask(pieces=1, every=0.3)))
        await until_noted(made, "sent")
        answers = await asyncio.gather(
            made.ask(ask(pieces=1)), made.ask(ask(pieces=3)), made.ask(ask(say="x"))
        )
        assert answers == [(200, b"0 end"), (200, b"0 1 2 end"), (200, b"end")]
        await blocker

    streaming(tmp_path, run, batching=Batching(8, 0.05))


def test_a_slow_reader_sets_the_pace_of_the_handler(tmp_path):
    async def run(made):
        client = await made.connect(limit=1024)
        body = ask(pieces=400, size=100_000)
        await client.send(request(body=body, Content_Type="application/json"))
        await until_noted(made, "sent")
        sent = await _comes_to_rest(made)
        assert sent < 100  # of 400: what front, sockets and kernel hold is bounded
        for _ in range(3):  # it goes on only as the client reads
            await asyncio.sleep(0.2)
            assert int(note(made, "sent")) == sent
        await client.reader.readuntil(b"\r\n\r\n")
        rest = await _read_all(client)
        assert rest.endswith(b"3\r\nend\r\n0\r\n\r\n")
        assert rest.count(b"x") == 400 * 100_000
        await client.close()

    streaming(tmp_path, run)


async def _comes_to_rest(made):
    """Wait until the handler sends no more, and return how many pieces it has sent."""
    async with asyncio.timeout(20):
        before = -1
        while (sent := int(note(made, "sent"))) != before:
            before = sent
            await asyncio.sleep(0.4)
    return sent


async def _read_all(client):
    rest = b""
    async with asyncio.timeout(60):
        while not rest.endswith(b"\r\n0\r\n\r\n"):
            rest += await client.reader.read(2**20)
    return rest


def test_others_are_served_while_a_reader_is_stuck(tmp_path):
    async def run(made):
        stuck = await made.connect(limit=1024)
        body = ask(pieces=200, size=100_000)
        await stuck.send(request(body=body, Content_Type="application/json"))
        await until_noted(made, "sent")
        await _comes_to_rest(made)
        for turn in range(20):
            assert await made.ask(ask(say=str(turn))) == (200, str(turn).encode())
        await stuck.close()

    streaming(tmp_path, run, workers=2)


def test_a_reader_who_leaves_frees_the_worker(tmp_path):
    async def run(made):
        client = await made.send(ask(pieces=10_000, every=0.01))
        await first_chunk(client)
        await client.close()
        assert (await until_noted(made, "left")).startswith("ReaderLeft after ")
        assert await made.ask(ask(say="next")) == (200, b"next")
        assert made.live.counts().restarts == 0

    streaming(tmp_path, run)


def test_a_stuck_reader_who_leaves_frees_the_worker_too(tmp_path):
    async def run(made):
        client = await made.connect(limit=1024)
        body = ask(pieces=1000, size=100_000)
        await client.send(request(body=body, Content_Type="application/json"))
        await until_noted(made, "sent")
        await _comes_to_rest(made)
        client.writer.transport.abort()
        await until_noted(made, "left")
        assert await made.ask(ask(say="next")) == (200, b"next")

    streaming(tmp_path, run)


@pytest.mark.parametrize(
    ("what", "restarts"),
    [
        pytest.param({"die": 1}, 1, id="the worker dies"),
        pytest.param({"fail": 1}, 0, id="the handler raises"),
    ],
)
def test_a_stream_that_cannot_go_on_breaks_off_visibly(tmp_path, what, restarts):
    async def run(made):
        with pytest.raises(asyncio.IncompleteReadError):
            await made.ask(ask(pieces=5, **what))
        assert await made.ask(ask(say="next")) == (200, b"next")
        assert made.live.counts().restarts == restarts
        assert int(note(made, "sent")) == 2  # it was not run again

    streaming(tmp_path, run)


def test_a_worker_that_is_killed_in_mid_stream_breaks_it_off_at_once(tmp_path):
    async def run(made):
        client = await made.send(ask(pieces=10_000, every=0.01))
        await first_chunk(client)
        began = time.monotonic()
        os.kill(made.pid, signal.SIGKILL)
        assert not (await client.reader.read(-1)).endswith(b"0\r\n\r\n")
        assert time.monotonic() - began < 20  # it would have gone on for 100
        await client.close()
        assert await made.ask(ask(say="next")) == (200, b"next")

    streaming(tmp_path, run)


def test_a_worker_killed_while_its_reader_is_stuck_is_replaced(tmp_path):
    async def run(made):
        client = await made.connect(limit=1024)
        body = ask(pieces=1000, size=100_000)
        await client.send(request(body=body, Content_Type="application/json"))
        await until_noted(made, "sent")
        await _comes_to_rest(made)
        os.kill(made.pid, signal.SIGKILL)
        assert await made.ask(ask(say="next")) == (200, b"next")
        async with asyncio.timeout(20):
            assert not (await client.reader.read(-1)).endswith(b"0\r\n\r\n")
        await client.close()

    streaming(tmp_path, run)


def test_the_models_timeout_is_for_each_piece(tmp_path):
    async def run(made):
        assert await made.ask(ask(pieces=8, every=0.3)) == (200, b"0 1 2 3 4 5 6 7 end")
        with pytest.raises(asyncio.IncompleteReadError):
            await made.ask(ask(pieces=1, every=10))

    streaming(tmp_path, run, timeouts=Timeouts(response_s=1, startup_s=30))


def test_fifty_streams_at_once_while_plain_requests_go_on(tmp_path):
    async def run(made):
        streams = [asyncio.create_task(made.ask(ask(pieces=20, every=0.01))) for _ in range(50)]
        for turn in range(20):
            assert await made.ask(ask(say=str(turn))) in {(200, str(turn).encode()), (200, b"end")}
        whole_stream = b"".join(b"%d " % turn for turn in range(20)) + b"end"
        assert await asyncio.gather(*streams) == [(200, whole_stream)] * 50

    streaming(tmp_path, run, workers=2, batching=Batching(16, 0.02))


def test_a_drain_lets_a_stream_come_to_its_end(tmp_path):
    async def run(made):
        client = await made.send(ask(pieces=10, every=0.05))
        await first_chunk(client)
        draining = asyncio.create_task(made.live.drain(20))
        rest = []
        while part := await chunk(client):
            rest.append(part)
        assert rest[-1] == b"end"
        await draining
        await client.close()

    streaming(tmp_path, run)


CONTINUOUS = """
import time

class Handler:
    def initialize(self, context):
        self.left = {}
        self.done = {}

    def handle(self, data, context):
        time.sleep(0.02)
        ids = [context.get_request_id(index) for index in range(len(data))]
        for key, row in zip(ids, data):
            if row:
                self.left[key], self.done[key] = row["body"]["calls"], 0
        for key in ids:
            self.done[key] += 1
        context.stopping_criteria = [
            lambda result, key=key: self.done[key] >= self.left[key] for key in ids
        ]
        return [f"{self.done[key]}/{len(data)} " for key in ids]
"""


def test_rows_join_a_batch_that_runs_and_leave_it_one_by_one(tmp_path):
    async def main():
        how = {"config": {"continuousBatching": True}, "batching": Batching(4, 0.1)}
        async with served(tmp_path, CONTINUOUS, **how) as made:
            long = await made.send(ask(calls=40))
            await first_chunk(long)
            joined = await asyncio.gather(*(made.ask(ask(calls=n)) for n in (1, 2, 5)))
            turns = [body.decode().split() for _, body in joined]
            assert [len(each) for each in turns] == [1, 2, 5]
            assert all(int(turn.split("/")[1]) > 1 for each in turns for turn in each)
            async with asyncio.timeout(20):
                assert (await _read_all(long)).count(b"/1 ") > 20  # alone again

    uvloop.run(main())


def test_a_reader_of_a_running_batch_who_leaves_makes_room(tmp_path):
    async def main():
        how = {"config": {"continuousBatching": True}, "batching": Batching(1, 0.1)}
        async with served(tmp_path, CONTINUOUS, **how) as made:
            leaves = await made.send(ask(calls=1_000_000))
            await first_chunk(leaves)
            await leaves.close()
            assert await made.ask(ask(calls=2)) == (200, b"1/1 2/1 ")

    uvloop.run(main())


def test_fifty_callers_of_a_running_batch_get_each_their_own(tmp_path):
    async def main():
        how = {"config": {"continuousBatching": True}, "batching": Batching(16, 0.1)}
        async with served(tmp_path, CONTINUOUS, **how) as made:
            answers = await asyncio.gather(*(made.ask(ask(calls=n % 7 + 1)) for n in range(50)))
            turns = [[turn.split(b"/")[0] for turn in body.split()] for _, body in answers]
            assert turns == [[b"%d" % (call + 1) for call in range(n % 7 + 1)] for n in range(50)]

    uvloop.run(main())


CONCURRENT = """
import asyncio
from pathlib import Path
from ts.handler_utils.utils import send_intermediate_predict_response

class Handler:
    def initialize(self, context):
        self.at_once = self.most = 0

    async def handle(self, data, context):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            return [await self.answer(row["body"], context) for row in data]
        except asyncio.CancelledError:
            (Path(NOTES) / "left").write_text("cancelled")
            raise
        finally:
            self.at_once -= 1

    async def answer(self, asked, context):
        if asked.get("most"):
            return self.most
        if asked.get("fail"):
            raise ValueError("no")
        for turn in range(asked.get("pieces", 0)):
            send_intermediate_predict_response(
                [f"{turn} "], context.request_ids, "ok", 200, context
            )
            await asyncio.sleep(0.02)
        await asyncio.sleep(asked.get("sleep", 0))
        return asked.get("say", "end")
"""


def concurrently(tmp_path, run, **how):
    async def main():
        how_all = {"config": {"asyncCommunication": True}, **how}
        async with served(tmp_path, CONCURRENT, **how_all) as made:
            await run(made)

    uvloop.run(main())


def test_a_coroutine_has_many_requests_at_once(tmp_path):
    async def run(made):
        began = time.monotonic()
        answers = await asyncio.gather(*(made.ask(ask(sleep=0.5, say=f"n{n}")) for n in range(50)))
        assert answers == [(200, b"n%d" % n) for n in range(50)]
        assert time.monotonic() - began < 10  # and not 25
        assert int((await made.ask(ask(most=True)))[1]) > 20

    concurrently(tmp_path, run)


def test_coroutines_stream_side_by_side(tmp_path):
    async def run(made):
        answers = await asyncio.gather(*(made.ask(ask(pieces=n % 5)) for n in range(30)))
        for number, (status, body) in enumerate(answers):
            pieces = "".join(f"{turn} " for turn in range(number % 5))
            assert (status, body.decode()) == (200, f"{pieces}end")

    concurrently(tmp_path, run)


def test_a_coroutine_that_raises_fails_alone(tmp_path):
    async def run(made):
        fine = asyncio.create_task(made.ask(ask(sleep=0.3, say="fine")))
        status, body = await made.ask(ask(fail=True))
        assert status == 503
        assert b"ValueError: no" in body
        assert await fine == (200, b"fine")
        assert made.live.counts().restarts == 0

    concurrently(tmp_path, run)


def test_a_reader_who_leaves_cancels_its_coroutine(tmp_path):
    async def run(made):
        client = await made.send(ask(pieces=100_000))
        await first_chunk(client)
        await client.close()
        assert await until_noted(made, "left") == "cancelled"
        assert await made.ask(ask(say="next")) == (200, b"next")

    concurrently(tmp_path, run)
