"""Counts since the window of a model began: one step of a rollout."""

import itertools

import pytest

from flambeau_runtime.serving.counters import (
    COPY,
    FINE_BUCKETS_MS,
    LATENCY_BUCKETS_MS,
    Counters,
    Histogram,
)
from flambeau_runtime.serving.desired import Document, ModelSpec
from flambeau_runtime.serving.windows import Present, Windows
from tests.dataplane.fake_fleet import version

KEY = ("vision", "1.0")


def wanted(window):
    return Document((ModelSpec("vision", "1.0", (version("1.0"),), window=window),))


def follow(windows, word, counters, restarts=0, *, ready=True):
    present = {} if counters is None else {KEY: Present(counters, restarts, ready)}
    windows.follow(wanted(word), present)


def counted(good=0, bad=0, counters=None):
    counters = Counters() if counters is None else counters
    for _ in range(good):
        counters.answered(0.004, 0.0)
    for _ in range(bad):
        counters.failed(0.004, 0.0)
    return counters


def numbers(windows):
    seen = windows.of(KEY)
    return seen.id, seen.requests, seen.errors, seen.restarts, sum(seen.latency)


def test_without_a_word_there_is_no_window():
    windows = Windows()
    follow(windows, None, counted(5))
    assert windows.of(KEY) is None


def test_a_window_counts_from_its_beginning_and_the_counters_go_on():
    windows, counters = Windows(), counted(5, bad=1)
    follow(windows, "abc.0", counters, restarts=2)
    counted(3, bad=2, counters=counters)
    follow(windows, "abc.0", counters, restarts=3)
    assert numbers(windows) == ("abc.0", 5, 2, 1, 5)
    assert (counters.requests, counters.errors) == (11, 3)


def test_another_word_begins_anew():
    windows, counters = Windows(), counted(5)
    follow(windows, "abc.0", counters)
    counted(3, counters=counters)
    follow(windows, "abc.1", counters)
    assert numbers(windows) == ("abc.1", 0, 0, 0, 0)
    counted(1, counters=counters)
    assert numbers(windows) == ("abc.1", 1, 0, 0, 1)


def test_a_version_that_comes_to_life_counts_from_when_it_is_ready():
    windows, counters = Windows(), Counters()
    follow(windows, "abc.0", None)
    follow(windows, "abc.0", counters, ready=False)
    counted(4, counters=counters)  # its warm-up
    assert numbers(windows) == ("abc.0", 0, 0, 0, 0)
    follow(windows, "abc.0", counters)
    counted(2, counters=counters)
    assert numbers(windows) == ("abc.0", 2, 0, 0, 2)


def test_a_version_that_is_loaded_anew_goes_on_from_what_it_did_before():
    windows, first = Windows(), Counters()
    follow(windows, "abc.0", first)
    counted(3, bad=1, counters=first)
    follow(windows, "abc.0", first, restarts=2)
    follow(windows, "abc.0", None)
    counted(1, counters=first)  # answered while it was drained
    second = counted(7)  # its warm-up
    follow(windows, "abc.0", second)
    counted(2, counters=second)
    follow(windows, "abc.0", second, restarts=1)
    assert numbers(windows) == ("abc.0", 7, 1, 3, 7)


def test_a_version_that_is_not_ready_for_a_while_goes_on():
    windows, counters = Windows(), Counters()
    follow(windows, "abc.0", counters)
    counted(3, counters=counters)
    follow(windows, "abc.0", counters, restarts=1, ready=False)
    counted(2, counters=counters)
    follow(windows, "abc.0", counters, restarts=1)
    assert numbers(windows) == ("abc.0", 5, 0, 1, 5)


def test_the_first_difference_of_a_window_is_told_and_not_that_of_the_last_one():
    windows, counters = Windows(), Counters()
    follow(windows, "abc.0", counters)
    counters.copies.difference = "$: 1, not 2"
    assert windows.of(KEY).difference == "$: 1, not 2"
    follow(windows, "abc.1", counters)
    assert windows.of(KEY).difference == ""


def test_the_difference_of_an_earlier_life_stays():
    windows, first, second = Windows(), Counters(), Counters()
    follow(windows, "abc.0", first)
    first.copies.difference = "the first"
    follow(windows, "abc.0", second)
    second.copies.difference = "the second"
    assert windows.of(KEY).difference == "the first"


def test_what_is_not_wanted_any_more_is_forgotten():
    windows = Windows()
    follow(windows, "abc.0", Counters())
    windows.follow(Document(), {})
    assert windows.of(KEY) is None


# buckets


def test_fine_buckets_are_24_to_a_decade_about_10_percent_apart():
    assert (FINE_BUCKETS_MS[0], FINE_BUCKETS_MS[-1]) == (0.1, 100_000.0)
    assert len(FINE_BUCKETS_MS) == 6 * 24 + 1
    ratios = [b / a for a, b in itertools.pairwise(FINE_BUCKETS_MS)]
    assert 1.08 < min(ratios) < max(ratios) < 1.12
    marks = {base * 10.0**exponent for base in (1, 2, 5) for exponent in range(5)}
    assert marks <= set(FINE_BUCKETS_MS)


@pytest.mark.parametrize("bound", LATENCY_BUCKETS_MS)
def test_coarse_buckets_are_sums_of_fine_ones(bound):
    assert bound in FINE_BUCKETS_MS


def test_fewer_buckets_say_the_same_as_if_they_had_been_counted():
    fine, coarse = Histogram(FINE_BUCKETS_MS), Histogram()
    seen = [0.05, 0.1, 1.0, 1.0001, 2, 4.99, 5, 5.01, 29_999, 30_000, 30_001, 60_000, 99_000, 2e5]
    for ms in seen:
        fine.observe(ms)
        coarse.observe(ms)
    assert (fine.coarse().counts, fine.coarse().sum_ms) == (coarse.counts, coarse.sum_ms)


def test_a_copy_is_counted_by_nobody():
    counters = Counters()
    counters.answered(0.1, 0.1, COPY)
    counters.failed(0.1, 0.1, COPY)
    assert (counters.requests, counters.errors, counters.latency.count) == (0, 0, 0)
    assert (counters.named.requests, counters.unnamed.requests) == (0, 0)
