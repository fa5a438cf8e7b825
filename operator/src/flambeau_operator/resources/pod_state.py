"""The `/state` document as the operator writes and reads it.

The runtime has its own spelling of these types: in the field an operator talks to older and newer
runtimes, so reading is tolerant (unknown fields are ignored, missing ones get a sensible value).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

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


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model as a pod shall have it."""

    name: str
    default: str | None
    versions: tuple[VersionEntry, ...]
    required: bool = True

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

    def version(self, model: str, version: str | None) -> VersionState | None:
        """Return how far the pod has come with one version of one model."""
        found = next((each for each in self.models if each.name == model), None)
        return found.version(version) if found else None


def document_to_json(document: Document) -> dict[str, Any]:
    """Write a document as the body of `PUT /state`, and as the boot file's content."""
    owner = document.owner
    return {
        "owner": {"namespace": owner.namespace, "name": owner.name, "uid": owner.uid},
        "sequence": document.sequence,
        "generation": document.generation,
        "models": [_model_to_json(model) for model in document.models],
    }


def _model_to_json(model: ModelEntry) -> dict[str, Any]:
    return {
        "name": model.name,
        "required": model.required,
        "default": model.default,
        "versions": [_version_to_json(version) for version in model.versions],
    }


def _version_to_json(entry: VersionEntry) -> dict[str, Any]:
    return {
        "version": entry.version,
        "source": _source_to_json(entry.source),
        "workers": {"min": entry.workers},
        "batching": {"maxSize": entry.max_size, "maxDelaySeconds": entry.max_delay_s},
        "timeouts": {"responseSeconds": entry.response_s, "startupSeconds": entry.startup_s},
        "env": dict(entry.env),
        "warmup": [
            {"body": each.body, "contentType": each.content_type, "repeat": each.repeat}
            for each in entry.warmup
        ],
    }


def _source_to_json(source: SourceEntry) -> dict[str, Any]:
    """Write a source; an older runtime, which refuses what it does not know, is told no more."""
    named = {"credentials": source.credentials} if source.credentials else {}
    return {"uri": source.uri, "digest": source.digest, **named}


def document_from_json(body: Mapping[str, Any]) -> Document:
    """Read a document that a pod reports or that was committed."""
    owner = _mapping(body, "owner")
    return Document(
        owner=Owner(
            namespace=str(owner.get("namespace", "")),
            name=str(owner.get("name", "")),
            uid=str(owner.get("uid", "")),
        ),
        sequence=_number(body.get("sequence")),
        generation=_number(body.get("generation")),
        models=tuple(_model_from_json(each) for each in _mappings(body, "models")),
    )


def _model_from_json(body: Mapping[str, Any]) -> ModelEntry:
    return ModelEntry(
        name=str(body.get("name", "")),
        default=_text(body.get("default")),
        versions=tuple(_version_from_json(each) for each in _mappings(body, "versions")),
        required=body.get("required", True) is not False,
    )


def _version_from_json(body: Mapping[str, Any]) -> VersionEntry:
    source, batching, timeouts = (
        _mapping(body, "source"),
        _mapping(body, "batching"),
        _mapping(body, "timeouts"),
    )
    return VersionEntry(
        version=str(body.get("version", "")),
        source=SourceEntry(
            uri=str(source.get("uri", "")),
            digest=_text(source.get("digest")),
            credentials=_text(source.get("credentials")),
        ),
        workers=_number(_mapping(body, "workers").get("min"), 1),
        max_size=_number(batching.get("maxSize"), 1),
        max_delay_s=_seconds(batching.get("maxDelaySeconds"), 0.1),
        response_s=_seconds(timeouts.get("responseSeconds"), 120.0),
        startup_s=_seconds(timeouts.get("startupSeconds"), 300.0),
        env={str(key): str(value) for key, value in _mapping(body, "env").items()},
        warmup=tuple(_warmup_from_json(each) for each in _mappings(body, "warmup")),
    )


def _warmup_from_json(body: Mapping[str, Any]) -> WarmupEntry:
    return WarmupEntry(
        body=str(body.get("body", "")),
        content_type=str(body.get("contentType", "application/json")),
        repeat=_number(body.get("repeat"), 1),
    )


def pod_state_from_json(body: Mapping[str, Any]) -> PodState:
    """Read what a pod reports of itself."""
    observed = _mapping(body, "observed")
    desired = body.get("desired")
    return PodState(
        revision=str(body.get("revision", "")),
        process_id=str(body.get("processId", "")),
        desired=document_from_json(desired) if isinstance(desired, Mapping) else None,
        ready=observed.get("ready") is True,
        draining=observed.get("draining") is True,
        models=tuple(_model_state(each) for each in _mappings(observed, "models")),
    )


def _model_state(body: Mapping[str, Any]) -> ModelState:
    return ModelState(
        name=str(body.get("name", "")),
        required=body.get("required", True) is not False,
        default=_text(body.get("default")),
        ready=body.get("ready") is True,
        versions=tuple(_version_state(each) for each in _mappings(body, "versions")),
    )


def _version_state(body: Mapping[str, Any]) -> VersionState:
    workers, failure = _mapping(body, "workers"), body.get("lastFailure")
    return VersionState(
        version=str(body.get("version", "")),
        phase=_phase(body.get("phase")),
        weight=_number(body.get("weight")),
        workers=WorkerCounts(
            wanted=_number(workers.get("wanted")),
            ready=_number(workers.get("ready")),
            starting=_number(workers.get("starting")),
            failed=_number(workers.get("failed")),
            restarts=_number(workers.get("restarts")),
        ),
        digest=_text(body.get("digest")),
        bytes=_number(body.get("bytes")),
        fetched_bytes=_number(body.get("fetchedBytes")),
        failure=_failure(failure) if isinstance(failure, Mapping) else None,
    )


def _failure(body: Mapping[str, Any]) -> Failure:
    return Failure(
        reason=str(body.get("reason", "Unknown")),
        message=str(body.get("message", "")),
        log_tail=str(body.get("logTail") or ""),
        attempts=_number(body.get("attempts"), 1),
    )


def _phase(value: object) -> VersionPhase:
    try:
        return VersionPhase(str(value))
    except ValueError:
        return VersionPhase.UNKNOWN


def _mapping(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, Mapping) else {}


def _mappings(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = body.get(key)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object, otherwise: int = 0) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and isinstance(value, int | float) else otherwise


def _seconds(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise
