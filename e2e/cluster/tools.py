"""What clusters are used with: helm, and kwok for pods that only pretend to run."""

import shutil
from pathlib import Path

from e2e.cluster.go_build import GoModule
from e2e.cluster.progress import Say

MODULE = GoModule(
    sources=Path(__file__).parent / "tools",
    what="helm and kwok",
    minutes="3 to 6",
    go="1.26",
    packages="tool",
    version="helm.sh/helm/v4",
)
# Else helm calls itself v4.3, whichever of them it is.
HELM_VERSION = "helm.sh/helm/v4/internal/version.version"


def helm(say: Say) -> Path:
    """Return the helm that is on the PATH, else our own."""
    found = shutil.which("helm")
    return Path(found) if found else built(say) / "helm"


def kwok(say: Say) -> Path:
    """Return kwok: our own, since its stages go by its version."""
    return built(say) / "kwok"


def built(say: Say) -> Path:
    """Return the folder with the programs; build what is missing."""
    return MODULE.built({HELM_VERSION: MODULE.wanted}, say)
