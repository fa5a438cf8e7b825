"""From "serve this archive" to a whole VersionSpec: who has the last word on each of its fields.

TorchServe's order: for batch size and delay the caller, then the archive's model-config.yaml; for
timeouts and worker counts the archive, then the caller; then `models=` of config.properties; then
the server-wide defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flambeau_runtime.archive.package import Package
from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import BadRequest
from flambeau_runtime.serving.desired import (
    LONGEST_TIMEOUT_S,
    MOST_JOBS_AT_ONCE,
    MOST_WORKERS,
    Batching,
    Source,
    Timeouts,
    VersionSpec,
)
from flambeau_runtime.settings import ModelDefaults, Settings


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


async def prepare(asked: Asked, store: Store, settings: Settings) -> VersionSpec:
    """Fetch and open the archive, and return the version that it asks to become.

    Raises:
        SourceUnavailable: nothing is there, or it may not be read.
        ArchiveInvalid: it is broken or dangerous, or has no name.
        BadRequest: it asks for more workers than any version may have.
    """
    path = await store.fetch(asked.url)
    handler = asked.handler or settings.default_handler
    package = await store.open(path, model=asked.model, handler=handler)
    return decide(asked, package, settings)


def decide(asked: Asked, package: Package, settings: Settings) -> VersionSpec:
    """Return the version that an opened archive becomes.

    Raises:
        BadRequest: it would have more workers than any version may have.
    """
    known = _defaults_for(package, settings)
    limits = settings.limits
    config = package.config
    in_config = _number(config, "maxBatchDelay")
    delay_s = _first(
        asked.max_batch_delay_s,
        None if in_config is None else in_config / 1000,
        known.max_batch_delay_s,
        limits.max_batch_delay_s,
    )
    size = _first(
        asked.batch_size, _number(config, "batchSize"), known.batch_size, limits.batch_size
    )
    response_s = _first(
        _number(config, "responseTimeout"),
        asked.response_timeout_s,
        known.response_timeout_s,
        limits.response_timeout_s,
    )
    startup_s = _first(
        _number(config, "startupTimeout"),
        asked.startup_timeout_s,
        known.startup_timeout_s,
        limits.startup_timeout_s,
    )
    workers = _first(_min_workers(config), known.min_workers, asked.workers, 0)
    if workers > MOST_WORKERS:
        raise BadRequest(
            f"{package.model} {package.version} cannot have {workers:g} workers: at most "
            f"{MOST_WORKERS}; lower minWorkers, initial_workers or default_workers_per_model."
        )
    return VersionSpec(
        model=package.model,
        version=package.version,
        source=Source(asked.url, package.digest),
        workers=int(workers),
        max_workers=int(_first(_max_workers(config), known.max_workers, workers)),
        batching=Batching(int(min(size, MOST_JOBS_AT_ONCE)), min(delay_s, LONGEST_TIMEOUT_S)),
        timeouts=Timeouts(min(response_s, LONGEST_TIMEOUT_S), min(startup_s, LONGEST_TIMEOUT_S)),
        handler=asked.handler,
        queue_size=int(_first(_number(config, "jobQueueSize"), limits.job_queue_size)),
        split_json_arrays=_split(config),
        runtime=asked.runtime,
        retry_on_crash=config.get("retryOnCrash") is not False,
    )


def _defaults_for(package: Package, settings: Settings) -> ModelDefaults:
    for known in settings.model_defaults:
        if (known.model, known.version) == (package.model, package.version):
            return known
    return ModelDefaults(package.model, package.version)


def _first(*candidates: float | None) -> float:
    return next(candidate for candidate in candidates if candidate is not None)


def _number(config: Mapping[str, Any], key: str) -> float | None:
    """Return a positive number; anything else counts as not said, as in TorchServe."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 < value < math.inf else None


def _min_workers(config: Mapping[str, Any]) -> float | None:
    least, most = _number(config, "minWorkers"), _number(config, "maxWorkers")
    # TorchServe takes neither when the upper bound is below the lower.
    return None if least is None or (most is not None and most < least) else least


def _max_workers(config: Mapping[str, Any]) -> float | None:
    return None if _min_workers(config) is None else _number(config, "maxWorkers")


def _split(config: Mapping[str, Any]) -> str:
    value = config.get("splitJsonArrays", "auto")
    # YAML reads a bare on and off as true and false.
    word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    return word if word in {"auto", "on", "off"} else "auto"
