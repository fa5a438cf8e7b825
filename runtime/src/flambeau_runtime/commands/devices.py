"""How many accelerators this machine offers, found without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flambeau_runtime.errors import InvalidSettings

DECLARED = "FLAMBEAU_DEVICES"
VISIBLE = "CUDA_VISIBLE_DEVICES"
NVIDIA = Path("/proc/driver/nvidia/gpus")


def count_devices(environ: Mapping[str, str], nvidia: Path = NVIDIA) -> int:
    """Return the number of devices: declared in FLAMBEAU_DEVICES, else NVIDIA's that are visible.

    Raises:
        InvalidSettings: the declaration is not a number.
    """
    declared = environ.get(DECLARED)
    if declared is not None:
        if not declared.isdecimal():
            raise InvalidSettings(f"{DECLARED}={declared} cannot be: write a whole number")
        return int(declared)
    present = len(list(nvidia.iterdir())) if nvidia.is_dir() else 0
    return min(present, _visible(environ, present))


def _visible(environ: Mapping[str, str], present: int) -> int:
    listed = environ.get(VISIBLE)
    if listed is None:
        return present
    # CUDA stops at the first entry that it does not know, -1 for instance.
    entries = [entry.strip() for entry in listed.split(",")]
    for index, entry in enumerate(entries):
        if not entry or entry.startswith("-"):
            return index
    return len(entries)
