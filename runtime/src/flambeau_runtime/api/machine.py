"""What the machine is doing, under TorchServe's names: CPU, memory, disk, devices."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence

import psutil
from prometheus_client import Metric

MEBI = 1024 * 1024
GIBI = 1024 * MEBI
QUERY_S = 5.0

HOST_GAUGES = {
    "CPUUtilization": "CPU in use, in percent.",
    "MemoryUsed": "Memory in use, in MiB.",
    "MemoryAvailable": "Memory that can still be had, in MiB.",
    "MemoryUtilization": "Memory in use, in percent.",
    "DiskUsage": "Root disk in use, in GiB.",
    "DiskUtilization": "Root disk in use, in percent.",
    "DiskAvailable": "Root disk that is free, in GiB.",
}
DEVICE_GAUGES = {
    "GPUMemoryUtilization": "Device memory in use, in percent.",
    "GPUMemoryUsed": "Device memory in use, in MiB.",
    "GPUUtilization": "Device in use, in percent.",
    "ts_gpu_memory_used_bytes": "Device memory in use, in bytes.",
}


class Machine:
    """A collector that shows what `read` found last."""

    def __init__(self) -> None:
        self._found: tuple[Metric, ...] = ()

    def read(self) -> None:
        """Look at the machine; takes some milliseconds, and seconds where a driver hangs."""
        self._found = tuple(read_machine())

    def collect(self) -> Iterator[Metric]:
        """Yield what was found."""
        yield from self._found


class NoMachine(Machine):
    """The same, where nobody wants to know."""

    def read(self) -> None:
        """Look at nothing."""


def read_machine() -> Iterator[Metric]:
    """Yield one family per gauge; those of devices have no samples where there is none."""
    hostname = socket.gethostname()
    host = {"Level": "Host", "Hostname": hostname}
    values = host_values()
    for name, help_text in HOST_GAUGES.items():
        family = Metric(name, help_text, "gauge")
        family.add_sample(name, host, values[name])
        yield family
    yield from _device_families(hostname)


def host_values() -> dict[str, float]:
    """Return the value of every host gauge now."""
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(os.sep)
    return {
        "CPUUtilization": psutil.cpu_percent(interval=None),
        "MemoryUsed": memory.used / MEBI,
        "MemoryAvailable": memory.available / MEBI,
        "MemoryUtilization": memory.percent,
        "DiskUsage": disk.used / GIBI,
        "DiskUtilization": 100 * disk.used / disk.total,
        "DiskAvailable": disk.free / GIBI,
    }


def _device_families(hostname: str) -> Iterator[Metric]:
    devices = parse_devices(_ask_nvidia())
    for name, help_text in DEVICE_GAUGES.items():
        family = Metric(name, help_text, "gauge")
        for values in devices:
            labels = {"Level": "Host", "DeviceId": values["index"], "Hostname": hostname}
            family.add_sample(name, labels, float(values[name]))
        yield family


def _ask_nvidia() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    fields = "index,memory.used,memory.total,utilization.gpu"
    try:
        return subprocess.run(  # noqa: S603  the program's own path and constant arguments
            [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=QUERY_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def parse_devices(table: str) -> Sequence[dict[str, str]]:
    """Return the gauges of each device out of nvidia-smi's table; what it cannot tell is 0."""
    devices = []
    for line in table.splitlines():
        index, *numbers = (cell.strip() for cell in line.split(","))
        used, total, busy = (float(it) if it.replace(".", "").isdigit() else 0.0 for it in numbers)
        devices.append(
            {
                "index": index,
                "GPUMemoryUtilization": str(100 * used / total if total else 0.0),
                "GPUMemoryUsed": str(used),
                "GPUUtilization": str(busy),
                "ts_gpu_memory_used_bytes": str(used * MEBI),
            }
        )
    return devices
