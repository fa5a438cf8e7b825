"""A worker's states: the table is the specification."""

from itertools import product

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.worker_state import (
    TRANSITIONS,
    IllegalTransition,
    WorkerEvent,
    WorkerState,
    advance,
)

UNKNOWN = [pair for pair in product(WorkerState, WorkerEvent) if pair not in TRANSITIONS]


@pytest.mark.parametrize("state", [state for state in WorkerState if state != "Stopped"])
def test_every_state_but_the_last_has_a_way_out(state):
    assert any(origin is state for origin, _ in TRANSITIONS)


def test_nothing_leaves_the_last_state():
    assert not any(origin is WorkerState.STOPPED for origin, _ in TRANSITIONS)


@pytest.mark.parametrize(("state", "event"), UNKNOWN)
def test_every_pair_that_is_not_in_the_table_is_refused(state, event):
    with pytest.raises(IllegalTransition):
        advance(state, event)


@pytest.mark.parametrize("state", [state for state in WorkerState if state != "Stopped"])
def test_being_drained_leads_to_the_end_from_everywhere(state):
    if state is not WorkerState.DRAINING:
        state = advance(state, WorkerEvent.DRAIN_ASKED)
    if state is WorkerState.DRAINING:
        state = advance(state, WorkerEvent.EXITED)
    assert state is WorkerState.STOPPED


@given(st.lists(st.integers(min_value=0), max_size=50))
def test_whatever_happens_only_a_load_makes_a_worker_ready(choices):
    state, loaded = WorkerState.STARTING, False
    for choice in choices:
        events = [event for origin, event in TRANSITIONS if origin is state]
        if not events:
            return
        event = events[choice % len(events)]
        loaded = event is WorkerEvent.LOADED
        state = advance(state, event)
        assert (state is WorkerState.READY) == loaded
