"""What an annotation asks of a rollout, and until when."""

from __future__ import annotations

import pytest

from flambeau_operator.names import ABORT, PROMOTE, RETRY
from flambeau_operator.plan.orders import read_orders
from flambeau_operator.resources.deployment_status import Handled, RolloutStatus

CANDIDATE, OTHER = "c" * 12, "d" * 12
RUNS = RolloutStatus(spec_hash=CANDIDATE, step=1)


@pytest.mark.parametrize(
    ("annotations", "before", "asked"),
    [
        pytest.param({PROMOTE: CANDIDATE}, RUNS, {"promote"}, id="all the way"),
        pytest.param({PROMOTE: f"{CANDIDATE}/1"}, RUNS, {"next_step"}, id="this step"),
        pytest.param({PROMOTE: f"{CANDIDATE}/0"}, RUNS, set(), id="a step that is over"),
        pytest.param({PROMOTE: OTHER}, RUNS, set(), id="another candidate"),
        pytest.param({ABORT: CANDIDATE}, RUNS, {"abort"}, id="back"),
        pytest.param({ABORT: OTHER}, RUNS, set(), id="another one back"),
        pytest.param(
            {PROMOTE: CANDIDATE},
            RUNS.model_copy(update={"handled": Handled(promote=CANDIDATE)}),
            {"promote"},
            id="it goes on to be asked for while this try lasts",
        ),
        pytest.param(
            {PROMOTE: CANDIDATE},
            RolloutStatus(handled=Handled(promote=CANDIDATE)),
            set(),
            id="and not by a later try",
        ),
        pytest.param(
            {ABORT: CANDIDATE},
            RolloutStatus(handled=Handled(abort=CANDIDATE)),
            set(),
            id="nor is a retry aborted by the old word",
        ),
        pytest.param({RETRY: OTHER}, RolloutStatus(failed_hash=OTHER), {"retry"}, id="once more"),
        pytest.param(
            {RETRY: OTHER},
            RolloutStatus(failed_hash=OTHER, handled=Handled(retry=OTHER)),
            set(),
            id="but once",
        ),
    ],
)
def test_an_annotation_is_for_one_candidate(annotations, before, asked):
    orders = read_orders(annotations, before, CANDIDATE, {CANDIDATE, before.failed_hash})
    words = ("promote", "next_step", "abort", "retry")
    assert {word for word in words if getattr(orders, word)} == asked


def test_what_was_obeyed_is_remembered_until_nobody_says_it():
    obeyed = read_orders({ABORT: CANDIDATE}, RUNS, CANDIDATE, set()).handled
    assert obeyed == Handled(abort=CANDIDATE)
    before = RolloutStatus(handled=obeyed)
    assert read_orders({ABORT: CANDIDATE}, before, CANDIDATE, set()).handled == obeyed
    assert read_orders({}, before, CANDIDATE, set()).handled == Handled()
