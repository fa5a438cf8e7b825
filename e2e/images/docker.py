"""Where docker works: the images as everybody builds them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.progress import Say
from e2e.images import network, recipes, steps
from e2e.images.recipes import CHECKOUT, Recipe, Theirs

# PyTorch's own index has builds for CPUs; PyPI's bring CUDA, twenty times as big.
TORCH_INDEX = "FLAMBEAU_TORCH_INDEX"


def works() -> bool:
    """Whether docker's engine answers."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


@dataclass(frozen=True, slots=True)
class Docker:
    """Builds with docker's engine, which keeps the layers."""

    say: Say

    def check(self) -> None:
        """It was asked before it was chosen."""

    def arguments(self, recipe: Recipe) -> Mapping[str, str]:
        """Return the arguments of the build."""
        torch = {"TORCH": "pip"} if recipe.torch else {}
        if recipe.torch and (index := os.environ.get(TORCH_INDEX)):
            torch["TORCH_INDEX"] = index
        return {"VERSION": recipes.version(), **torch}

    def build(self, recipe: Recipe, archive: Path, work: Path) -> None:
        """Build an image and write its archive.

        Args:
            recipe: the image.
            archive: the file to write.
            work: an empty folder, removed afterwards.
        """
        self._make(recipe, work)
        self._save(recipe.name, archive, work)

    def build_upon(self, recipe: Recipe, theirs: Theirs, archive: Path, work: Path) -> None:
        """Build somebody's image on one of ours, as it is now, and write its archive."""
        self._make(recipe, work)
        build = ["docker", "build", f"--tag={theirs.name}", str(theirs.context)]
        steps.run(f"building {theirs.name}", build, work / "step.log", self.say)
        self._save(theirs.name, archive, work)

    def _make(self, recipe: Recipe, work: Path) -> None:
        arguments = [
            f"--build-arg={name}={value}" for name, value in self.arguments(recipe).items()
        ]
        build = ["docker", "build", f"--file={recipe.dockerfile}", f"--tag={recipe.name}"]
        steps.run(
            f"building {recipe.name}",
            [*build, *network.words(), *arguments, str(CHECKOUT)],
            work / "step.log",
            self.say,
            {**network.environment(), "DOCKER_BUILDKIT": "1"},
        )

    def _save(self, name: str, archive: Path, work: Path) -> None:
        save = ["docker", "save", f"--output={archive}", name]
        steps.run(f"writing the archive of {name}", save, work / "step.log", self.say)
