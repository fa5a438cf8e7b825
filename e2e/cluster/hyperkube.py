"""What a cluster is made of: Kubernetes, etcd, CoreDNS and metrics-server.

All of them are Go modules: no registry and no release is needed.
"""

from pathlib import Path

from e2e.cluster.go_build import GoModule
from e2e.cluster.progress import Say

STAMP = "k8s.io/component-base/version"
MODULE = GoModule(
    sources=Path(__file__).parent / "hyperkube",
    what="Kubernetes",
    minutes="5 to 10",
    go="1.24",
    packages="./...",
    version="k8s.io/kubernetes",
)


def version() -> str:
    """Return the version of Kubernetes that go.mod names, as in v1.34.4."""
    return MODULE.wanted


def built(say: Say) -> Path:
    """Return the folder with the binaries; build what is missing."""
    major, minor = version().lstrip("v").split(".")[:2]
    # Clients parse these; without them the version is "v0.0.0-master+$Format:%H$".
    names = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    return MODULE.built({f"{STAMP}.{name}": value for name, value in names.items()}, say)
