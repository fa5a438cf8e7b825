"""Warm-up: requests that a version answers before it counts as ready."""

from __future__ import annotations

import asyncio

from flambeau_runtime.errors import LoadFailed, OutOfMemory, RuntimeFault
from flambeau_runtime.serving import job
from flambeau_runtime.serving.desired import VersionSpec, WarmupRequest
from flambeau_runtime.serving.live_version import LiveVersion

FIRST_ERROR_STATUS = 400
SHOWN_BYTES = 200
"""As much of a bad answer's body as the failure quotes."""


async def send(live: LiveVersion, spec: VersionSpec) -> None:
    """Send every warm-up request `repeat` times to each worker, as far as idle workers pull evenly.

    Raises:
        LoadFailed: one was not answered, or with a status of 400 or above (reason WarmupFailed, or
            OutOfMemory).
    """
    for number, request in enumerate(spec.warmup, 1):
        name = f"warm-up request {number} of {len(spec.warmup)}"
        for _ in range(request.repeat):
            # Together, so that they spread over the workers: nobody can choose a worker.
            asked = [_ask(live, spec, request, name) for _ in range(max(spec.workers, 1))]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for answer in answers:
                if answer is not None:
                    raise answer


async def _ask(live: LiveVersion, spec: VersionSpec, request: WarmupRequest, name: str) -> None:
    payload = job.Payload(
        request_id="warmup",
        headers=f"content-type: {request.content_type}\r\n".encode("latin-1", "replace"),
        body=request.body.encode(),
        content_type=request.content_type,
    )
    try:
        prediction = await job.ask(live, payload, spec.timeouts.response_s, spec.model)
    except RuntimeFault as fault:
        reason = "OutOfMemory" if isinstance(fault, OutOfMemory) else "WarmupFailed"
        raise LoadFailed(reason, f"{name}: {fault}") from fault
    if prediction.status >= FIRST_ERROR_STATUS:
        said = bytes(prediction.body[:SHOWN_BYTES]).decode(errors="replace")
        message = f"{name} was answered with status {prediction.status}: {said}"
        raise LoadFailed("WarmupFailed", message)
