"""The `/state` document as the operator writes and reads it.

The runtime has its own spelling of these types: in the field an operator talks to older and newer
runtimes, so reading is tolerant (unknown fields are ignored, missing ones get a sensible value).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flambeau_operator.resources.pod_state import (
    Document,
    Failure,
    LatencyCounts,
    ModelEntry,
    ModelState,
    Owner,
    PodMemory,
    PodState,
    ShadowEntry,
    SourceEntry,
    StickyEntry,
    Swap,
    ToleranceEntry,
    VersionEntry,
    VersionMemory,
    VersionPhase,
    VersionState,
    WarmupEntry,
    Window,
    WorkerCounts,
)


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
        **_traffic_to_json(model),
    }


def _traffic_to_json(model: ModelEntry) -> dict[str, Any]:
    """Write what differs from the usual: an older runtime refuses what it does not know."""
    sticky, shadow = model.sticky, model.shadow
    said: dict[str, Any] = {}
    if sticky:
        said["sticky"] = {"header": sticky.header} if sticky.header else {"cookie": sticky.cookie}
    if shadow:
        said["shadow"] = {
            "version": shadow.version,
            "percent": shadow.percent,
            "tolerances": [
                {"path": each.path, "absolute": each.absolute, "relative": each.relative}
                for each in shadow.tolerances
            ],
            "ignore": list(shadow.ignore),
        }
    if model.swap is not Swap.SIDE_BY_SIDE:
        said["swap"] = str(model.swap)
    if model.drain_s is not None:
        said["drainSeconds"] = model.drain_s
    if model.window is not None:
        said["window"] = model.window
    return said


def _version_to_json(entry: VersionEntry) -> dict[str, Any]:
    return {
        "version": entry.version,
        "source": _source_to_json(entry.source),
        "workers": _workers_to_json(entry),
        "batching": {"maxSize": entry.max_size, "maxDelaySeconds": entry.max_delay_s},
        "timeouts": {"responseSeconds": entry.response_s, "startupSeconds": entry.startup_s},
        "env": dict(entry.env),
        "warmup": [
            {"body": each.body, "contentType": each.content_type, "repeat": each.repeat}
            for each in entry.warmup
        ],
        **({"weight": entry.weight} if entry.weight else {}),
    }


def _workers_to_json(entry: VersionEntry) -> dict[str, int]:
    named = {"max": entry.max_workers, "memoryBytes": entry.worker_memory_bytes}
    return {"min": entry.workers, **{key: it for key, it in named.items() if it is not None}}


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
        sticky=_sticky_from_json(body.get("sticky")),
        shadow=_shadow_from_json(body.get("shadow")),
        swap=_swap(body.get("swap")),
        drain_s=_optional_seconds(body.get("drainSeconds")),
        window=_text(body.get("window")),
    )


def _sticky_from_json(body: object) -> StickyEntry | None:
    if not isinstance(body, Mapping):
        return None
    return StickyEntry(header=_text(body.get("header")), cookie=_text(body.get("cookie")))


def _shadow_from_json(body: object) -> ShadowEntry | None:
    if not isinstance(body, Mapping):
        return None
    return ShadowEntry(
        version=str(body.get("version", "")),
        percent=_number(body.get("percent"), 100),
        tolerances=tuple(
            ToleranceEntry(
                path=str(each.get("path", "")),
                absolute=_seconds(each.get("absolute"), 0.0),
                relative=_seconds(each.get("relative"), 0.0),
            )
            for each in _mappings(body, "tolerances")
        ),
        ignore=tuple(str(each) for each in body.get("ignore") or ()),
    )


def _swap(value: object) -> Swap:
    try:
        return Swap(str(value))
    except ValueError:
        return Swap.SIDE_BY_SIDE


def _version_from_json(body: Mapping[str, Any]) -> VersionEntry:
    source, batching, timeouts, workers = (
        _mapping(body, "source"),
        _mapping(body, "batching"),
        _mapping(body, "timeouts"),
        _mapping(body, "workers"),
    )
    return VersionEntry(
        version=str(body.get("version", "")),
        source=SourceEntry(
            uri=str(source.get("uri", "")),
            digest=_text(source.get("digest")),
            credentials=_text(source.get("credentials")),
        ),
        workers=_number(workers.get("min"), 1),
        max_size=_number(batching.get("maxSize"), 1),
        max_delay_s=_seconds(batching.get("maxDelaySeconds"), 0.1),
        response_s=_seconds(timeouts.get("responseSeconds"), 120.0),
        startup_s=_seconds(timeouts.get("startupSeconds"), 300.0),
        env={str(key): str(value) for key, value in _mapping(body, "env").items()},
        warmup=tuple(_warmup_from_json(each) for each in _mappings(body, "warmup")),
        weight=_number(body.get("weight")),
        max_workers=_optional_number(workers.get("max")),
        worker_memory_bytes=_optional_number(workers.get("memoryBytes")),
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
        cautious=observed.get("cautious") is True,
        memory=_pod_memory(_mapping(observed, "memory")),
        queue_wait_s=_seconds(observed.get("queueWaitSeconds"), 0.0),
        saturation=_seconds(observed.get("saturation"), 0.0),
    )


def _pod_memory(body: Mapping[str, Any]) -> PodMemory:
    return PodMemory(
        limit_bytes=_optional_number(body.get("limitBytes")),
        available_bytes=_optional_number(body.get("availableBytes")),
        device_available_bytes=_optional_number(body.get("deviceAvailableBytes")),
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
        window=_window(body.get("window")),
        memory=VersionMemory(
            worker_bytes=_number(_mapping(body, "memory").get("workerBytes")),
            device_bytes=_number(_mapping(body, "memory").get("deviceBytes")),
        ),
    )


def _window(body: object) -> Window | None:
    if not isinstance(body, Mapping):
        return None
    latency = _mapping(body, "latency")
    return Window(
        id=str(body.get("id", "")),
        requests=_number(body.get("requests")),
        errors=_number(body.get("errors")),
        restarts=_number(body.get("restarts")),
        latency=LatencyCounts(
            bounds_ms=tuple(_seconds(each, 0.0) for each in latency.get("boundsMs") or ()),
            counts=tuple(_number(each) for each in latency.get("counts") or ()),
        ),
        copies=_number(body.get("copies")),
        copy_errors=_number(body.get("copyErrors")),
        compared=_number(body.get("compared")),
        different=_number(body.get("different")),
        difference=str(body.get("difference") or ""),
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


def _optional_number(value: object) -> int | None:
    return None if value is None else _number(value)


def _optional_seconds(value: object) -> float | None:
    return None if value is None else _seconds(value, 0.0)


def _seconds(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise
