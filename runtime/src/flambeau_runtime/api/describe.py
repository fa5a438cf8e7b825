"""TorchServe's description of a model version, field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from flambeau_runtime.archive.model_config import ModelConfig, read_model_config
from flambeau_runtime.archive.sources import presentable
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.observed import WorkerFacts

NO_USAGE: Mapping[int, str] = MappingProxyType({})


def describe(
    spec: VersionSpec,
    live: LiveVersion | None,
    *,
    loaded_at_startup: bool,
    devices: Sequence[int] = (),
    usage: Mapping[int, str] = NO_USAGE,
) -> dict[str, Any]:
    """Return the description of one version; `live` is None while nothing of it runs.

    `devices` are those of the runtime, `usage` is what their driver tells of them.
    """
    config = spec.config
    if not config.is_there and live is not None:
        config = read_model_config(live.package.config)
    workers = () if live is None else live.workers()
    pending = 0 if live is None else len(live.queue)
    return {
        "modelName": spec.model,
        "modelVersion": spec.version,
        "modelUrl": presentable(spec.source.uri),
        "runtime": spec.runtime or _runtime(live),
        "minWorkers": spec.workers,
        "maxWorkers": max(spec.workers, spec.max_workers or 0),
        "batchSize": spec.batching.max_size,
        "maxBatchDelay": round(spec.batching.max_delay_s * 1000),
        "responseTimeout": _whole(spec.timeouts.response_s),
        "startupTimeout": _whole(spec.timeouts.startup_s),
        "maxRetryTimeoutInSec": config.max_retry_timeout_s,
        "clientTimeoutInMills": config.client_timeout_ms,
        "parallelType": config.parallel_type,
        "parallelLevel": config.parallel_level,
        **_devices(config, devices),
        "continuousBatching": False,
        "useJobTicket": False,
        "useVenv": config.use_venv,
        "stateful": False,
        "sequenceMaxIdleMSec": 0,
        "sequenceTimeoutMSec": 0,
        "maxNumSequence": 0,
        "maxSequenceJobQueueSize": 0,
        "loadedAtStartup": loaded_at_startup,
        "workers": [describe_worker(worker, usage) for worker in workers],
        "jobQueueStatus": {
            "remainingCapacity": max(0, spec.queue_size - pending),
            "pendingRequests": pending,
        },
    }


def _devices(config: ModelConfig, devices: Sequence[int]) -> dict[str, Any]:
    """Return what kind of devices the workers get, and which, if the model names any."""
    kind = "gpu" if devices and config.device_type != "cpu" else "cpu"
    valid = config.device_ids and all(index in devices for index in config.device_ids)
    return {"deviceType": kind, **({"deviceIds": list(config.device_ids)} if valid else {})}


def describe_worker(worker: WorkerFacts, usage: Mapping[int, str] = NO_USAGE) -> dict[str, Any]:
    """Return one worker; TorchServe knows READY, and calls everything else UNLOADING."""
    started = datetime.fromtimestamp(worker.started_at, UTC)
    device = worker.device
    return {
        "id": worker.id,
        "startTime": f"{started:%Y-%m-%dT%H:%M:%S}.{started.microsecond // 1000:03d}Z",
        "status": "READY" if worker.state.lower() == "ready" else "UNLOADING",
        "memoryUsage": worker.memory_bytes,
        "pid": -1 if worker.pid is None else worker.pid,
        "gpu": device is not None,
        "gpuUsage": "N/A" if device is None else usage.get(device, f"gpuId::{device}"),
    }


def customised(body: bytes | bytearray | memoryview) -> object:
    """Return what a handler says of itself: JSON as it is, anything else as text."""
    text = bytes(body).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _runtime(live: LiveVersion | None) -> str:
    return "python" if live is None else str(live.package.manifest.get("runtime", "python"))


def _whole(seconds: float) -> float:
    return int(seconds) if float(seconds).is_integer() else seconds
