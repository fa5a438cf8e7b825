"""What is wanted of this runtime: one immutable document (from operator, boot file or verbs)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from flambeau_runtime.archive.model_config import NO_CONFIG, ModelConfig

NO_ENV: Mapping[str, str] = MappingProxyType({})

MOST_WORKERS = 1024
"""Of one version in one runtime; more is a slip of the hand that would stop the machine."""
MOST_JOBS_AT_ONCE = 65_536
LONGEST_TIMEOUT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where an archive comes from, and what its content must be."""

    uri: str
    digest: str | None = None  # "sha256:<64 hex>"
    credentials: str | None = None  # the name of the mounted Secret that opens it


@dataclass(frozen=True, slots=True)
class Batching:
    """At most `max_size` jobs together; a job waits at most `max_delay_s` for companions."""

    max_size: int = 1
    max_delay_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Timeouts:
    """For one batch, and for a worker's way from process to loaded handler."""

    response_s: float = 120.0
    startup_s: float = 120.0


@dataclass(frozen=True, slots=True)
class WarmupRequest:
    """A request sent `repeat` times before a version counts as ready."""

    body: str
    content_type: str = "application/json"
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """One version of one model, as it shall be."""

    model: str
    version: str
    source: Source
    workers: int = 1
    batching: Batching = Batching()
    timeouts: Timeouts = Timeouts()
    env: Mapping[str, str] = field(default_factory=lambda: NO_ENV)
    warmup: tuple[WarmupRequest, ...] = ()
    handler: str | None = None  # overrides the manifest's
    queue_size: int = 100
    split_json_arrays: str = "auto"  # auto | on | off
    retry_on_crash: bool = True
    config: ModelConfig = NO_CONFIG  # of its archive, where a verb has opened that beforehand
    max_workers: int | None = None  # as many as come when requests wait; None: as many as `workers`
    runtime: str | None = None  # what describe shows; None: the manifest's
    weight: int = 0  # percent of the requests that name no version; the default gets what is left
    worker_memory_bytes: int | None = None  # a worker that holds more (resident) is replaced


class Swap(StrEnum):
    """How this runtime gets from one version of a model to another."""

    SIDE_BY_SIDE = "SideBySide"  # both at once
    WORKER_BY_WORKER = "WorkerByWorker"  # an old worker goes before a new one comes
    RECREATE = "Recreate"  # not ready, the old version away, then the new one


@dataclass(frozen=True, slots=True)
class Sticky:
    """What a caller is known by, so that the same one gets the same version: one of the two."""

    header: str | None = None
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far numbers at one place of two JSON answers may lie apart."""

    path: str  # `$.scores[*].value`
    absolute: float = 0.0
    relative: float = 0.0  # share of the larger one


@dataclass(frozen=True, slots=True)
class Shadow:
    """Which version gets copies of the default version's requests, and when answers are equal."""

    version: str
    percent: int = 100
    tolerances: tuple[Tolerance, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model: its versions, and which of them answers requests that name none."""

    name: str
    default: str | None
    versions: tuple[VersionSpec, ...]
    required: bool = True
    sticky: Sticky | None = None
    shadow: Shadow | None = None
    swap: Swap = Swap.SIDE_BY_SIDE
    drain_s: float | None = None  # how long a leaving version may finish; None: the settings' own
    window: str | None = None  # counts are told since this word changed: one step of a rollout


@dataclass(frozen=True, slots=True)
class Owner:
    """The ModelDeployment behind a managed runtime."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Document:
    """Everything wanted of this runtime."""

    models: tuple[ModelSpec, ...] = ()
    owner: Owner | None = None
    sequence: int = 0
    generation: int = 0
