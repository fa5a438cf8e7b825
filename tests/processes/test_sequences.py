"""Sequences with real workers: state is where it is expected, in order, within limits."""

import asyncio
import os
import signal

import orjson
import pytest
import uvloop

from flambeau_runtime.serving.desired import Batching
from tests.processes.served import served, whole

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

COUNTER = """
import os, time

class Handler:
    def initialize(self, context):
        self.counts = {}

    def handle(self, data, context):
        answers = []
        for index, row in enumerate(data):
            key = context.get_sequence_id(index)
            self.counts[key] = self.counts.get(key, 0) + 1
            time.sleep(row["body"].get("sleep", 0))
            answers.append([key, self.counts[key], os.getpid()])
        return answers
"""
LIMITS = {
    "sequenceBatching": True,
    "sequenceMaxIdleMSec": 60_000,
    "maxNumSequence": 20,
    "maxSequenceJobQueueSize": 10,
}


async def ask(made, key=None, **what):
    headers = {} if key is None else {"ts_request_sequence_id": key}
    client = await made.connect()
    lines = [f"{name}: {value}" for name, value in headers.items()]
    body = orjson.dumps(what)
    head = ["POST /predictions/m HTTP/1.1", "Host: h", "Content-Type: application/json", *lines]
    await client.send("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    status, answer = await whole(client)
    await client.close()
    return status, orjson.loads(answer)


def sequences(tmp_path, run, *, workers=2, **limits):
    async def main():
        config = {"config": LIMITS | limits}
        how = {"workers": workers, "batching": Batching(8, 0.05)}
        async with served(tmp_path, COUNTER, **config, **how) as made:
            await run(made)

    uvloop.run(main())


def test_every_sequence_is_counted_in_order_by_one_worker(tmp_path):
    async def one(made, key):
        return [(await ask(made, key))[1] for _ in range(10)]

    async def run(made):
        told = await asyncio.gather(*(one(made, f"s{n}") for n in range(20)))
        for number, answers in enumerate(told):
            assert [(key, count) for key, count, _ in answers] == [
                (f"s{number}", count + 1) for count in range(10)
            ]
            assert len({pid for _, _, pid in answers}) == 1
        pids = [answers[0][2] for answers in told]
        assert sorted(map(pids.count, set(pids))) == [10, 10]

    sequences(tmp_path, run)


def test_requests_sent_at_once_are_answered_in_the_order_of_their_arrival(tmp_path):
    async def run(made):
        first = asyncio.create_task(ask(made, "s", sleep=0.3))
        await asyncio.sleep(0.1)
        rest = []
        for _ in range(5):
            rest.append(asyncio.create_task(ask(made, "s")))
            await asyncio.sleep(0.02)
        answers = await asyncio.gather(first, *rest)
        assert [answer[1] for _, answer in answers] == [1, 2, 3, 4, 5, 6]

    sequences(tmp_path, run)


def test_a_request_without_a_sequence_is_one_of_its_own(tmp_path):
    async def run(made):
        (_, first), (_, second) = await asyncio.gather(ask(made), ask(made))
        assert first[0].startswith("ts-seq-")
        assert first[0] != second[0]
        assert first[1] == second[1] == 1

    sequences(tmp_path, run)


def test_a_sequence_too_many_is_refused_until_another_has_been_idle(tmp_path):
    async def run(made):
        assert (await ask(made, "a"))[0] == 200
        status, problem = await ask(made, "b")
        assert status == 503
        assert "please check if it is closed, or expired" in problem["message"]
        await asyncio.sleep(0.5)
        assert await ask(made, "b") == (200, ["b", 1, made.pid])

    sequences(tmp_path, run, workers=1, maxNumSequence=1, sequenceMaxIdleMSec=300)


def test_a_worker_that_dies_fails_what_it_had_and_the_sequence_begins_anew(tmp_path):
    async def run(made):
        _, (_, _, pid) = await ask(made, "s")
        at_work = asyncio.create_task(ask(made, "s", sleep=30))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        status, problem = await at_work
        assert (status, problem["message"][:11]) == (500, "Worker died")
        _, (key, count, other) = await ask(made, "s")
        assert (key, count) == ("s", 1)
        assert other != pid

    sequences(tmp_path, run)
