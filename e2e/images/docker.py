"""Where docker works: the images as everybody builds them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.progress import Say
from e2e.images import network, recipes, steps
from e2e.images.recipes import CHECKOUT, Recipe

# PyTorch's own index has builds for CPUs; that of PyPI brings CUDA, twenty times as big.
TORCH_INDEX = "FLAMBEAU_TORCH_INDEX"
FOR_CPUS = "https://download.pytorch.org/whl/cpu"


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
        index = os.environ.get(TORCH_INDEX, FOR_CPUS)
        torch = {"TORCH": "pip", "TORCH_INDEX": index} if recipe.torch else {}
        return {"VERSION": recipes.version(), **torch}

    def build(self, recipe: Recipe, archive: Path, work: Path) -> None:
        """Build an image and write its archive.

        Args:
            recipe: the image.
            archive: the file to write.
            work: an empty folder, removed afterwards.
        """
        arguments = [
            f"--build-arg={name}={value}" for name, value in self.arguments(recipe).items()
        ]
        build = ["docker", "build", f"--file={recipe.dockerfile}", f"--tag={recipe.name}"]
        log = work / "step.log"
        steps.run(
            f"building {recipe.name}",
            [*build, *network.words(), *arguments, str(CHECKOUT)],
            log,
            self.say,
            {**network.environment(), "DOCKER_BUILDKIT": "1"},
        )
        save = ["docker", "save", f"--output={archive}", recipe.name]
        steps.run(f"writing the archive of {recipe.name}", save, log, self.say)
