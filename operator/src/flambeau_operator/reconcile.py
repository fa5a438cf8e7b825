"""One pass: read, observe, plan, carry out, report. Level-triggered: nothing is remembered but silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from flambeau_operator.doors import Cluster, Key, Result, RuntimeClient, Watched


class Reconciler:
    """Carries out what `plan` decides; every failure is collected, none thrown across."""

    def __init__(
        self, cluster: Cluster, runtimes: RuntimeClient, clock: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._runtimes = runtimes
        self._clock = clock

    async def reconcile(self, key: Key) -> Result:
        """Make one pass over one object."""
        raise NotImplementedError

    async def wait_for_change(self, watched: Sequence[Watched]) -> None:
        """Return when one of these pods has a newer revision than the one seen."""
        raise NotImplementedError
