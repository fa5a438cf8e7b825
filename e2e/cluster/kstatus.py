"""What Flux and others compute of an object's status, by the very library that they use."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault
from e2e.cluster.go_build import GoModule
from e2e.cluster.progress import Say, on_stderr

MODULE = GoModule(
    sources=Path(__file__).parent / "kstatus",
    what="kstatus",
    minutes="1 to 2",
    go="1.26",
    packages=".",
    version="sigs.k8s.io/cli-utils",
)


@dataclass(frozen=True, slots=True)
class Computed:
    """A status: `Current`, `InProgress`, `Failed`, …, and why."""

    status: str
    message: str


def kstatus(say: Say) -> Path:
    """Return the program; build it where it is missing."""
    return MODULE.built({}, say) / "kstatus"


def computed(cluster: Cluster, namespace: str) -> dict[str, Computed]:
    """Return what kstatus makes of each ModelDeployment of a namespace, by name."""
    argv = [kstatus(on_stderr), f"-kubeconfig={cluster.kubeconfig}", f"-namespace={namespace}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ClusterFault(done.stderr.strip())
    return {name: Computed(**told) for name, told in json.loads(done.stdout).items()}
