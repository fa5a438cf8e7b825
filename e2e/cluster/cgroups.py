"""The one cgroup of a cluster, in every hierarchy of the machine; all pods are below it."""

import contextlib
import errno
import time
from pathlib import Path

from e2e.cluster.faults import NotPermitted, NotReady

MOUNTED = Path("/sys/fs/cgroup")
V2_CONTROLLERS = "+cpu +cpuset +io +memory +pids"


def hierarchies() -> list[Path]:
    """Return the roots: the only one of cgroup v2, or one for each controller of v1."""
    if (MOUNTED / "cgroup.controllers").exists():
        return [MOUNTED]
    # cpu and cpuacct are often links to one hierarchy.
    return sorted(
        {entry.resolve() for entry in MOUNTED.iterdir() if (entry / "cgroup.procs").exists()}
    )


def make(name: str) -> None:
    """Make the cgroup everywhere.

    Raises:
        NotPermitted: the hierarchies are read-only, as in most containers.
    """
    for root in hierarchies():
        group = root / name
        try:
            group.mkdir(exist_ok=True)
            _fit(root, group)
        except OSError as error:
            raise NotPermitted(
                f"cannot make cgroups ({error}); a node needs a machine of its own, not a container"
            ) from error


def _fit(root: Path, group: Path) -> None:
    # v1: a new cpuset is empty, and nothing can run in it.
    for share in ("cpuset.cpus", "cpuset.mems"):
        if (group / share).exists() and (root / share).exists():
            (group / share).write_text((root / share).read_text())
    # v2: controllers reach the children of a group only when it says so.
    if root == MOUNTED:
        for parent in (root, group):
            for controller in V2_CONTROLLERS.split():
                with contextlib.suppress(OSError):  # one that this kernel lacks
                    (parent / "cgroup.subtree_control").write_text(controller)


def remove(name: str, seconds: float = 10) -> None:
    """Remove the cgroup with all below it, as soon as the last of its processes is gone."""
    deadline = time.monotonic() + seconds
    for root in hierarchies():
        while (root / name).is_dir() and not _removed(root / name):
            if time.monotonic() > deadline:
                raise NotReady(f"{root / name} is empty", seconds)
            time.sleep(0.05)


def _removed(group: Path) -> bool:
    below = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for path in [*below, group]:
        try:
            path.rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
    return True
