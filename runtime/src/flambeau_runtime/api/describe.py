"""TorchServe's description of a model version, field by field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from flambeau_runtime.archive.sources import presentable
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.observed import WorkerFacts

RETRY_WINDOW_S = 300


def describe(
    spec: VersionSpec, live: LiveVersion | None, *, loaded_at_startup: bool
) -> dict[str, Any]:
    """Return the description of one version; `live` is None while nothing of it runs."""
    workers = () if live is None else live.workers()
    pending = 0 if live is None else len(live.queue)
    on_device = any(worker.device is not None for worker in workers)
    return {
        "modelName": spec.model,
        "modelVersion": spec.version,
        "modelUrl": presentable(spec.source.uri),
        "runtime": _runtime(live),
        "minWorkers": spec.workers,
        "maxWorkers": max(spec.workers, spec.max_workers or 0),
        "batchSize": spec.batching.max_size,
        "maxBatchDelay": round(spec.batching.max_delay_s * 1000),
        "responseTimeout": _whole(spec.timeouts.response_s),
        "startupTimeout": _whole(spec.timeouts.startup_s),
        "maxRetryTimeoutInSec": RETRY_WINDOW_S,
        "clientTimeoutInMills": 0,
        "parallelType": "",
        "parallelLevel": 0,
        "deviceType": "gpu" if on_device else "cpu",
        "continuousBatching": False,
        "useJobTicket": False,
        "useVenv": False,
        "stateful": False,
        "sequenceMaxIdleMSec": 0,
        "sequenceTimeoutMSec": 0,
        "maxNumSequence": 0,
        "maxSequenceJobQueueSize": 0,
        "loadedAtStartup": loaded_at_startup,
        "workers": [describe_worker(worker) for worker in workers],
        "jobQueueStatus": {
            "remainingCapacity": max(0, spec.queue_size - pending),
            "pendingRequests": pending,
        },
    }


def describe_worker(worker: WorkerFacts) -> dict[str, Any]:
    """Return one worker; TorchServe knows READY, and calls everything else UNLOADING."""
    started = datetime.fromtimestamp(worker.started_at, UTC)
    on_device = worker.device is not None
    return {
        "id": worker.id,
        "startTime": f"{started:%Y-%m-%dT%H:%M:%S}.{started.microsecond // 1000:03d}Z",
        "status": "READY" if worker.state.lower() == "ready" else "UNLOADING",
        "memoryUsage": worker.memory_bytes,
        "pid": -1 if worker.pid is None else worker.pid,
        "gpu": on_device,
        "gpuUsage": f"gpuId::{worker.device}" if on_device else "N/A",
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
