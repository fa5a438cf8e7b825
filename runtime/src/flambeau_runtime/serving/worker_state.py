"""The life of one worker's place as a table that can be printed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class WorkerState(StrEnum):
    """Where a worker is; a place keeps its id while processes come and go in it."""

    STARTING = "Starting"  # a process was asked for
    LOADING = "Loading"  # it is connected and loads the handler
    READY = "Ready"
    BACKING_OFF = "BackingOff"  # it died; the next process waits
    FAILED = "Failed"  # it died too often; nothing happens until somebody asks
    DRAINING = "Draining"  # it finishes its batch, then goes
    STOPPED = "Stopped"  # the end


class WorkerEvent(StrEnum):
    """What can happen to a worker."""

    CONNECTED = "connected"
    LOADED = "loaded"
    DIED = "died"
    REPLACED = "replaced"  # killed for being late: the next process starts at once
    RETRY_DUE = "retry due"
    BUDGET_SPENT = "budget spent"
    RETRY_ASKED = "retry asked"
    DRAIN_ASKED = "drain asked"
    EXITED = "exited"


class IllegalTransition(AssertionError):
    """An event reached a worker in a state that does not know it: a mistake in this program."""

    def __init__(self, state: WorkerState, event: WorkerEvent) -> None:
        super().__init__(f"a worker that is {state} cannot take the event {event!r}")
        self.state = state
        self.event = event


TRANSITIONS: Mapping[tuple[WorkerState, WorkerEvent], WorkerState] = MappingProxyType(
    {
        (WorkerState.STARTING, WorkerEvent.CONNECTED): WorkerState.LOADING,
        (WorkerState.LOADING, WorkerEvent.LOADED): WorkerState.READY,
        (WorkerState.STARTING, WorkerEvent.DIED): WorkerState.BACKING_OFF,
        (WorkerState.LOADING, WorkerEvent.DIED): WorkerState.BACKING_OFF,
        (WorkerState.READY, WorkerEvent.DIED): WorkerState.BACKING_OFF,
        (WorkerState.READY, WorkerEvent.REPLACED): WorkerState.STARTING,
        (WorkerState.BACKING_OFF, WorkerEvent.RETRY_DUE): WorkerState.STARTING,
        (WorkerState.BACKING_OFF, WorkerEvent.BUDGET_SPENT): WorkerState.FAILED,
        (WorkerState.FAILED, WorkerEvent.RETRY_ASKED): WorkerState.STARTING,
        (WorkerState.STARTING, WorkerEvent.DRAIN_ASKED): WorkerState.DRAINING,
        (WorkerState.LOADING, WorkerEvent.DRAIN_ASKED): WorkerState.DRAINING,
        (WorkerState.READY, WorkerEvent.DRAIN_ASKED): WorkerState.DRAINING,
        (WorkerState.BACKING_OFF, WorkerEvent.DRAIN_ASKED): WorkerState.STOPPED,
        (WorkerState.FAILED, WorkerEvent.DRAIN_ASKED): WorkerState.STOPPED,
        (WorkerState.DRAINING, WorkerEvent.EXITED): WorkerState.STOPPED,
    }
)


def advance(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """Return the state a worker enters when `event` reaches it in `state`.

    Raises:
        IllegalTransition: the table has no such pair.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None
