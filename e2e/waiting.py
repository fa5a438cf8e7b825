"""Waiting for a cluster: most of it becomes true a moment later."""

import time
from collections.abc import Callable
from typing import TypeVar

from e2e.cluster.faults import ClusterFault

T = TypeVar("T")


def until(what: str, look: Callable[[], T], within_s: float = 60, every_s: float = 0.2) -> T:
    """Return what `look` returns once it is truthy; a cluster that says no is asked again.

    Raises:
        AssertionError: it did not become true in time; the message has what was seen last.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            seen = look()
            if seen:
                return seen
        except ClusterFault as fault:
            seen = fault
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s, last seen: {seen}"
        time.sleep(every_s)
