"""A registry of OCI artifacts: the one that most others are made of."""

from pathlib import Path

from e2e.cluster.go_build import GoModule
from e2e.cluster.progress import Say

MODULE = GoModule(
    sources=Path(__file__).parent / "registry",
    what="a registry",
    minutes="2 to 5",
    go="1.26",
    packages="tool",
    version="github.com/distribution/distribution/v3",
)


def registry(say: Say) -> Path:
    """Return the program; build it where it is missing."""
    return MODULE.built({}, say) / "registry"
