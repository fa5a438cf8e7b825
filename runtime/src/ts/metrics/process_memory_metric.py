"""`ts.metrics.process_memory_metric`: memory of processes."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import psutil

log = logging.getLogger(__name__)


def get_cpu_usage(pid: str | int) -> int:
    """Return the resident bytes of a process, 0 if there is none (the name is TorchServe's)."""
    try:
        return int(psutil.Process(int(pid)).memory_info().rss)
    except psutil.Error as error:
        log.error("process %s cannot be measured: %s", pid, error)  # noqa: TRY400  it has just ended
        return 0


def check_process_mem_usage(stdin: TextIO) -> None:
    """Read one line of process ids, separated by commas, and print `pid:bytes` for each."""
    for pid in stdin.readline().strip().split(","):
        if pid:
            sys.stdout.write(f"{pid}:{get_cpu_usage(pid)}\n")
