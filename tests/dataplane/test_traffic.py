"""Who takes a request that names no version: weights, keys, and what must not move."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Sticky
from flambeau_runtime.serving.modes import SequenceLimits
from flambeau_runtime.serving.sequences import SequenceQueue
from flambeau_runtime.serving.traffic import Chance, KeyReader, Split, lay_out, point_of
from tests.dataplane.fake_worker import new_job, new_queue

KEYS = [b"user-%d" % number for number in range(10_000)]
BY_HEADER = Sticky(header="X-User-Id")


class Taker:
    """A version that has nothing but a name and a queue."""

    def __init__(self, version, queue=None):
        self.version = version
        self.queue = new_queue() if queue is None else queue

    def __repr__(self):
        return self.version


def split(default="1.0", ready=None, sticky=BY_HEADER, **weights):
    """The split of versions with these weights, of which all are ready unless it is said."""
    shares = lay_out(weights.items())
    parts = [(it, Taker(it.version)) for it in shares if ready is None or it.version in ready]
    return Split("m", Taker(default), parts, Chance(0.0), sticky)


def whose(made, key):
    return made.pick(b"\r\nX-User-Id: %b\r\n" % key).version


def held(made):
    return {key: whose(made, key) for key in KEYS}


def moved(before, after):
    return Counter((before[key], after[key]) for key in KEYS if before[key] != after[key])


# callers who keep their version


def test_from_10_to_20_percent_only_so_many_callers_move_and_none_moves_back():
    before, after = held(split(new=10)), held(split(new=20))
    moves = moved(before, after)
    assert set(moves) == {("1.0", "new")}
    assert 900 <= moves["1.0", "new"] <= 1_100


@pytest.mark.parametrize(
    ("before", "after", "grows"),
    [
        pytest.param({"a": 20, "b": 10}, {"a": 20, "b": 20}, "b", id="the second grows"),
        pytest.param({"a": 10, "b": 20}, {"a": 20, "b": 20}, "a", id="the first grows"),
        pytest.param({"a": 20, "b": 0}, {"a": 20, "b": 10}, "b", id="one comes in"),
        pytest.param({"a": 40, "b": 50}, {"a": 40, "b": 60}, "b", id="until nothing is left"),
        pytest.param(
            {"a": 10, "b": 10, "c": 10}, {"a": 10, "b": 10, "c": 20}, "c", id="the last of three"
        ),
        pytest.param(
            {"a": 9, "b": 9, "c": 9, "d": 9}, {"a": 9, "b": 9, "c": 9, "d": 19}, "d", id="of four"
        ),
    ],
)
def test_of_several_versions_the_one_that_grows_takes_from_the_default_alone(before, after, grows):
    first, then = (
        held(split(**{name: weight for name, weight in weights.items() if weight}))
        for weights in (before, after)
    )
    moves = moved(first, then)
    assert set(moves) == {("1.0", grows)}
    assert 900 <= moves["1.0", grows] <= 1_100
    assert set(moved(then, first)) == {(grows, "1.0")}


def test_a_canary_that_is_promoted_keeps_every_caller_it_has_won():
    steps = [split(new=weight) for weight in (1, 5, 25, 50, 99)]
    for less, more in pairwise(map(held, steps)):
        assert set(moved(less, more)) == {("1.0", "new")}
    promoted = held(split(default="new"))
    assert set(moved(held(steps[-1]), promoted)) == {("1.0", "new")}


def test_a_third_version_moves_those_of_the_first_only_when_the_first_grows():
    moves = moved(held(split(a=10, b=10, c=10)), held(split(a=20, b=10, c=10)))
    assert set(moves) == {("c", "a"), ("1.0", "c")}


@given(st.lists(st.integers(1, 100), min_size=1, max_size=8).filter(lambda it: sum(it) <= 100))
def test_shares_are_as_large_as_their_weights_and_never_overlap(weights):
    shares = sorted(
        lay_out((str(i), weight) for i, weight in enumerate(weights)), key=lambda it: it.low
    )
    assert [it.high - it.low for it in sorted(shares, key=lambda it: int(it.version))] == weights
    assert shares[0].low >= 0
    assert shares[-1].high <= 100
    assert all(one.high <= other.low for one, other in pairwise(shares))


def test_callers_are_spread_as_the_weights_say():
    counts = Counter(held(split(a=30, b=20)).values())
    assert counts["a"] == pytest.approx(3_000, rel=0.05)
    assert counts["b"] == pytest.approx(2_000, rel=0.05)


def test_the_callers_of_one_models_canary_are_not_those_of_anothers():
    both = sum(point_of("m", key) < 10 and point_of("n", key) < 10 for key in KEYS)
    assert both == pytest.approx(100, rel=0.5)


def test_runtimes_agree_about_a_caller_for_ever():
    assert point_of("m", b"user-1") == pytest.approx(57.659902, abs=1e-5)


@given(st.binary(max_size=6_000))
def test_every_key_has_a_point(key):
    assert 0 <= point_of("m", key) < 100


def test_the_share_of_a_version_that_is_not_ready_falls_to_the_default_and_to_nobody_else():
    whole, torn = held(split(a=30, b=20)), held(split(a=30, b=20, ready={"b"}))
    assert set(moved(whole, torn)) == {("a", "1.0")}


# requests without a key


@pytest.mark.parametrize("start", [0.0, 0.1, 0.5, 0.99])
def test_of_20_requests_a_canary_of_5_percent_gets_one_or_two(start):
    chance = Chance(start)
    hits = sum(chance.point() < 5 for _ in range(20))
    assert hits in {1, 2}


@pytest.mark.parametrize("stride", [1, 2, 3, 10])
def test_chance_is_even_also_for_every_nth_request(stride):
    chance = Chance(0.3)
    hits = 0
    for number in range(2_000 * stride):
        point = chance.point()
        hits += number % stride == 0 and point < 10
    assert hits == pytest.approx(200, abs=12)


def test_chance_stays_even_for_a_million_requests():
    chance = Chance(0.7)
    assert sum(chance.point() < 1 for _ in range(1_000_000)) == pytest.approx(10_000, abs=20)


def test_a_request_without_a_key_goes_by_chance():
    made = split(new=50)
    counts = Counter(made.pick(b"\r\nHost: here\r\n").version for _ in range(100))
    assert counts["new"] in range(48, 53)


def test_who_stands_for_a_model_is_its_default_and_costs_no_point():
    made = split(new=99)
    assert {made.pick(None).version for _ in range(50)} == {"1.0"}


def test_a_body_that_lies_with_a_version_stays_there():
    made = split(new=50)
    first = made.pick(b"\r\n")
    assert {made.pick(b"\r\n", first.queue.arena) for _ in range(20)} == {first}


# what a caller is known by


@pytest.mark.parametrize(
    ("sticky", "headers", "key"),
    [
        pytest.param(BY_HEADER, b"\r\nx-user-id: 7\r\n", b"7", id="a header, any case"),
        pytest.param(BY_HEADER, b"\r\nX-USER-ID:7", b"7", id="at the end, no space"),
        pytest.param(BY_HEADER, b"\r\nX-User-Id: CaSe\r\n", b"CaSe", id="its value as it is"),
        pytest.param(BY_HEADER, b"\r\nX-User-Id:  \r\n", None, id="an empty one is none"),
        pytest.param(BY_HEADER, b"\r\nNot-X-User-Id: 7\r\n", None, id="not another's end"),
        pytest.param(BY_HEADER, b"\r\nA: x-user-id: 7\r\n", None, id="not within a value"),
        pytest.param(BY_HEADER, b"", None, id="no headers"),
        pytest.param(Sticky(cookie="id"), b"\r\nCookie: a=1; id=7; b=2\r\n", b"7", id="a cookie"),
        pytest.param(
            Sticky(cookie="id"), b"\r\nCookie: id=a=b\r\n", b"a=b", id="with a sign in it"
        ),
        pytest.param(Sticky(cookie="id"), b"\r\nCookie: ID=7\r\n", None, id="cookies have a case"),
        pytest.param(Sticky(cookie="id"), b"\r\nCookie: xid=7\r\n", None, id="another cookie"),
        pytest.param(Sticky(cookie="id"), b"\r\nCookie: id=\r\n", None, id="an empty cookie"),
        pytest.param(
            Sticky(cookie="id"),
            b"\r\nCookie: a=1\r\nCookie: id=7\r\n",
            b"7",
            id="in a second header",
        ),
        pytest.param(Sticky(cookie="id"), b"\r\nid: 7\r\n", None, id="a header is no cookie"),
    ],
)
def test_a_caller_is_known_by_a_header_or_a_cookie(sticky, headers, key):
    assert KeyReader(sticky).read(headers) == key


def test_a_cookie_keeps_a_caller_as_a_header_does():
    made = split(sticky=Sticky(cookie="id"), new=50)
    by_cookie = {key: made.pick(b"\r\nCookie: id=%b\r\n" % key).version for key in KEYS[:500]}
    by_header = {key: whose(split(new=50), key) for key in KEYS[:500]}
    assert by_cookie == by_header


# sequences


def keeping(version):
    limits = SequenceLimits(max_idle_s=60, max_count=100, queue_size=100)
    return Taker(version, SequenceQueue(new_queue().spec, Counters(), limits))


def named(sequence):
    return b"\r\nts_request_sequence_id: %b\r\n" % sequence


async def test_a_sequence_stays_where_it_began_whatever_becomes_of_the_weights():
    old, new = keeping("1.0"), keeping("2.0")
    job = new_job()
    job.payload.headers = named(b"s")[2:]
    old.queue.submit(job)
    everything_new = Split(
        "m", old, [(lay_out([("2.0", 100)])[0], new)], Chance(), None, [old, new]
    )
    assert everything_new.pick(named(b"s")) is old
    assert everything_new.pick(named(b"another")) is new
    old.queue.fail_all(RuntimeError())


async def test_the_requests_of_a_sequence_that_begins_agree_on_its_version():
    old, new = keeping("1.0"), keeping("2.0")
    made = Split("m", old, [(lay_out([("2.0", 50)])[0], new)], Chance(), None, [old, new])
    for number in range(50):
        assert len({made.pick(named(b"s%d" % number)) for _ in range(5)}) == 1
