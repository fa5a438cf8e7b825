"""Which workers start and which go."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.staffing import LEAVING, PlaceFacts, Staffing, staff
from flambeau_runtime.serving.worker_state import WorkerState

READY, STARTING, FAILED = WorkerState.READY, WorkerState.STARTING, WorkerState.FAILED
DRAINING = WorkerState.DRAINING


def new(number, state=READY):
    return PlaceFacts(number, current=True, state=state)


def old(number, state=READY):
    return PlaceFacts(number, current=False, state=state)


@pytest.mark.parametrize(
    ("places", "wanted", "step"),
    [
        pytest.param([], 3, Staffing(3), id="a new version starts all at once"),
        pytest.param([new(1), new(2)], 2, Staffing(), id="a settled version is left alone"),
        pytest.param([new(1)], 3, Staffing(2), id="missing ones start"),
        pytest.param(
            [new(1), new(2), new(3)], 1, Staffing(0, (3, 2)), id="the newest are drained first"
        ),
        pytest.param(
            [new(1, FAILED), new(2)],
            1,
            Staffing(0, (1,)),
            id="one that failed goes before any other",
        ),
        pytest.param([new(1), new(2, DRAINING)], 2, Staffing(1), id="who leaves does not count"),
        pytest.param([new(1, FAILED)], 1, Staffing(), id="a failed one keeps its place"),
        pytest.param([new(1, FAILED)], 2, Staffing(1), id="asking for more adds fresh ones"),
        pytest.param([new(1), new(2)], 0, Staffing(0, (2, 1)), id="none wanted, none kept"),
        pytest.param([old(1), old(2)], 2, Staffing(1), id="a new kind begins with one more"),
        pytest.param(
            [old(1), old(2), new(3, STARTING)], 2, Staffing(), id="and waits until it is ready"
        ),
        pytest.param(
            [old(1), old(2), new(3)], 2, Staffing(1, (2,)), id="then one goes and the next comes"
        ),
        pytest.param(
            [old(1), new(3, FAILED)], 1, Staffing(), id="a new kind that fails leaves the old one"
        ),
        pytest.param(
            [old(1, FAILED), old(2, STARTING)],
            2,
            Staffing(2, (1, 2)),
            id="an old kind that does not serve goes at once",
        ),
        pytest.param(
            [old(1)], 3, Staffing(2), id="places that the old kind does not fill start together"
        ),
    ],
)
def test_staff(places, wanted, step):
    assert staff(places, wanted) == step


PLACES = st.lists(st.tuples(st.booleans(), st.sampled_from(WorkerState)), max_size=8).map(
    lambda rows: [PlaceFacts(n, current, state) for n, (current, state) in enumerate(rows)]
)


@given(PLACES, st.integers(0, 6))
def test_step_by_step_the_wish_is_reached_and_no_fewer_serve_on_the_way(places, wanted):
    floor = min(wanted, sum(place.state is READY for place in places))
    number = len(places)
    for _ in range(40):
        step = staff(places, wanted)
        kept = [place for place in places if place.number not in step.drain]
        assert sum(place.state is READY for place in kept) >= floor
        places = [settled(place) for place in kept]
        places += [new(number + offset, STARTING) for offset in range(step.start)]
        number += step.start
    staying = [place for place in places if place.state not in LEAVING]
    assert len(staying) == wanted
    assert all(place.current for place in staying)


def settled(place):
    """What becomes of a place in time: the current kind loads at last."""
    return replace(place, state=READY) if place.current and place.state not in LEAVING else place
