"""When a worker that died is started again."""

import pytest

from flambeau_runtime.serving.crash_budget import CrashBudget


def test_pauses_grow_as_torchserve_documents_them():
    budget = CrashBudget()
    assert [budget.spend(now=0) for _ in range(8)] == [1, 1, 2, 3, 5, 8, 13, 21]


def test_retries_end_when_the_next_one_would_be_past_the_window():
    budget = CrashBudget(window_s=10)
    assert budget.spend(now=100) == 1
    assert budget.spend(now=108) == 1
    assert budget.spend(now=109) is None


def test_a_worker_that_proved_itself_starts_with_a_fresh_budget():
    budget = CrashBudget(window_s=10)
    for _ in range(4):
        budget.spend(now=0)
    budget.reset()
    assert budget.spend(now=1000) == 1


def test_a_window_of_nothing_means_no_retry():
    assert CrashBudget(window_s=0).spend(now=5) is None


@pytest.mark.parametrize("failures", [17, 100])
def test_the_longest_pause_repeats(failures):
    budget = CrashBudget(window_s=float("inf"), failures=failures)
    assert budget.spend(now=0) == 1597
