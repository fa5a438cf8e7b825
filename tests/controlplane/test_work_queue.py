"""The work queue, in virtual time: nobody waits, every second is exact."""

import asyncio
import contextlib
from collections import Counter

import pytest

from flambeau_operator.doors import Key, Outcome, Pod, Result, Watched
from flambeau_operator.work_queue import Pace, WorkQueue

pytestmark = pytest.mark.looptime

A, B = Key("ns", "a"), Key("ns", "b")
REST = Result(300)
FAILED = Result(0, failures=(Outcome("put state", "pod-0", "silent"),))
EXACT = Pace(gap_s=0.02, first_retry_s=0.1, last_retry_s=60, jitter=0)
POD = Pod("p", "u", "o", "h", "http://p", True, False, 0, None)


class Passes:
    """A pass that takes a second unless told otherwise, and remembers when it began."""

    def __init__(self, *results, takes_s=1.0):
        self.results = list(results)
        self.takes_s = takes_s
        self.began: list[tuple[Key, float]] = []
        self.at_once = Counter()
        self.most_at_once = Counter()

    async def __call__(self, key):
        self.began.append((key, round(asyncio.get_running_loop().time(), 3)))
        for each in (key, "all"):
            self.at_once[each] += 1
            self.most_at_once[each] = max(self.most_at_once[each], self.at_once[each])
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once.subtract([key, "all"])
        result = self.results.pop(0) if self.results else REST
        if isinstance(result, Exception):
            raise result
        return result

    def times(self, key=A):
        return [at for each, at in self.began if each == key]


async def never(_watched):
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def working(queue):
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_key_added_many_times_gets_one_pass():
    passes = Passes()
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        for _ in range(100):
            queue.add(A)
        await asyncio.sleep(10)
    assert passes.times() == [0]


async def test_what_was_added_before_the_start_is_not_lost():
    passes = Passes()
    queue = WorkQueue(passes, never, pace=EXACT)
    queue.add(A)
    async with working(queue):
        await asyncio.sleep(10)
    assert passes.times() == [0]


async def test_a_key_added_during_its_pass_gets_exactly_one_more():
    passes = Passes()
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(0.5)
        for _ in range(10):
            queue.add(A)
        await asyncio.sleep(10)
    assert passes.times() == [0, 1.02]


async def test_two_passes_of_one_key_never_overlap_but_those_of_two_keys_do():
    passes = Passes()
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        for _ in range(40):
            queue.add(A)
            queue.add(B)
            await asyncio.sleep(0.3)
    assert (passes.most_at_once[A], passes.most_at_once[B]) == (1, 1)
    assert passes.most_at_once["all"] == 2


async def test_no_more_passes_run_at_once_than_allowed():
    passes = Passes()
    async with working(WorkQueue(passes, never, pace=EXACT, parallel=3)) as queue:
        for number in range(10):
            queue.add(Key("ns", f"d{number}"))
        await asyncio.sleep(10)
    assert passes.most_at_once["all"] == 3
    assert len(passes.began) == 10


async def test_a_pass_says_when_to_look_again():
    passes = Passes(Result(5), Result(7))
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(20)
    assert passes.times() == pytest.approx([0, 6.02, 14.04])


async def test_look_again_times_are_spread():
    waits = []
    for dice in (0.0, 0.5, 1.0):
        passes = Passes(Result(100), takes_s=0)
        queue = WorkQueue(passes, never, pace=Pace(gap_s=0, jitter=0.2), dice=lambda at=dice: at)
        async with working(queue):
            queue.add(A)
            await asyncio.sleep(130)
        first, second = passes.times()[:2]
        waits.append(round(second - first))
    assert waits == [80, 100, 120]


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(FAILED, id="a pass that collected failures"),
        pytest.param(RuntimeError("a bug"), id="a pass that raised"),
    ],
)
async def test_failures_back_off_and_success_forgets_them(failure, caplog):
    passes = Passes(failure, failure, failure, Result(1), failure, takes_s=0)
    pace = Pace(gap_s=0, first_retry_s=1, last_retry_s=60, jitter=0)
    async with working(WorkQueue(passes, never, pace=pace)) as queue:
        queue.add(A)
        await asyncio.sleep(30)
    assert passes.times() == pytest.approx([0, 1, 3, 7, 8, 9])
    assert ("pass failed" in caplog.text) == isinstance(failure, Exception)


async def test_back_off_has_an_end():
    passes = Passes(*[FAILED] * 20, takes_s=0)
    pace = Pace(gap_s=0, first_retry_s=1, last_retry_s=10, jitter=0)
    async with working(WorkQueue(passes, never, pace=pace)) as queue:
        queue.add(A)
        await asyncio.sleep(100)
    late = passes.times()[-3:]
    assert [late[1] - late[0], late[2] - late[1]] == [10, 10]


async def test_the_failures_of_one_key_delay_no_other():
    passes = Passes(FAILED, FAILED, FAILED, FAILED, takes_s=0)
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(1)
        queue.add(B)
        await asyncio.sleep(1)
    assert passes.times(B) == [1]


async def test_an_edit_does_not_wait_for_the_back_off():
    passes = Passes(*[FAILED] * 10, takes_s=0)
    pace = Pace(gap_s=0, first_retry_s=100, jitter=0)
    async with working(WorkQueue(passes, never, pace=pace)) as queue:
        queue.add(A)
        await asyncio.sleep(10)
        queue.add(A)
        await asyncio.sleep(10)
    assert passes.times() == [0, 10]


async def test_news_from_a_watched_pod_brings_the_next_pass():
    watched = Watched(POD, "7")
    asked = []

    async def news_after_two_seconds(watch):
        asked.append(tuple(watch))
        await asyncio.sleep(2)

    passes = Passes(Result(60, watch=(watched,)), takes_s=0)
    async with working(WorkQueue(passes, news_after_two_seconds, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(30)
    assert passes.times() == [0, 2.02]
    assert asked == [(watched,)]


async def test_a_watch_that_breaks_leaves_the_look_again_time(caplog):
    async def breaks(_watch):
        raise RuntimeError("a bug")

    passes = Passes(Result(60, watch=(Watched(POD, "7"),)), takes_s=0)
    async with working(WorkQueue(passes, breaks, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(100)
    assert passes.times() == [0, 60.02]
    assert "watch failed" in caplog.text


async def test_a_storm_of_news_is_passed_through_at_a_pace():
    async def always_news(_watch):
        await asyncio.sleep(0)

    passes = Passes(*[Result(60, watch=(Watched(POD, "7"),))] * 1000, takes_s=0)
    async with working(WorkQueue(passes, always_news, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(1)
    assert len(passes.began) <= 51


async def test_a_key_whose_object_is_gone_is_forgotten_until_it_is_added_again():
    passes = Passes(Result(1, gone=True), takes_s=0)
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(100)
        assert passes.times() == [0]
        queue.add(A)
        await asyncio.sleep(1)
    assert passes.times() == [0, 100]


async def test_a_key_added_while_its_object_goes_is_looked_at_again():
    passes = Passes(Result(1, gone=True))
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        queue.add(A)
        await asyncio.sleep(0.5)
        queue.add(A)
        await asyncio.sleep(10)
    assert len(passes.times()) == 2


async def test_stopping_cancels_passes_and_leaves_no_task():
    passes = Passes(takes_s=1000)
    async with working(WorkQueue(passes, never, pace=EXACT)) as queue:
        queue.add(A)
        queue.add(B)
        await asyncio.sleep(1)
    assert passes.at_once["all"] == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
