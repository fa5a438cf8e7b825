"""From "serve this archive" to a whole VersionSpec: who has the last word on each of its fields.

TorchServe's order. Batch size and delay: the caller, the archive's model-config.yaml, `models=` of
config.properties, the server-wide defaults. Timeouts: an archive with a model-config.yaml decides
alone, for one without `models=` goes before the caller. Workers: the archive, then for start-up
models `models=`, then the caller.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flambeau_runtime.archive.model_config import ModelConfig, read_model_config
from flambeau_runtime.archive.package import Package
from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import ArchiveInvalid, BadRequest, LoadFailed
from flambeau_runtime.serving import placement
from flambeau_runtime.serving.desired import (
    LONGEST_TIMEOUT_S,
    MOST_JOBS_AT_ONCE,
    MOST_WORKERS,
    Batching,
    Source,
    Timeouts,
    VersionSpec,
)
from flambeau_runtime.settings import Limits, ModelDefaults, Settings

CONFIGURED_TIMEOUT_S = 120
"""Of a model with a model-config.yaml that names none, whatever the server-wide default is."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller says about an archive to be served; None: nothing."""

    url: str
    model: str | None = None
    handler: str | None = None
    batch_size: int | None = None
    max_batch_delay_s: float | None = None
    workers: int | None = None
    response_timeout_s: float | None = None
    startup_timeout_s: float | None = None
    runtime: str | None = None
    s3_sse_kms: bool = False
    at_startup: bool = False  # named by load_models or --models, so `models=` counts its workers


async def prepare(asked: Asked, store: Store, settings: Settings) -> VersionSpec:
    """Fetch and open the archive, and return the version that it asks to become.

    Raises:
        SourceUnavailable: nothing is there, or it may not be read.
        ArchiveInvalid: it is broken or dangerous, has no name, or asks for what is not there yet.
        RequirementsFailed: what it requires cannot be installed.
        BadRequest: it asks for more workers than any version may have.
        LoadFailed: it asks for more devices per worker than there are.
    """
    path = await store.fetch(asked.url)
    package = await store.open(path, model=asked.model, handler=asked.handler)
    return decide(asked, package, settings)


def decide(asked: Asked, package: Package, settings: Settings) -> VersionSpec:
    """Return the version that an opened archive becomes.

    Raises:
        ArchiveInvalid, BadRequest, LoadFailed: as in `prepare`.
    """
    config = read_model_config(package.config)
    for oddity in config.oddities:
        log.warning(oddity, extra={"model": package.model, "version": package.version})
    _check_parallel(package, config, settings)
    known = _defaults_for(package, settings)
    least, most = _workers(asked, package, config, known, settings)
    return VersionSpec(
        model=package.model,
        version=package.version,
        source=Source(asked.url, package.digest),
        workers=least,
        max_workers=most,
        batching=_batching(asked, config, known, settings.limits),
        timeouts=_timeouts(asked, config, known, settings.limits),
        handler=asked.handler,
        queue_size=config.job_queue_size or settings.limits.job_queue_size,
        split_json_arrays=_split(package.config),
        config=config,
        runtime=asked.runtime,
        retry_on_crash=package.config.get("retryOnCrash") is not False,
    )


def _batching(asked: Asked, config: ModelConfig, known: ModelDefaults, limits: Limits) -> Batching:
    size = _first(asked.batch_size, config.batch_size, known.batch_size, limits.batch_size)
    delay_ms = config.max_batch_delay_ms
    delay_s = _first(
        asked.max_batch_delay_s,
        None if delay_ms is None else delay_ms / 1000,
        known.max_batch_delay_s,
        limits.max_batch_delay_s,
    )
    return Batching(int(min(size, MOST_JOBS_AT_ONCE)), min(delay_s, LONGEST_TIMEOUT_S))


def _timeouts(asked: Asked, config: ModelConfig, known: ModelDefaults, limits: Limits) -> Timeouts:
    if config.is_there:
        response_s = float(config.response_timeout_s or CONFIGURED_TIMEOUT_S)
        startup_s = float(config.startup_timeout_s or CONFIGURED_TIMEOUT_S)
    else:
        response_s = _first(
            known.response_timeout_s, asked.response_timeout_s, limits.response_timeout_s
        )
        startup_s = _first(
            known.startup_timeout_s, asked.startup_timeout_s, limits.startup_timeout_s
        )
    return Timeouts(min(response_s, LONGEST_TIMEOUT_S), min(startup_s, LONGEST_TIMEOUT_S))


def _workers(
    asked: Asked, package: Package, config: ModelConfig, known: ModelDefaults, settings: Settings
) -> tuple[int, int]:
    """Return how many workers there are at least and at most."""
    said = asked.workers or 0
    least, most = config.worker_bounds or (
        (known.min_workers or said, known.max_workers or said) if asked.at_startup else (said, said)
    )
    if least > MOST_WORKERS:
        raise BadRequest(
            f"{package.model} {package.version} cannot have {least} workers: at most "
            f"{MOST_WORKERS}; lower minWorkers, initial_workers or default_workers_per_model."
        )
    room = placement.room_for_workers(settings.devices, config)
    least = least if room is None else min(least, room)
    return least, max(least, most if room is None else min(most, room))


def _check_parallel(package: Package, config: ModelConfig, settings: Settings) -> None:
    """Refuse a model whose workers would have to be several processes, or need more devices."""
    if config.parallel_type not in {"", "custom"}:
        raise ArchiveInvalid(
            f"{package.model}: parallelType {config.parallel_type} needs torchrun, which is not "
            "supported yet; use parallelType custom, whose handler starts what it needs on its "
            "parallelLevel devices"
        )
    if placement.room_for_workers(settings.devices, config) == 0:
        raise LoadFailed(
            "NotEnoughDevices",
            f"No enough gpu devices for model:{package.model} "
            f"parallelLevel:{config.parallel_level}",
        )


def _defaults_for(package: Package, settings: Settings) -> ModelDefaults:
    for known in settings.model_defaults:
        if (known.model, known.version) == (package.model, package.version):
            return known
    return ModelDefaults(package.model, package.version)


def _first(*candidates: float | None) -> float:
    return next(candidate for candidate in candidates if candidate is not None)


def _split(config: Mapping[str, Any]) -> str:
    value = config.get("splitJsonArrays", "auto")
    # YAML reads a bare on and off as true and false.
    word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    return word if word in {"auto", "on", "off"} else "auto"
