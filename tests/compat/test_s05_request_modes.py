"""Section 5: how a model wants its requests taken together."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.compat.handlers import OBEDIENT
from tests.compat.server import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

REFUSED = (
    'Model "{model}" has no worker to serve inference request. Please use scale workers API to '
    "add workers. If this is a sequence inference, please check if it is closed, or expired; or "
    "exceeds maxSequenceJobQueueSize"
)


def assert_refused(answer, model: str) -> None:
    assert answer.status == 503
    assert answer.json == {
        "code": 503,
        "type": "ServiceUnavailableException",
        "message": REFUSED.format(model=model),
    }


CONTINUOUS = """
    import time

    class Handler:
        def __init__(self):
            self.calls = {}

        def initialize(self, context):
            pass

        def handle(self, data, context):
            ids = [context.get_request_id(index) for index in range(len(data))]
            known = [not row for row in data]
            for index, knows in enumerate(known):
                assert knows is ("body" not in context.get_all_request_header(index))
            for key, row in zip(ids, data):
                if row:
                    self.calls[key] = [0, int(row["body"])]
            for key in ids:
                self.calls[key][0] += 1
            context.stopping_criteria = [
                lambda result, key=key: self.calls[key][0] >= self.calls[key][1] for key in ids
            ]
            time.sleep(0.2)
            return [
                f"{self.calls[key][0]}/{len(data)}{'k' if knows else 'n'} "
                for key, knows in zip(ids, known)
            ]
"""
CONTINUOUS_CONFIG = """
    minWorkers: 1
    maxWorkers: 1
    batchSize: 3
    maxBatchDelay: 50
    continuousBatching: true
"""


@pytest.fixture(scope="module")
def continuous(ts):
    with ts.registered(CONTINUOUS, config=CONTINUOUS_CONFIG) as model:
        yield model


def calls(ts, model: str, count: int):
    return ts.predict(model, str(count).encode(), {"Content-Type": "text/plain"})


@pytest.mark.row("5-continuous-batching", "7.2-sequences")
def test_a_request_is_called_again_until_its_criterion_says_stop(ts, continuous):
    answer = calls(ts, continuous, 3)
    assert answer.chunks == (b"1/1n ", b"2/1k ", b"3/1k ")
    assert answer.header("ts_stream_next") == "true"


@pytest.mark.row("5-continuous-batching")
def test_requests_join_a_batch_that_runs(ts, continuous):
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(calls, ts, continuous, 20)
        time.sleep(0.3)
        others = [threads.submit(calls, ts, continuous, 2) for _ in range(2)]
        sizes = [piece.split(b"/")[1][:1] for piece in first.result().chunks]
        assert sizes[0] == sizes[-1] == b"1"
        assert max(sizes) == b"3"
        for other in others:
            assert [piece[:1] for piece in other.result().chunks] == [b"1", b"2"]


@pytest.mark.row("5-continuous-one-call", only="ours")
def test_a_request_that_its_first_call_finishes_is_answered_whole(ts, continuous):
    answer = calls(ts, continuous, 1)
    assert (answer.status, answer.body, answer.chunks) == (200, b"1/1n ", ())


COUNTER = """
    import os, time

    class Handler:
        def __init__(self):
            self.counts = {}

        def initialize(self, context):
            pass

        def handle(self, data, context):
            answers = []
            for index, row in enumerate(data):
                key = context.get_sequence_id(index)
                self.counts[key] = self.counts.get(key, 0) + 1
                headers = context.get_all_request_header(index)
                start = headers.get(context.header_key_sequence_start)
                if row["body"] == "sleep":
                    time.sleep(4)
                answers.append([key, self.counts[key], start, os.getpid()])
            return answers
"""
SEQUENCES = """
    minWorkers: 2
    maxWorkers: 2
    batchSize: 4
    maxBatchDelay: 20
    sequenceBatching: true
    sequenceMaxIdleMSec: {idle}
    maxNumSequence: {count}
    maxSequenceJobQueueSize: 2
"""


@pytest.fixture(scope="module")
def counter(ts):
    with ts.registered(COUNTER, config=SEQUENCES.format(idle=20_000, count=20)) as model:
        yield model


def of(ts, model: str, key: str | None, body: str = "x", **headers: str):
    named = {"Content-Type": "text/plain", **headers}
    if key is not None:
        named["ts_request_sequence_id"] = key
    return ts.predict(model, body.encode(), named)


@pytest.mark.row("5-sequences", "7.2-sequences")
def test_a_sequence_is_served_by_one_worker_in_order(ts, counter):
    answers = [of(ts, counter, "one").json for _ in range(4)]
    assert [answer[:2] for answer in answers] == [["one", count] for count in (1, 2, 3, 4)]
    assert len({answer[3] for answer in answers}) == 1


@pytest.mark.row("5-sequences", "5-continuous-batching", "5-job-ticket")
def test_the_description_says_how_requests_are_taken(ts, counter, continuous):
    said = ts.describe(counter)
    assert {
        "stateful": True,
        "sequenceMaxIdleMSec": 20_000,
        "sequenceTimeoutMSec": 0,
        "maxNumSequence": 20,
        "maxSequenceJobQueueSize": 2,
        "continuousBatching": False,
        "useJobTicket": False,
    }.items() <= said.items()
    said = ts.describe(continuous)
    assert said["continuousBatching"] is True
    assert (said["stateful"], said["maxNumSequence"]) == (False, 0)


@pytest.mark.row("5-sequences")
def test_a_request_that_names_no_sequence_begins_one_of_its_own(ts, counter):
    (first, count, start, _), (second, *_) = (of(ts, counter, None).json for _ in range(2))
    assert first.startswith("ts-seq-")
    assert (count, start) == (1, "true")
    assert first != second


@pytest.mark.row("5-sequences")
def test_headers_of_start_and_end_are_the_handlers_own_affair(ts, counter):
    begun = of(ts, counter, "two", ts_request_sequence_start="true").json
    ended = of(ts, counter, "two", ts_request_sequence_end="true").json
    after = of(ts, counter, "two").json
    assert [answer[:3] for answer in (begun, ended, after)] == [
        ["two", 1, "true"],
        ["two", 2, None],
        ["two", 3, None],
    ]


@pytest.mark.row("5-sequences")
def test_no_more_requests_of_a_sequence_wait_than_its_queue_has_room_for(ts, counter):
    with ThreadPoolExecutor(4) as threads:
        taken = [threads.submit(of, ts, counter, "three", "sleep")]
        for _ in range(2):
            time.sleep(0.5)
            taken.append(threads.submit(of, ts, counter, "three"))
        time.sleep(0.5)
        assert_refused(of(ts, counter, "three"), counter)
        assert [answer.result().json[1] for answer in taken] == [1, 2, 3]


@pytest.mark.row("5-sequences")
def test_there_are_no_more_sequences_than_the_limit_until_one_has_been_idle(ts):
    with ts.registered(COUNTER, config=SEQUENCES.format(idle=3000, count=2)) as model:
        for key in ("a", "b"):
            assert of(ts, model, key).status == 200
        assert_refused(of(ts, model, "c"), model)
        first = until(lambda: taken(of(ts, model, "c")))
        assert first[:2] == ["c", 1]


def taken(answer):
    """Return what a sequence was told; nothing if there was no room for it."""
    return answer.json if answer.status == 200 else None


OTHER_NAMES = {
    "ts_header_key_sequence_id": "X-Sequence",
    "ts_header_key_sequence_start": "X-Start",
    "ts_header_key_sequence_end": "X-End",
}
TOLD_TO_WORKERS = {
    "TS_REQUEST_SEQUENCE_ID": "X-Sequence",
    "TS_REQUEST_SEQUENCE_START": "X-Start",
    "TS_REQUEST_SEQUENCE_END": "X-End",
}


@pytest.mark.row("4.2-sequence-headers")
def test_the_headers_of_sequences_can_have_other_names(serve):
    assert_other_names(serve(config=OTHER_NAMES, env=TOLD_TO_WORKERS))


@pytest.mark.row("4.2-sequence-headers-in-workers", only="ours")
def test_workers_know_the_other_names_without_being_told(serve):
    assert_other_names(serve(config=OTHER_NAMES))


def assert_other_names(ts) -> None:
    with ts.registered(COUNTER, config=SEQUENCES.format(idle=20_000, count=9)) as model:
        answers = [of(ts, model, None, **{"X-Sequence": "mine"}).json for _ in range(2)]
        assert [answer[:2] for answer in answers] == [["mine", 1], ["mine", 2]]
        key, _, start, _ = of(ts, model, "not a name any more").json
        assert key.startswith("ts-seq-")
        assert start == "true"


SLEEPER = """
    import time

    def handle(data, context):
        if data is None:
            return None
        time.sleep(float(data[0]["body"]))
        return ["ok"] * len(data)
"""


def asleep(ts, model: str, seconds: float):
    return ts.predict(model, str(seconds).encode(), {"Content-Type": "text/plain"})


@pytest.mark.row("5-job-ticket")
def test_with_tickets_a_request_is_taken_only_when_a_worker_is_idle(ts):
    config = "minWorkers: 2\nmaxWorkers: 2\nuseJobTicket: true\n"
    with ts.registered(OBEDIENT, config=config) as model, ThreadPoolExecutor(2) as threads:
        begun = [ts.place.folder / f"{model}-{number}" for number in range(2)]
        busy = [threads.submit(nap, ts, model, touch) for touch in begun]
        until(lambda: all(touch.exists() for touch in begun))
        assert_refused(ts.predict(model), model)
        assert [answer.result().status for answer in busy] == [200, 200]
        # A worker is idle a moment after its answer has left.
        until(lambda: ts.predict(model).status == 200)


def nap(ts, model, touch):
    order = {"do": "nap", "s": 3, "touch": str(touch)}
    return ts.predict(model, json.dumps(order).encode(), {"Content-Type": "application/json"})


@pytest.mark.row("5-client-timeout", only="ours")
def test_a_client_is_told_when_its_time_is_over(ts):
    config = "minWorkers: 1\nmaxWorkers: 1\nclientTimeoutInMills: 500\n"
    with ts.registered(SLEEPER, config=config) as model:
        began = time.monotonic()
        answer = asleep(ts, model, 5)
        assert time.monotonic() - began < 4
        assert (answer.status, answer.json["type"]) == (500, "InternalServerException")
        assert "within 0.5 s" in answer.json["message"]


COROUTINE = """
    import asyncio
    from ts.handler_utils.utils import send_intermediate_predict_response

    class Handler:
        def __init__(self):
            pass

        def initialize(self, context):
            pass

        async def handle(self, data, context):
            for turn in range(2):
                send_intermediate_predict_response(
                    [f"{turn} "] * len(data), context.request_ids, "ok", 200, context
                )
                await asyncio.sleep(0.5)
            return ["end"] * len(data)
"""


@pytest.mark.row("5-async")
def test_a_coroutine_has_several_requests_at_once(ts):
    config = "minWorkers: 1\nmaxWorkers: 1\nmaxBatchDelay: 1\nasyncCommunication: true\n"
    with ts.registered(COROUTINE, config=config) as model, ThreadPoolExecutor(8) as threads:
        ts.predict(model)
        began = time.monotonic()
        answers = list(threads.map(lambda _: ts.predict(model), range(8)))
        assert time.monotonic() - began < 6  # and not 8
        assert [answer.chunks for answer in answers] == [(b"0 ", b"1 ", b"end")] * 8
