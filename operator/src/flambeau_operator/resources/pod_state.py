"""The `/state` document, and what a pod reports: the shapes. How they are written is beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

NO_ENV: Mapping[str, str] = MappingProxyType({})


class VersionPhase(StrEnum):
    """How far a pod has come with a version, in the runtime's words."""

    PENDING = "Pending"
    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    LOADING = "Loading"
    WARMING = "Warming"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """Where an archive comes from, and what its content must be."""

    uri: str
    digest: str | None = None
    credentials: str | None = None  # the name of a mounted Secret; no part of what the archive is


@dataclass(frozen=True, slots=True)
class WarmupEntry:
    """A request sent `repeat` times before a version counts as ready."""

    body: str
    content_type: str = "application/json"
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version as a pod shall have it."""

    version: str
    source: SourceEntry
    workers: int = 1
    max_size: int = 1
    max_delay_s: float = 0.1
    response_s: float = 120.0
    startup_s: float = 300.0
    env: Mapping[str, str] = field(default_factory=lambda: NO_ENV)
    warmup: tuple[WarmupEntry, ...] = ()
    weight: int = 0  # percent of the requests that name no version; the default gets what is left
    max_workers: int | None = None  # as many as come when requests wait; None: as many as `workers`
    worker_memory_bytes: int | None = None  # a worker that holds more is replaced


class Swap(StrEnum):
    """How a pod gets from one version of a model to another."""

    SIDE_BY_SIDE = "SideBySide"  # both at once
    WORKER_BY_WORKER = "WorkerByWorker"  # never more workers than the wanted ones of all versions
    RECREATE = "Recreate"  # out of the Service, the old one away, then the new one


@dataclass(frozen=True, slots=True)
class StickyEntry:
    """What a caller is known by: one of the two."""

    header: str | None = None
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class ToleranceEntry:
    """How far numbers at one place of two answers may lie apart."""

    path: str
    absolute: float = 0.0
    relative: float = 0.0  # share of the larger one


@dataclass(frozen=True, slots=True)
class ShadowEntry:
    """Which version gets copies of the default version's requests, and when answers are equal."""

    version: str
    percent: int = 100
    tolerances: tuple[ToleranceEntry, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model as a pod shall have it."""

    name: str
    default: str | None
    versions: tuple[VersionEntry, ...]
    required: bool = True
    sticky: StickyEntry | None = None
    shadow: ShadowEntry | None = None
    swap: Swap = Swap.SIDE_BY_SIDE
    drain_s: float | None = None  # how long a leaving version may finish; None: the runtime's own
    window: str | None = None  # since this word changed, the pod counts anew: one step of a rollout

    def version(self, version: str | None) -> VersionEntry | None:
        """Return one of its versions."""
        return next((each for each in self.versions if each.version == version), None)


@dataclass(frozen=True, slots=True)
class Owner:
    """The ModelDeployment that a document speaks for."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Document:
    """Everything a pod shall have; the committed set is one of these, too."""

    owner: Owner
    sequence: int
    generation: int
    models: tuple[ModelEntry, ...] = ()

    def model(self, name: str) -> ModelEntry | None:
        """Return one of its models."""
        return next((each for each in self.models if each.name == name), None)


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """Workers of one version in one pod."""

    wanted: int = 0
    ready: int = 0
    starting: int = 0
    failed: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version does not serve."""

    reason: str
    message: str
    log_tail: str = ""
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """A histogram of seconds from request to answer, in milliseconds; the last has no bound."""

    bounds_ms: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """What one version did since the document's window of its model changed.

    A pod that started later, or again, has its own beginning: what it counted before is lost.
    """

    id: str
    requests: int = 0  # answers, good or bad; not those refused, dropped or left by the client
    errors: int = 0  # those that its workers caused: an exception, a death, a timeout
    restarts: int = 0  # of its workers
    latency: LatencyCounts = LatencyCounts()
    copies: int = 0  # shadow requests it answered
    copy_errors: int = 0
    compared: int = 0  # of those answers, held against the default version's
    different: int = 0
    difference: str = ""  # the first one of this window, in words


@dataclass(frozen=True, slots=True)
class VersionMemory:
    """What the workers of one version hold, as measured; 0: not known."""

    worker_bytes: int = 0  # the largest worker's proportional share (PSS)
    device_bytes: int = 0  # the largest worker's, on its device


@dataclass(frozen=True, slots=True)
class PodMemory:
    """What a pod may use and uses, as measured; None: not known."""

    limit_bytes: int | None = None  # of its control group, or of the machine
    available_bytes: int | None = None  # what is left of it
    device_available_bytes: int | None = None  # of the device with the most room; None: no device


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version as a pod has it."""

    version: str
    phase: VersionPhase = VersionPhase.UNKNOWN
    weight: int = 0
    workers: WorkerCounts = WorkerCounts()
    digest: str | None = None
    bytes: int = 0
    fetched_bytes: int = 0
    failure: Failure | None = None
    window: Window | None = None
    memory: VersionMemory = VersionMemory()


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model as a pod has it."""

    name: str
    required: bool = True
    default: str | None = None
    ready: bool = False
    versions: tuple[VersionState, ...] = ()

    def version(self, version: str | None) -> VersionState | None:
        """Return one of its versions."""
        return next((each for each in self.versions if each.version == version), None)


@dataclass(frozen=True, slots=True)
class PodState:
    """What `GET /state` answered."""

    revision: str = ""
    process_id: str = ""
    desired: Document | None = None
    ready: bool = False
    draining: bool = False
    models: tuple[ModelState, ...] = ()
    cautious: bool = False  # it booted, and gives no candidate a weight until it is told again
    memory: PodMemory = PodMemory()
    queue_wait_s: float = 0.0
    saturation: float = 0.0

    def version(self, model: str, version: str | None) -> VersionState | None:
        """Return how far the pod has come with one version of one model."""
        found = next((each for each in self.models if each.name == model), None)
        return found.version(version) if found else None
