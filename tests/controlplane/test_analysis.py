"""When a new version has passed, when it has failed, and what is said about it."""

from __future__ import annotations

import random
from dataclasses import replace
from math import exp, inf, log

import pytest
from hypothesis import given, strategies as st

from flambeau_operator.plan.analysis import (
    Judgement,
    Sample,
    Verdict,
    add_up,
    analyse,
    quantile_ms,
)
from flambeau_operator.plan.evidence import Count, above, below, rate_is_worse
from flambeau_operator.resources.pod_state import LatencyCounts, Window
from flambeau_operator.resources.rollout import Analysis, Step

NO_LATENCY = LatencyCounts()
BOUNDS = tuple(10.0 ** (n / 24) for n in range(-24, 97))
ONE_POINT = {"errorRate": {"maxIncrease": "1%"}}
WAITING, PASSED, FAILED = Verdict.WAITING, Verdict.PASSED, Verdict.FAILED


def rules(fail_on: dict, **changes) -> Analysis:
    return Analysis.model_validate({"failOn": fail_on, **changes})


def step(weight: int, shadow: int = 0) -> Step:
    return Step.model_validate({"weight": weight, "shadow": shadow})


def old(requests: int, errors: int = 0, **more) -> Sample:
    return Sample("1.0", requests, errors, 0, more.pop("latency", NO_LATENCY), **more)


def new(requests: int, errors: int = 0, restarts: int = 0, **more) -> Sample:
    return Sample("1.1", requests, errors, restarts, more.pop("latency", NO_LATENCY), **more)


def dice_of(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  the same dice each time, no secrets


def slow(count: int, scale: float = 1.0, seed: int = 5) -> LatencyCounts:
    """Log-normal latencies around 100 ms, as a pod counts them."""
    dice, counts = dice_of(seed), [0] * (len(BOUNDS) + 1)
    for _ in range(count):
        ms = 100 * scale * exp(dice.gauss(0, 0.5))
        counts[sum(bound < ms for bound in BOUNDS)] += 1
    return LatencyCounts(BOUNDS, tuple(counts))


def told(fail_on: dict, before: Sample | None, now: Sample, **more) -> Judgement:
    return analyse(rules(fail_on), before, now, **more)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        pytest.param(old(3800, 38), new(200, 2), PASSED, id="equal versions pass at minRequests"),
        pytest.param(old(3800, 38), new(199, 2), WAITING, id="no sooner"),
        pytest.param(old(199, 2), new(3800, 38), WAITING, id="nor before the old one has as many"),
        pytest.param(old(3800, 38), new(200, 4), PASSED, id="a bit more than before is allowed"),
        pytest.param(old(3800, 38), new(200, 6), WAITING, id="a few more may be chance"),
        pytest.param(old(3800, 38), new(200, 16), FAILED, id="many more are none"),
        pytest.param(
            *(old(380_000, 3800), new(20_000, 404), WAITING),
            id="worse for certain, but perhaps by no more than is allowed",
        ),
        pytest.param(old(1900, 19), new(100, 12), FAILED, id="and fail it before minRequests"),
        pytest.param(old(57, 0), new(3, 1), WAITING, id="one error of three fails nobody"),
        pytest.param(old(10**6, 0), new(1, 1), WAITING, id="nor does one of one"),
        pytest.param(old(0), new(0), WAITING, id="no traffic at all"),
        pytest.param(old(0), new(500, 40), WAITING, id="an old version that nobody asks"),
        pytest.param(old(5, 0), new(500, 40), WAITING, id="or hardly anybody"),
        pytest.param(old(3800, 190), new(200, 10), PASSED, id="as bad as the old one is not worse"),
        pytest.param(old(3800, 380), new(200, 0), PASSED, id="better is fine"),
        pytest.param(old(10**12, 10**10), new(10**12, 3 * 10**10), FAILED, id="huge and bad"),
        pytest.param(old(10**12, 10**10), new(10**12, 10**10), PASSED, id="huge and equal"),
        pytest.param(old(-5, -1), new(-3, 2), WAITING, id="counters that shrank count as none"),
        pytest.param(old(400, 0), new(400, 500), FAILED, id="more errors than requests: all"),
        pytest.param(
            None, new(200, 100), PASSED, id="with nothing to compare there is no increase"
        ),
    ],
)
def test_errors_against_the_old_version(before, now, verdict):
    assert told(ONE_POINT, before, now).verdict is verdict


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        pytest.param(new(200, 4), PASSED, id="just the limit"),
        pytest.param(new(200, 5), WAITING, id="above it, but by one"),
        pytest.param(new(40, 10), FAILED, id="clearly above it"),
        pytest.param(new(1, 1), WAITING, id="one error"),
        pytest.param(new(50_000, 1010), WAITING, id="2.02 % of many: nobody can tell yet"),
        pytest.param(new(5_000_000, 105_000), FAILED, id="2.1 % of very many: it is"),
    ],
)
@pytest.mark.parametrize("before", [None, old(3800, 38)])
def test_errors_against_an_absolute_limit(before, now, verdict):
    before = before and replace(before, requests=10**6)
    assert told({"errorRate": {"max": "2%"}}, before, now).verdict is verdict


def test_no_error_allowed_means_none():
    assert told({"errorRate": {"max": "0%"}}, None, new(10, 0)).verdict is WAITING
    assert told({"errorRate": {"max": "0%"}}, None, new(200, 0)).verdict is PASSED
    assert told({"errorRate": {"max": "0%"}}, None, new(10, 1)).verdict is FAILED


def test_more_limits_need_more_evidence_as_they_share_the_false_alarms():
    one = {"errorRate": {"max": "2%"}}
    many = {
        **one,
        "latencyP50": {"max": "1s", "maxIncrease": "10%"},
        "latencyP95": {"max": "1s", "maxIncrease": "10%"},
        "latencyP99": {"max": "1s", "maxIncrease": "10%"},
    }
    first = [
        next(n for n in range(100) if told(limits, None, new(100, n)).verdict is FAILED)
        for limits in (one, many)
    ]
    assert first[0] < first[1]


def test_so_do_more_steps():
    first = [
        next(
            n
            for n in range(100)
            if told(ONE_POINT, old(900), new(100, n), steps=steps).verdict is FAILED
        )
        for steps in (1, 20)
    ]
    assert first[0] < first[1]


# ----------------------------------------------------------------------------------------- latency


@pytest.mark.parametrize(
    ("scale", "limits", "verdict"),
    [
        pytest.param(1.0, {"maxIncrease": "30%"}, PASSED, id="as quick as before"),
        pytest.param(1.1, {"maxIncrease": "30%"}, PASSED, id="slower by less than is allowed"),
        pytest.param(2.0, {"maxIncrease": "30%"}, FAILED, id="twice as slow"),
        pytest.param(0.5, {"maxIncrease": "0%"}, PASSED, id="quicker"),
        pytest.param(1.0, {"max": "300ms"}, PASSED, id="below the limit"),
        pytest.param(2.0, {"max": "300ms"}, FAILED, id="above the limit"),
    ],
)
def test_a_quantile(scale, limits, verdict):
    before, now = old(4000, latency=slow(4000)), new(600, latency=slow(600, scale, seed=6))
    assert told({"latencyP95": limits}, before, now).verdict is verdict


def test_a_quantile_a_little_above_the_limit_is_not_clear_yet():
    before, now = old(4000, latency=slow(4000)), new(200, latency=slow(200, 1.36, seed=6))
    said = told({"latencyP95": {"maxIncrease": "30%"}}, before, now)
    assert said.verdict is WAITING
    assert said.message.startswith("no clear result yet: p95")


def test_an_old_version_with_few_answers_proves_little():
    limits = {"latencyP95": {"maxIncrease": "30%"}}
    now = new(4000, latency=slow(4000, 1.6))
    few, many = (old(n, latency=slow(n, seed=6)) for n in (40, 4000))
    assert told(limits, few, now).verdict is WAITING
    assert told(limits, many, now).verdict is FAILED


def test_a_limit_inside_a_bucket_takes_part_of_it():
    one_bucket = LatencyCounts((100.0, 200.0), (0, 300, 0))
    limits = {"latencyP50": {"max": "140ms"}}  # 60 % of them are above it: not yet certain
    assert told(limits, None, new(300, latency=one_bucket)).verdict is WAITING


def test_one_slow_answer_fails_nobody():
    counts = [0] * (len(BOUNDS) + 1)
    counts[-1] = 1
    lost = LatencyCounts(BOUNDS, tuple(counts))
    limits = {name: {"max": "1s", "maxIncrease": "0%"} for name in ("latencyP95", "latencyP99")}
    assert told(limits, old(2000, latency=slow(2000)), new(1, latency=lost)).verdict is WAITING


@pytest.mark.parametrize(
    "latency",
    [
        pytest.param(NO_LATENCY, id="none"),
        pytest.param(LatencyCounts((1.0, 2.0), (1, 2)), id="too few counts"),
        pytest.param(LatencyCounts((2.0, 1.0), (1, 2, 3)), id="bounds that fall"),
        pytest.param(LatencyCounts((1.0, inf), (1, 2, 3)), id="a bound without end"),
        pytest.param(LatencyCounts((1.0, float("nan"), 3.0), (1, 2, 3, 4)), id="no number"),
        pytest.param(LatencyCounts((1.0, 2.0), (1, -2, 300)), id="counts that shrank"),
        pytest.param(LatencyCounts((), (300,)), id="no bounds"),
    ],
)
def test_without_usable_latencies_a_limit_of_latency_is_not_kept(latency):
    limits = {"latencyP95": {"max": "1s", "maxIncrease": "30%"}}
    said = told(limits, old(4000, latency=slow(4000)), new(600, latency=latency))
    assert said.verdict is WAITING
    assert "0 of 200 measured latencies" in said.message
    assert "p95 unknown" in said.message
    assert quantile_ms(latency, 0.5) is None


def test_versions_may_have_different_buckets():
    coarse = LatencyCounts((50.0, 100.0, 200.0, 500.0, 1000.0), (0, 100, 800, 90, 8, 2))
    limits = {"latencyP50": {"maxIncrease": "30%"}}
    late = LatencyCounts(BOUNDS, tuple(400 if n == 90 else 0 for n in range(len(BOUNDS) + 1)))
    said = told(limits, old(1000, latency=coarse), new(400, latency=late))
    assert said.verdict is FAILED


# ------------------------------------------------------------------------------- restarts, answers


def test_restarts_are_counted_and_not_weighed():
    none, one = {"workerRestarts": {}}, {"workerRestarts": {"max": 1}}
    assert told(none, None, new(0, restarts=1)).verdict is FAILED
    assert told(one, None, new(300, restarts=1)).verdict is PASSED
    said = told(one, old(300), new(0, restarts=2))
    assert said.message.startswith("2 worker restarts, the old version 0: 1 allowed")


@pytest.mark.parametrize(
    ("compared", "different", "verdict"),
    [
        pytest.param(500, 5, PASSED, id="as few as allowed"),
        pytest.param(500, 8, WAITING, id="some more may be chance"),
        pytest.param(500, 40, FAILED, id="many"),
        pytest.param(50, 20, FAILED, id="many of few"),
        pytest.param(150, 1, WAITING, id="too few compared"),
        pytest.param(0, 0, PASSED, id="a step without copies"),
    ],
)
def test_different_answers(compared, different, verdict):
    now = new(300, compared=compared, different=different, difference="$.label: 'a', not 'b'")
    said = told({"answers": {"maxDifferent": "1%"}}, old(300), now)
    assert said.verdict is verdict
    assert ("$.label" in said.message) is (verdict is FAILED or different == 8)


def test_a_step_with_a_shadow_waits_for_answers_to_compare():
    limits, now = {"answers": {"maxDifferent": "1%"}}, new(300)
    assert told(limits, old(300), now, step=step(5, shadow=10)).verdict is WAITING
    assert told(limits, old(300), now, step=step(5)).verdict is PASSED


def test_a_step_without_traffic_waits_for_none():
    assert told(ONE_POINT, old(3000), new(0), step=step(0)).verdict is PASSED
    assert told({"workerRestarts": {}}, None, new(0, restarts=1), step=step(0)).verdict is FAILED
    # With a shadow, copies are its requests.
    assert told(ONE_POINT, None, new(0), step=step(0, shadow=10)).verdict is WAITING


# ------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("limits", "before", "now", "message"),
    [
        pytest.param(
            ONE_POINT,
            old(1204, 12),
            new(596, 31),
            "errors 5.2 % (31 of 596), the old version 1 % (12 of 1,204): "
            "above it by more than the 1 % allowed",
            id="failed",
        ),
        pytest.param(
            {"errorRate": {"max": "2%", "maxIncrease": "1%"}},
            old(1204, 12),
            new(596, 60),
            "errors 10 % (60 of 596), the old version 1 % (12 of 1,204): "
            "more than the 2 % allowed and above it by more than the 1 % allowed",
            id="failed twice",
        ),
        pytest.param(
            ONE_POINT,
            old(2280, 20),
            new(120, 1),
            "120 of 200 requests; errors 0.83 % (1 of 120), the old version 0.88 % (20 of 2,280)",
            id="waiting for requests",
        ),
        pytest.param(
            ONE_POINT,
            old(3800, 38),
            new(200, 6),
            "no clear result yet: errors 3 % (6 of 200), the old version 1 % (38 of 3,800): "
            "above it by more than the 1 % allowed",
            id="waiting for a clear result",
        ),
        pytest.param(
            {"errorRate": {"max": "2%"}, "workerRestarts": {}},
            None,
            new(1, 1, restarts=3),
            "3 worker restarts: 0 allowed; errors 100 % (1 of 1)",
            id="what failed comes first",
        ),
        pytest.param(
            {},
            old(90_000, 1),
            new(10_000, 0),
            "errors 0 % (0 of 10,000), the old version 0.0011 % (1 of 90,000)",
            id="passed; the numbers are told even if nothing limits them",
        ),
    ],
)
def test_the_message_says_the_numbers_of_both(limits, before, now, message):
    assert told(limits, before, now).message == message


def test_latency_in_words():
    before, now = old(4000, latency=slow(4000)), new(600, latency=slow(600, 2, seed=6))
    said = told({"latencyP95": {"max": "300ms", "maxIncrease": "30%"}}, before, now).message
    p95, was = (f"{quantile_ms(each.latency, 0.95):.0f} ms" for each in (now, before))
    assert f"p95 {p95}, the old version {was}: 300 ms allowed and " in said
    assert " % slower, 30 % allowed" in said
    beyond = LatencyCounts((1.0, 100_000.0), (0, 0, 300))
    late = told({"latencyP50": {"max": "1s"}}, None, new(300, latency=beyond))
    assert "p50 more than 100.0 s: 1,000 ms allowed" in late.message


# -------------------------------------------------------------------------------- adding, quantiles


def window(requests: int = 0, errors: int = 0, latency: LatencyCounts = NO_LATENCY, **more):
    return Window("h.0", requests, errors, latency=latency, **more)


def test_pods_are_added_up():
    counted = LatencyCounts((1.0, 2.0), (1, 2, 3))
    both = add_up(
        "1.1",
        [
            window(6, 1, counted, restarts=1, compared=4, different=1, difference="b"),
            window(6, 2, counted, difference="a"),
        ],
    )
    assert both == Sample(
        *("1.1", 12, 3, 1, LatencyCounts((1.0, 2.0), (2, 4, 6))),
        *(4, 1, "a"),
    )
    assert add_up("1.1", []) == Sample("1.1", 0, 0, 0, NO_LATENCY)


def test_latencies_in_other_buckets_are_left_out_and_it_is_said():
    most, other = LatencyCounts((1.0, 2.0), (100, 200, 0)), LatencyCounts((1.0, 3.0), (5, 5, 5))
    sample = add_up("1.1", [window(300, 0, other), window(300, 0, most), window(300)])
    assert sample.requests == 900
    assert sample.latency == most
    assert sample.left_out == 1
    said = told({"latencyP95": {"max": "1s"}}, None, sample)
    assert said.verdict is PASSED
    assert said.message.endswith("without the latency of 1 pod with other buckets")


def test_what_a_pod_lost_takes_nothing_from_the_others():
    assert add_up("1.1", [window(-50, -2), window(300, 1)]).requests == 300


@pytest.mark.parametrize(
    ("counts", "q", "ms"),
    [
        pytest.param((0, 100, 0, 0), 0.5, 15.0, id="inside its bucket, in proportion"),
        pytest.param((100, 0, 0, 0), 0.5, 5.0, id="the first bucket begins at nothing"),
        pytest.param((50, 0, 50, 0), 0.5, 10.0, id="between two buckets: the end of the lower one"),
        pytest.param((0, 0, 0, 7), 0.5, 40.0, id="beyond all bounds: the last one"),
        pytest.param((1, 1, 1, 0), 1.0, 40.0, id="the slowest"),
        pytest.param((1, 1, 1, 0), 7.0, 40.0, id="no quantile is more"),
        pytest.param((0, 1, 1, 0), -1.0, 0.0, id="or less"),
        pytest.param((0, 0, 0, 0), 0.5, None, id="of nothing"),
    ],
)
def test_a_quantile_of_a_histogram(counts, q, ms):
    assert quantile_ms(LatencyCounts((10.0, 20.0, 40.0), counts), q) == (
        None if ms is None else pytest.approx(ms)
    )


# ------------------------------------------------------------------------------------- what is law

COUNTS = st.integers(0, 10**6)
ANY = st.integers(-(10**30), 10**30)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "errorRate": st.sampled_from(
            [{"max": "2%"}, {"maxIncrease": "0%"}, {"max": "0%", "maxIncrease": "999%"}, {}]
        ),
        "latencyP50": st.sampled_from([{"max": "5ms"}, {"maxIncrease": "30%"}]),
        "latencyP99": st.sampled_from([{"max": "1h", "maxIncrease": "0%"}]),
        "workerRestarts": st.just({"max": 3}),
        "answers": st.sampled_from([{"maxDifferent": "0%"}, {"maxDifferent": "5%"}]),
    },
)


@st.composite
def latencies(draw, bounds: tuple[float, ...] = (1.0, 3.0, 10.0), counts=COUNTS):
    return LatencyCounts(bounds, tuple(draw(counts) for _ in range(len(bounds) + 1)))


@st.composite
def samples(draw, counts=COUNTS):
    requests, errors, restarts, compared, different = (draw(counts) for _ in range(5))
    latency = draw(latencies(counts=counts) | st.just(NO_LATENCY))
    return Sample(
        "v", requests, errors, restarts, latency, compared, different, draw(st.text(max_size=400))
    )


@given(LIMITS, st.none() | samples(ANY), samples(ANY), st.integers(1, 10**6), st.integers(-1, 99))
def test_whatever_pods_count_there_is_a_verdict_and_a_short_message(
    limits, before, now, least, steps
):
    said = analyse(rules(limits, minRequests=least), before, now, steps=steps)
    assert said.verdict is not Verdict.INCONCLUSIVE
    assert 0 < len(said.message) <= 300


WORSE = {WAITING: 1, PASSED: 0, FAILED: 2}


@given(st.none() | samples(), samples(), st.integers(1, 1000))
def test_more_errors_never_make_a_verdict_better(before, now, more):
    limits = {"errorRate": {"max": "10%", "maxIncrease": "1%"}}
    worse = replace(now, errors=now.errors + more)
    first, second = told(limits, before, now).verdict, told(limits, before, worse).verdict
    assert WORSE[second] >= WORSE[first]


@given(latencies(), latencies(), st.data())
def test_slower_answers_never_make_a_verdict_better(before, now, data):
    limits = {"latencyP50": {"max": "2ms", "maxIncrease": "30%"}}
    place = data.draw(st.integers(0, len(now.counts) - 2))
    moved = data.draw(st.integers(0, now.counts[place]))
    counts = list(now.counts)
    counts[place] -= moved
    counts[place + 1] += moved
    slower = LatencyCounts(now.bounds_ms, tuple(counts))
    verdicts = [
        told(limits, old(sum(before.counts), latency=before), new(sum(counts), latency=each))
        for each in (now, slower)
    ]
    assert WORSE[verdicts[1].verdict] >= WORSE[verdicts[0].verdict]


@given(samples(), samples(), st.integers(2, 50))
def test_who_has_failed_has_failed_with_the_same_shares_of_more_requests(before, now, times):
    limits = {"errorRate": {"maxIncrease": "1%"}, "latencyP50": {"maxIncrease": "30%"}}
    if told(limits, before, now).verdict is FAILED:
        assert told(limits, scaled(before, times), scaled(now, times)).verdict is FAILED


def scaled(sample: Sample, times: int) -> Sample:
    latency = sample.latency
    counts = tuple(times * each for each in latency.counts)
    return replace(
        sample,
        requests=times * sample.requests,
        errors=times * min(sample.errors, sample.requests),
        latency=LatencyCounts(latency.bounds_ms, counts),
    )


WINDOWS = st.lists(
    st.builds(
        window,
        COUNTS,
        COUNTS,
        latencies() | latencies((2.0, 3.0)) | latencies((2.0, 3.0, 10.0)) | st.just(NO_LATENCY),
        restarts=COUNTS,
        difference=st.text(max_size=3),
    ),
    max_size=6,
)


@given(WINDOWS, st.randoms(use_true_random=False))
def test_pods_may_be_added_up_in_any_order(windows, dice):
    shuffled = list(windows)
    dice.shuffle(shuffled)
    assert add_up("v", shuffled) == add_up("v", windows)


# ------------------------------------------------------------- what the promises of 0012 rest upon


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.05, 0.3, 0.5, 0.9])
def test_no_bet_wins_on_average_against_the_truth(limit):
    # One more request: what is won if it hits and what is left if it does not, at their true
    # chances. This is all that Ville's inequality asks for.
    for evidence in (above, below):
        for hits, total in ((0, 0), (3, 40), (40, 100)):
            stake = exp(evidence(Count(hits, total), limit))
            win = exp(evidence(Count(hits + 1, total + 1), limit))
            miss = exp(evidence(Count(hits, total + 1), limit))
            assert limit * win + (1 - limit) * miss == pytest.approx(stake, rel=1e-9)
    assert exp(above(Count(0, 0), limit)) == pytest.approx(1)
    assert exp(below(Count(0, 0), limit)) == pytest.approx(1)


def test_looking_after_every_request_does_not_raise_the_false_alarms():
    dice, alarms, runs = dice_of(1), 0, 200
    for _ in range(runs):
        errors = 0
        for requests in range(1, 501):
            errors += dice.random() < 0.05
            if above(Count(errors, requests), 0.05) >= log(1 / 0.1):
                alarms += 1
                break
    assert alarms / runs <= 0.1


def test_an_equal_version_is_not_found_worse_however_often_one_looks():
    dice, alarms, runs = dice_of(2), 0, 200
    for _ in range(runs):
        now = before = 0
        for look in range(1, 101):
            now += sum(dice.random() < 0.1 for _ in range(5))
            before += sum(dice.random() < 0.1 for _ in range(15))
            new_count, old_count = Count(now, 5 * look), Count(before, 15 * look)
            if rate_is_worse(new_count, old_count, 0.0, log(1 / 0.1)):
                alarms += 1
                break
    assert alarms / runs <= 0.1
