"""What NVIDIA's tool tells of the memory of this runtime's devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flambeau_runtime.serving.worker_environment import visibility

MEBI = 1024 * 1024
QUERY_S = 5.0


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes per device, and per process as far as the driver names ours.

    In a container the driver often knows processes by other ids than we do.
    """

    free: Mapping[int, int] = field(default_factory=dict)
    used: Mapping[int, int] = field(default_factory=dict)
    by_pid: Mapping[int, int] = field(default_factory=dict)

    def held_by(self, pid: int, device: int, workers: int) -> int:
        """Return what a worker holds: its own figure, or its share of what is used beside others.

        `workers` is how many workers of this runtime are on the device.
        """
        return self.by_pid.get(pid) or self.used.get(device, 0) // max(workers, 1)


NOTHING = DeviceMemory()


def measure_devices(
    devices: Sequence[int], environ: Mapping[str, str] = os.environ
) -> DeviceMemory:
    """Ask for the devices of this runtime; takes milliseconds, seconds where a driver hangs."""
    if not devices:
        return NOTHING
    names = [next(iter(visibility(environ, (device,)).values())) for device in devices]
    free: dict[int, int] = {}
    used: dict[int, int] = {}
    for device, name in zip(devices, names, strict=True):
        for cells in _ask(name, "--query-gpu=memory.free,memory.used"):
            free[device], used[device] = cells[0] * MEBI, cells[1] * MEBI
    by_pid = {pid: held * MEBI for pid, held in _ask(None, "--query-compute-apps=pid,used_memory")}
    return DeviceMemory(free, used, by_pid)


def _ask(name: str | None, query: str) -> Iterator[tuple[int, int]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    only = [] if name is None else ["-i", name]
    try:
        table = subprocess.run(  # noqa: S603  words of ours and of the environment's owner
            [program, *only, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=QUERY_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return
    yield from parse_pairs(table)


def parse_pairs(table: str) -> Iterator[tuple[int, int]]:
    """Yield the lines that are two whole numbers; the driver writes [N/A] for what it hides."""
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 2 and all(map(str.isdecimal, cells)):  # noqa: PLR2004  pairs
            yield int(cells[0]), int(cells[1])
