"""How many workers a version wants for the load it sees."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.autoscale import RULES, Demand, is_spare, workers_for

CALM = Demand(least=1, most=4, wanted=2, ready=2, batch_s=0.05, busy=0.5)
WAITING = replace(CALM, queued=9, wait_s=1.0, busy=1.0)
IDLE = replace(CALM, busy=0.0, spare_for_s=RULES.spare_s)


@pytest.mark.parametrize(
    ("demand", "workers"),
    [
        pytest.param(CALM, 2, id="a load that is met changes nothing"),
        pytest.param(WAITING, 4, id="jobs that wait bring workers, at most twice as many"),
        pytest.param(replace(WAITING, queued=1), 3, id="and no more than have something to do"),
        pytest.param(replace(WAITING, per_batch=9), 3, id="a batch is for one worker"),
        pytest.param(replace(WAITING, wait_s=0.09), 2, id="a short wait is none"),
        pytest.param(
            replace(WAITING, batch_s=1.0), 2, id="a wait for the batch under way is explained"
        ),
        pytest.param(replace(WAITING, starting=1), 2, id="those that start come first"),
        pytest.param(replace(WAITING, ready=0), 2, id="a version that has died needs other help"),
        pytest.param(replace(WAITING, wanted=4, ready=4), 4, id="never more than the most"),
        pytest.param(replace(WAITING, room=1), 3, id="nor more than there is memory for"),
        pytest.param(replace(WAITING, room=0), 2, id="which may be none"),
        pytest.param(IDLE, 1, id="who is spare for long goes"),
        pytest.param(replace(IDLE, spare_for_s=29.0), 2, id="not before"),
        pytest.param(replace(IDLE, wanted=4, ready=4), 3, id="one at a time"),
        pytest.param(replace(IDLE, wanted=1, ready=1), 1, id="never fewer than the least"),
        pytest.param(replace(IDLE, busy=0.4), 2, id="nobody goes whose work would fill the others"),
        pytest.param(replace(CALM, least=3, most=3), 3, id="a new least holds at once"),
        pytest.param(replace(CALM, most=1), 1, id="and so does a new most"),
    ],
)
def test_workers_for(demand, workers):
    assert workers_for(demand) == workers


@given(load=st.floats(0.0, 4.0), start=st.integers(1, 4))
def test_a_steady_load_never_has_workers_come_and_go(load, start):
    """`load` workers' worth of work: what does not fit waits."""
    wanted, history = start, []
    for _ in range(20):
        waits = load > wanted
        demand = Demand(
            least=1,
            most=4,
            wanted=wanted,
            ready=wanted,
            queued=9 if waits else 0,
            wait_s=1.0 if waits else 0.0,
            busy=min(load / wanted, 1.0),
            spare_for_s=RULES.spare_s,
        )
        wanted = workers_for(demand)
        history.append(wanted)
    assert history == sorted(history) or history == sorted(history, reverse=True)
    assert load <= wanted or wanted == 4
    assert wanted == 1 or not is_spare(replace(demand, wanted=wanted, ready=wanted))
