"""What all connections of one inference listener share, and what they need of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flambeau_runtime.api.payload import CLOSE, KEEP_ALIVE, RequestIds, header_lines
from flambeau_runtime.serving.arena import Arena
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.job import Job
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry

HELD_BYTES = 64 * 1024
"""Pipelined bytes kept while a request is answered; beyond, the client is not read."""


class Version(Protocol):
    """The part of a live version that the hot path uses."""

    @property
    def spec(self) -> VersionSpec:
        """What is wanted of it."""

    @property
    def queue(self) -> JobQueue:
        """Its queue, for the arena of its big bodies."""

    def submit(self, job: Job) -> None:
        """Queue a job, or raise QueueFull or ModelNotReady."""


class Routes(Protocol):
    """The part of the catalogue that the hot path uses."""

    def route(
        self,
        name: str | None,
        version: str | None,
        headers: bytes | None = None,
        arena: Arena | None = None,
    ) -> Version:
        """Return who answers, or raise ModelNotFound, VersionNotFound or ModelNotReady.

        Without a name the one model there is answers, or BadRequest is raised. Callers who keep
        their version are known by `headers`; `arena` is where the body lies already.
        """


Gate = Callable[[bytes], None]
"""Raises Unauthorised when the header block carries no right to predict."""


class Door:
    """What all connections of one listener share."""

    def __init__(
        self,
        catalogue: Routes,
        settings: Settings,
        telemetry: Telemetry,
        gate: Gate | None = None,
        max_age_s: float | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.telemetry = telemetry
        self.gate = gate
        self.max_age_s = max_age_s
        self.max_request_bytes = settings.limits.max_request_bytes
        self.draining = False
        lines = header_lines(settings.cors)
        self.keep_alive = lines + KEEP_ALIVE
        self.close = lines + CLOSE
        self.fresh_id = RequestIds().fresh
