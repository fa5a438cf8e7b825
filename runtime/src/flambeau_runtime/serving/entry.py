"""How far one version has come, and how that is read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from flambeau_runtime.archive.package import Package
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.observed import Failure, Phase
from flambeau_runtime.serving.steps import ALIVE, Stage


@dataclass(slots=True, eq=False)
class Entry:
    """How far one version has come; written by the converger alone.

    `spec` is the wish that was last acted upon. `failure` is why it failed last, kept while it is
    tried again; `failed` says that nothing is being tried now, until `retry_at` on the loop's
    clock.
    """

    spec: VersionSpec
    package: Package | None = None
    live: LiveVersion | None = None
    task: asyncio.Task[None] | None = None
    verifying: bool = False
    warming: bool = False
    warm: bool = False
    draining: bool = False
    failed: bool = False
    failure: Failure | None = None
    retry_at: float = 0.0
    fetched_bytes: int = 0
    total_bytes: int | None = None

    def stage(self) -> Stage:
        """Read where the version stands."""
        if self.draining:
            return Stage.DRAINING
        if self.failed:
            return Stage.FAILED if self.live is None else Stage.BROKEN
        if self.live is None:
            return Stage.FETCHED if self.package is not None else Stage.FETCHING
        if self._gave_up(self.live):
            return Stage.BROKEN
        return self._stage_of_workers(self.live)

    def _gave_up(self, live: LiveVersion) -> bool:
        counts = live.counts()
        if not self.warm:
            return live.failure() is not None or counts.failed > 0
        # A version that served may recover by itself while any of its workers is there or coming.
        return live.failure() is not None and counts.ready + counts.starting == 0

    def _stage_of_workers(self, live: LiveVersion) -> Stage:
        if self.warming:
            return Stage.WARMING
        if self.spec.workers == 0:
            return Stage.RESTING
        if self.warm:
            return Stage.SERVING
        return Stage.LOADED if live.counts().ready >= self.spec.workers else Stage.LOADING

    def phase(self) -> Phase:
        """Read the phase that `/state` reports."""
        if self.failed:
            return Phase.FAILED
        if self.verifying:
            return Phase.VERIFYING
        return PHASES[self.stage()]

    def takes_work(self) -> bool:
        """Return whether requests may be queued for this version.

        A version that still loads takes them when it needs no warm-up: its workers pull only once
        they are ready.
        """
        return (
            self.live is not None
            and self.stage() in ALIVE
            and (self.warm or not self.spec.warmup or self.spec.workers == 0)
        )


PHASES = {
    Stage.FETCHING: Phase.FETCHING,
    Stage.FETCHED: Phase.LOADING,
    Stage.LOADING: Phase.LOADING,
    Stage.LOADED: Phase.WARMING,
    Stage.WARMING: Phase.WARMING,
    Stage.SERVING: Phase.READY,
    Stage.RESTING: Phase.READY,
    Stage.BROKEN: Phase.FAILED,
    Stage.FAILED: Phase.FAILED,
    Stage.DRAINING: Phase.DRAINING,
}
