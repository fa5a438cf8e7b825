"""What the machine is doing, under TorchServe's names: CPU, memory, disk, devices."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import psutil
from prometheus_client import Metric

from flambeau_runtime.metric_families import FRONT_FAMILIES, named
from flambeau_runtime.recorder import Recorder
from flambeau_runtime.settings import Family, Settings

log = logging.getLogger(__name__)

MEBI = 1024 * 1024
GIBI = 1024 * MEBI
QUERY_S = 5.0
SCRIPT_S = 30.0
LONGEST_OUTPUT = 1024 * 1024

MACHINE_FAMILIES = frozenset({
    "CPUUtilization", "MemoryUsed", "MemoryAvailable", "MemoryUtilization",
    "DiskUsage", "DiskUtilization", "DiskAvailable",
    "GPUMemoryUtilization", "GPUMemoryUsed", "GPUUtilization",
})  # fmt: skip
DEVICE_BYTES = "ts_gpu_memory_used_bytes"
_LINE = re.compile(r"(?P<name>[^.|]+)\.[^:|]*:(?P<value>[^|]+)\|#(?P<dimensions>[^|]*)")


class Reading(NamedTuple):
    """One number about the machine, or about one of its devices."""

    name: str
    value: float
    device: str | None = None


Look = Callable[[], Sequence[Reading]]
"""Looks at the machine; takes some milliseconds, and seconds where a driver hangs."""


class Machine:
    """A collector that shows what `read` found last.

    Args:
        look: looks at the machine.
        recorder: takes TorchServe's numbers; None: they are shown by this collector.
    """

    def __init__(self, look: Look, recorder: Recorder | None = None) -> None:
        self._look = look
        self._recorder = recorder
        self._found: Sequence[Reading] = ()

    def read(self) -> None:
        """Look at the machine."""
        self._found = self._look()

    def collect(self) -> Iterator[Metric]:
        """Yield what was found, or hand it to the recorder."""
        hostname = socket.gethostname()
        if self._recorder is not None:
            self.record()
            yield _in_bytes(self._found, hostname)
            return
        for family in FRONT_FAMILIES:
            if family.name in MACHINE_FAMILIES:
                yield _as_family(family, self._found, hostname)
        yield _in_bytes(self._found, hostname)

    def record(self) -> None:
        """Tell the recorder what was found."""
        for reading in self._found:
            if self._recorder is not None and reading.name != DEVICE_BYTES:
                self._recorder.machine(*reading)


def _as_family(family: Family, found: Iterable[Reading], hostname: str) -> Metric:
    help_text = f"Torchserve prometheus {family.kind} metric with unit: {family.unit}"
    metric = Metric(family.name, help_text, family.kind)
    for name, value, device in found:
        if name == family.name:
            texts = ("Host", hostname) if device is None else ("Host", device, hostname)
            metric.add_sample(name, dict(named(family, texts)), value)
    return metric


def _in_bytes(found: Iterable[Reading], hostname: str) -> Metric:
    metric = Metric(DEVICE_BYTES, "Device memory in use, in bytes.", "gauge")
    for name, value, device in found:
        if name == DEVICE_BYTES:
            labels = {"Level": "Host", "DeviceId": device or "", "Hostname": hostname}
            metric.add_sample(name, labels, value)
    return metric


def make_look(settings: Settings) -> Look:
    """Return what looks at the machine: nothing, TorchServe's numbers, or the user's script."""
    if not settings.system_metrics:
        return tuple
    if settings.system_metrics_cmd is None:
        return look_at_machine
    command = [sys.executable, *shlex.split(settings.system_metrics_cmd)]
    return lambda: _ask_script(command)


def look_at_machine() -> Sequence[Reading]:
    """Return every number that TorchServe's own script measures."""
    readings = [Reading(name, value) for name, value in host_values().items()]
    for device in parse_devices(_ask_nvidia()):
        index = device.pop("index")
        readings += [Reading(name, float(value), index) for name, value in device.items()]
    return readings


def _ask_script(command: Sequence[str]) -> Sequence[Reading]:
    try:
        output = subprocess.run(  # noqa: S603  the operator of this server named it
            command, capture_output=True, text=True, timeout=SCRIPT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("system_metrics_cmd failed", extra={"command": command[1:], "why": str(error)})
        return ()
    return list(parse_lines(output[:LONGEST_OUTPUT]))


def parse_lines(output: str) -> Iterator[Reading]:
    """Yield the numbers of `Name.Unit:value|#Dimension:value,…|#…` lines; others are passed by."""
    for line in output.splitlines():
        match = _LINE.match(line.strip().removeprefix("[METRICS]"))
        if match is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        pairs = dict(pair.partition(":")[::2] for pair in match["dimensions"].split(","))
        yield Reading(match["name"], value, pairs.get("DeviceId", pairs.get("device_id")))


async def watch(machine: Machine, every_s: float) -> None:
    """Look at the machine again and again, for a log of it; runs until it is cancelled."""
    while True:
        await asyncio.to_thread(machine.read)
        machine.record()
        await asyncio.sleep(every_s)


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
