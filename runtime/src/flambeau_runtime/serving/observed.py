"""What this runtime sees of itself: immutable facts for `/state`, metrics and the converger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """How far a version has come; read from facts, never remembered."""

    PENDING = "Pending"
    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    LOADING = "Loading"
    WARMING = "Warming"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version does not serve: a CamelCase reason, the real message, the last lines."""

    reason: str
    message: str
    log_tail: str = ""  # at most 2 KiB
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker process."""

    id: str  # "9000", as TorchServe numbers them
    pid: int | None
    state: str  # worker_state.WorkerState's value
    device: int | None
    started_at: float  # seconds since the epoch, for people
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """Workers of one version by what they can do now."""

    wanted: int = 0
    ready: int = 0
    starting: int = 0
    failed: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class VersionReport:
    """One version now. `weight`: its share of the requests that name no version, in percent."""

    version: str
    phase: Phase
    weight: int
    workers: WorkerCounts
    digest: str | None
    bytes: int | None  # of the archive, as far as known
    fetched_bytes: int
    last_failure: Failure | None


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model as it is now; `default` is the version that answers requests which name none."""

    name: str
    required: bool
    default: str | None
    ready: bool
    versions: tuple[VersionReport, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """This runtime as it is now, without what changes with every request."""

    ready: bool
    draining: bool
    models: tuple[ModelReport, ...]
    cautious: bool = False  # booted, and not told anything since: no candidate has a weight
