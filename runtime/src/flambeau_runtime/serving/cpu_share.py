"""How many CPUs this process may use, and how many of them one worker gets.

Two workers with torch's default of one thread per core each, on the same cores, serve a seventh of
what they could: every worker gets its share of what the container may use, not of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def threads_per_worker(cpus: float, workers: int) -> int:
    """Return one worker's threads when `workers` share `cpus`; never less than one."""
    return max(1, int(cpus / max(1, workers)))


def usable_cpus(root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> float:
    """Return what affinity and cgroup limits leave to this process."""
    return min([float(_affinity()), *_limits(root, membership)])


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(root: Path, membership: Path) -> Iterator[float]:
    """Every limit on the way from the own group up to the root: the smallest one binds."""
    for controllers, group in groups(membership):
        if controllers == "":
            for folder in upwards(root, group):
                yield from _limit_v2(folder)
        elif "cpu" in controllers.split(","):
            for name in (controllers, "cpu"):
                for folder in upwards(root / name, group):
                    yield from _limit_v1(folder)


def groups(membership: Path) -> Iterator[tuple[str, str]]:
    """Yield controllers and path of each control group that `membership` names.

    Lines are `id:controllers:path`; version 2 has one with an empty list of controllers.
    """
    for line in _text(membership).splitlines():
        _, controllers, group = line.split(":", 2)
        yield controllers, group.strip("/")


def upwards(root: Path, group: str) -> Iterator[Path]:
    """Yield the folder of a group and those above it."""
    # Inside a container the path may be the host's: what does not exist here is passed by, and the
    # mounted root, which is the container's own group, is still read.
    folder = root / group
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _limit_v2(folder: Path) -> Iterator[float]:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if quota.isdecimal() and period.isdecimal():
        yield int(quota) / int(period)


def _limit_v1(folder: Path) -> Iterator[float]:
    quota = _text(folder / "cpu.cfs_quota_us").strip()  # -1: no limit
    period = _text(folder / "cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal():
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
