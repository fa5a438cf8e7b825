"""How many accelerators this machine offers, found without importing torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flambeau_runtime.errors import InvalidSettings

DECLARED = "FLAMBEAU_DEVICES"
NVIDIA = Path("/dev")
"""Where a container has a node for each device that is its own; /proc/driver/nvidia/gpus lists all
those of the machine, also in a container that was given none."""
NVIDIA_NODE = re.compile(r"nvidia\d+")
NVIDIA_VISIBLE = ("CUDA_VISIBLE_DEVICES",)
AMD = Path("/sys/class/kfd/kfd/topology/nodes")
AMD_VISIBLE = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


def count_devices(environ: Mapping[str, str], nvidia: Path = NVIDIA, amd: Path = AMD) -> int:
    """Return the number of devices: declared in FLAMBEAU_DEVICES, else NVIDIA's or AMD's in sight.

    Raises:
        InvalidSettings: the declaration is not a number.
    """
    declared = environ.get(DECLARED)
    if declared is not None:
        if not declared.isdecimal():
            raise InvalidSettings(f"{DECLARED}={declared} cannot be: write a whole number")
        return int(declared)
    nodes = sum(bool(NVIDIA_NODE.fullmatch(it.name)) for it in nvidia.iterdir())
    if nodes:
        return _visible(environ, NVIDIA_VISIBLE, nodes)
    return _visible(environ, AMD_VISIBLE, _amd_devices(amd))


def _amd_devices(nodes: Path) -> int:
    """Count the nodes that are no CPUs: those have a gpu_id of 0."""
    found = 0
    for node in nodes.iterdir() if nodes.is_dir() else ():
        with suppress(OSError):
            found += (node / "gpu_id").read_text().strip() not in {"", "0"}
    return found


def _visible(environ: Mapping[str, str], variables: tuple[str, ...], present: int) -> int:
    return min([present, *(_listed(environ[name]) for name in variables if name in environ)])


def _listed(value: str) -> int:
    # CUDA and HIP stop at the first entry that they do not know, -1 for instance.
    entries = [entry.strip() for entry in value.split(",")]
    for index, entry in enumerate(entries):
        if not entry or entry.startswith("-"):
            return index
    return len(entries)
