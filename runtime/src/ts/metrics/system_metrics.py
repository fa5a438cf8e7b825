"""`ts.metrics.system_metrics`: numbers about the machine, as scripts of users' own measure them."""

from __future__ import annotations

import os
import shutil
import sys

import psutil

from flambeau_runtime.worker.metrics import Dimension
from ts.metrics.metric import Metric

MEBI = 1024 * 1024
GIBI = 1024 * MEBI

system_metrics: list[Metric] = []
dimension = [Dimension("Level", "Host")]


def _note(name: str, value: float, unit: str) -> None:
    system_metrics.append(Metric(name, value, unit, dimension))


def cpu_utilization() -> None:
    """Note the CPU in use, in percent."""
    _note("CPUUtilization", psutil.cpu_percent(), "percent")


def memory_used() -> None:
    """Note the memory in use, in MiB."""
    _note("MemoryUsed", psutil.virtual_memory().used / MEBI, "MB")


def memory_available() -> None:
    """Note the memory that can still be had, in MiB."""
    _note("MemoryAvailable", psutil.virtual_memory().available / MEBI, "MB")


def memory_utilization() -> None:
    """Note the memory in use, in percent."""
    _note("MemoryUtilization", psutil.virtual_memory().percent, "percent")


def disk_used() -> None:
    """Note the root disk in use, in GiB."""
    _note("DiskUsage", shutil.disk_usage(os.sep).used / GIBI, "GB")


def disk_utilization() -> None:
    """Note the root disk in use, in percent."""
    _note("DiskUtilization", psutil.disk_usage(os.sep).percent, "percent")


def disk_available() -> None:
    """Note the root disk that is free, in GiB."""
    _note("DiskAvailable", shutil.disk_usage(os.sep).free / GIBI, "GB")


def collect_all(mod: object = None, num_of_gpu: int = 0) -> None:  # noqa: ARG001  TorchServe's arguments
    """Measure everything and print a line for each; devices are measured by the server itself."""
    for measure in (
        cpu_utilization,
        disk_available,
        disk_used,
        disk_utilization,
        memory_available,
        memory_used,
        memory_utilization,
    ):
        measure()
    sys.stdout.write("".join(f"{metric}\n" for metric in system_metrics) + "\n")
