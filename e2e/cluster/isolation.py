"""Namespaces of its own for a cluster with a node: network, mounts, processes.

What is done to interfaces, packet filters, sysctls and mounts in there is gone with the last of its
processes; nothing of it reaches the machine.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.faults import NotPermitted

# The cluster's folder inside: the same short path for every cluster, so that sockets fit into
# their 108 bytes.
INSIDE = Path("/run/flambeau")
FOLDER = "FLAMBEAU_CLUSTER_FOLDER"  # the folder's path outside, for who arranges the mounts


def isolated(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` as the first process of new namespaces."""
    return [
        "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "--propagation", "private", "--", *argv,
    ]  # fmt: skip


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
