"""How versions of one model share its workers while one makes room for another."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.desired import ModelSpec, Swap
from flambeau_runtime.serving.staffing import LEAVING, PlaceFacts, staff
from flambeau_runtime.serving.swap import Allotment, Crew, allot, capacity_of, takes_turns
from flambeau_runtime.serving.worker_state import WorkerState
from tests.dataplane.fake_fleet import version

READY, STARTING, DRAINING = WorkerState.READY, WorkerState.STARTING, WorkerState.DRAINING


def crew(wanted, staying, ready=None, leaving=0, **changes):
    ready = staying if ready is None else ready
    return Crew(wanted, staying + leaving, staying, ready, **changes)


@pytest.mark.parametrize(
    ("crews", "capacity", "allotted"),
    [
        pytest.param([crew(4, 2), crew(2, 0)], None, [(4, None), (2, None)], id="no bound"),
        pytest.param([crew(3, 4)], 4, [(4, 0)], id="an old worker stays while no new one can come"),
        pytest.param(
            [crew(3, 4), crew(1, 0)], 4, [(3, 0), (1, 0)], id="one goes for one that will come"
        ),
        pytest.param(
            [crew(3, 3, leaving=1), crew(1, 0)],
            4,
            [(3, 0), (1, 0)],
            id="which does not come before the other is gone",
        ),
        pytest.param([crew(3, 3), crew(1, 0)], 4, [(3, 1), (1, 1)], id="but then"),
        pytest.param(
            [crew(2, 4), crew(2, 0)], 4, [(3, 0), (2, 0)], id="of two that shall go one goes first"
        ),
        pytest.param(
            [crew(2, 3), crew(2, 1, ready=0)],
            4,
            [(3, 0), (2, 0)],
            id="and the next waits until the new one serves",
        ),
        pytest.param([crew(2, 3), crew(2, 1)], 4, [(2, 0), (2, 0)], id="when it does"),
        pytest.param(
            [crew(4, 2), crew(0, 2, closing=True)],
            4,
            [(4, 0), (0, None)],
            id="back: the dropped version's workers go first",
        ),
        pytest.param([crew(4, 2)], 4, [(4, 2)], id="and the old one grows as they are gone"),
        pytest.param(
            [crew(1, 2), crew(1, 2), crew(2, 0)],
            4,
            [(1, 0), (2, 0), (2, 0)],
            id="two that shrink do not both give for one that grows",
        ),
        pytest.param([crew(2, 6)], 2, [(2, 0)], id="a plain shrinking is no swap"),
        pytest.param([crew(5, 2)], 2, [(5, 3)], id="a version alone may grow with its load"),
    ],
)
def test_allot(crews, capacity, allotted):
    got = [allot(crews, mine, capacity) for mine in range(len(crews))]
    assert got == [Allotment(*it) for it in allotted]


@pytest.mark.parametrize(
    ("swap", "workers", "turns"),
    [
        pytest.param(Swap.SIDE_BY_SIDE, (1, 1), False, id="side by side there is room"),
        pytest.param(Swap.RECREATE, (2,), True, id="recreated in turns"),
        pytest.param(Swap.WORKER_BY_WORKER, (1, 1), False, id="two workers are exchanged"),
        pytest.param(Swap.WORKER_BY_WORKER, (1,), True, id="one worker has to go first"),
    ],
)
def test_who_takes_turns(swap, workers, turns):
    specs = tuple(version(str(n), workers=count) for n, count in enumerate(workers))
    model = ModelSpec("vision", "0", specs, swap=swap)
    assert takes_turns(model) is turns
    assert capacity_of(model) == (None if swap is Swap.SIDE_BY_SIDE else sum(workers))


SPLITS = st.integers(2, 5).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.integers(0, n), min_size=1, max_size=4), st.randoms()
    )
)


@given(SPLITS)
def test_through_any_steps_no_more_than_all_exist_and_at_most_one_is_missing(drawn):
    """Old version 0 serves with all workers; each step gives version 1 some of them, or takes."""
    capacity, steps, chance = drawn
    crews = [[PlaceFacts(n, current=True, state=READY) for n in range(capacity)], []]
    number = capacity
    for new in steps:
        wanted = (capacity - new, new)
        for _ in range(12 * capacity):
            mine = chance.randrange(2)
            allotment = allot([told(*it) for it in zip(wanted, crews, strict=True)], mine, capacity)
            step = staff(crews[mine], allotment.keep, allotment.room)
            crews[mine] = [
                replace(place, state=DRAINING) if place.number in step.drain else place
                for place in crews[mine]
            ]
            born = range(number, number + step.start)
            crews[mine] += [PlaceFacts(n, current=True, state=STARTING) for n in born]
            number += step.start
            assert sum(map(len, crews)) <= capacity
            assert sum(it.state is READY for crew in crews for it in crew) >= capacity - 1
            index = chance.randrange(2)
            crews[index] = time_passes(crews[index], chance)
        for _ in range(20 * capacity):  # and everything comes to its end
            for mine in (0, 1):
                now = [told(*it) for it in zip(wanted, crews, strict=True)]
                allotment = allot(now, mine, capacity)
                step = staff(crews[mine], allotment.keep, allotment.room)
                crews[mine] = [it for it in crews[mine] if it.number not in step.drain]
                born = range(number, number + step.start)
                crews[mine] += [PlaceFacts(n, current=True, state=READY) for n in born]
                number += step.start
                crews[mine] = [replace(it, state=READY) for it in crews[mine] if stays(it)]
        assert tuple(map(len, crews)) == wanted


def stays(place):
    return place.state not in LEAVING


def told(wanted, places):
    staying = [place for place in places if stays(place)]
    return Crew(wanted, len(places), len(staying), sum(it.state is READY for it in staying))


def time_passes(places, chance):
    """One place that is on its way arrives."""
    under_way = [place for place in places if place.state is not READY]
    if not under_way:
        return places
    moved = chance.choice(under_way)
    others = [place for place in places if place is not moved]
    return others if moved.state is DRAINING else [*others, replace(moved, state=READY)]
