"""Namespaces of its own for a cluster with a node: network, mounts, processes.

What is done to interfaces, packet filters, sysctls and mounts in there is gone with the last of its
processes; nothing of it reaches the machine.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.faults import ClusterFault, NotPermitted

# The cluster's folder inside: the same short path for every cluster, so that sockets fit into
# their 108 bytes.
INSIDE = Path("/run/flambeau")
FOLDER = "FLAMBEAU_CLUSTER_FOLDER"  # the folder's path outside, for who arranges the mounts
# Where programs write to fixed paths (CNI's cache, device plugins, links to logs).
OVERLAID = (Path("/var/lib"), Path("/var/log"))
# The kubelet sets these, for the whole machine: it gets files with the values it wants instead.
TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


def isolated(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` as the first process of new namespaces."""
    flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *flags, "--propagation", "private", "--", *argv]


def apart(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` with a network and mounts apart, among the processes."""
    return ["unshare", "--net", "--mount", "--propagation", "private", "--", *argv]


def joining(pid: int) -> list[str]:
    """Return the words that precede a command to run it where `apart` took a process."""
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--"]


def is_apart(pid: int) -> bool:
    """Whether a process has arrived there."""
    ours, its = (Path(f"/proc/{who}/ns/mnt").readlink() for who in ("self", pid))
    return ours != its


def entering(pid: int) -> list[str]:
    """Return the words that precede a command to run it inside."""
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--pid", "--wd=."]


def check() -> None:
    """Raise NotPermitted unless namespaces can be made."""
    if os.geteuid():
        raise NotPermitted(
            "a cluster with a node needs root: sudo make cluster-up, or make cluster-up TIER=1"
        )
    done = subprocess.run(isolated(["true"]), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermitted(f"this machine allows no namespaces: {done.stderr.strip()}")


def arrange() -> None:
    """Arrange the mounts, from inside: a /run of its own with the cluster's folder in it."""
    folder = os.open(os.environ[FOLDER], os.O_PATH | os.O_DIRECTORY)
    do("mount", "-t", "tmpfs", "-o", "mode=755", "flambeau", "/run")
    INSIDE.mkdir()
    # By descriptor: the new /run may hide the folder's own path.
    do("mount", "--bind", f"/proc/self/fd/{folder}", str(INSIDE), keep=(folder,))
    os.close(folder)
    for path in OVERLAID:
        do(*_overlay(path, INSIDE))
    for number, (name, value) in enumerate(TUNABLES.items()):
        real, false = Path("/proc/sys", name), INSIDE / f"tunable-{number}"
        if real.exists():
            false.write_text(f"{value}\n")
            do("mount", "--bind", str(false), str(real))


def arrange_apart(enter: Sequence[str], folder: Path) -> None:
    """Arrange the mounts of who is apart: instead of the first node's overlays its own.

    Args:
        enter: the words that precede a command there.
        folder: where what is written goes.
    """
    for path in OVERLAID:
        do(*enter, "umount", str(path))  # not one above the other: overlays stack two high at most
        do(*enter, *_overlay(path, folder))


def _overlay(path: Path, folder: Path) -> list[str]:
    upper, work = (folder / "over" / path.name / part for part in ("upper", "work"))
    upper.mkdir(parents=True)
    work.mkdir()
    layers = f"lowerdir={path},upperdir={upper},workdir={work}"
    return ["mount", "-t", "overlay", "-o", layers, "flambeau", str(path)]


def do(*argv: str, keep: tuple[int, ...] = ()) -> None:
    """Run a command; raise ClusterFault with its own words."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=keep)
    if done.returncode:
        raise ClusterFault(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
