"""What NVIDIA's tool tells of a device, in the one line that TorchServe makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from flambeau_runtime.serving.worker_environment import visibility

QUERY = "utilization.gpu,utilization.memory,memory.used"
QUERY_S = 5.0
UNKNOWN = "failed to obtained gpu usage"
"""TorchServe's words."""


def device_usage(device: int, environ: Mapping[str, str]) -> str:
    """Return the use of one device; takes some milliseconds, and seconds where a driver hangs.

    The tool counts all devices, the runtime those that `environ` shows it.
    """
    (name,) = visibility(environ, (device,)).values()
    command = ["nvidia-smi", "-i", name, f"--query-gpu={QUERY}", "--format=csv"]
    try:
        told = subprocess.run(  # noqa: S603  words of ours and of the environment's owner
            command, capture_output=True, text=True, timeout=QUERY_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return f"gpuId::{device} {UNKNOWN}"
    names, *rows = (line.split(",") for line in told.splitlines() if line.strip())
    pairs = zip(names, rows[-1] if rows else (), strict=False)
    return " ".join([f"gpuId::{device}", *(f"{it.strip()}::{v.strip()}" for it, v in pairs)])
