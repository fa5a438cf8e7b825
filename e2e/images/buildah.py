"""Without docker and without a registry: mmdebstrap makes the bases, buildah the images."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.faults import MissingPrograms, NotPermitted
from e2e.cluster.progress import Say
from e2e.images import network, oci, recipes, steps
from e2e.images.recipes import CHECKOUT, Base, Recipe, Theirs

NEEDED = ("buildah", "mmdebstrap", "unshare")
MIRROR = "FLAMBEAU_DEBIAN_MIRROR"
# Mounts and processes of a step are gone with its first process, however that ends.
APART = (
    *("unshare", "--mount", "--propagation=private"),
    *("--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)


@dataclass(frozen=True, slots=True)
class Buildah:
    """Builds with a storage of its own, beside the archives.

    Args:
        root: the folder for what is worth keeping: bases and layers.
        say: told how far it is.
    """

    root: Path
    say: Say

    def check(self) -> None:
        """Raise a fault unless this machine can build."""
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing:
            remedy = "on Debian and its kin run, as root: e2e/images/packages.sh; or start docker"
            raise MissingPrograms(missing, remedy)
        if os.geteuid():
            raise NotPermitted(
                "without docker, images are built as root: run it with sudo, or start docker"
            )

    def arguments(self, recipe: Recipe) -> Mapping[str, str]:
        """Return the arguments of the build."""
        torch = {"TORCH": "base"} if recipe.torch else {}
        return {"BASE": recipe.base.name, "VERSION": recipes.version(), **torch}

    def build(self, recipe: Recipe, archive: Path, work: Path) -> None:
        """Build an image and write its archive.

        Args:
            recipe: the image.
            archive: the file to write.
            work: an empty folder, removed afterwards.
        """
        store = self._with_image(recipe, work)
        _write_archive(store, recipe.name, archive)

    def build_upon(self, recipe: Recipe, theirs: Theirs, archive: Path, work: Path) -> None:
        """Build somebody's image on one of ours, as it is now, and write its archive."""
        store = self._with_image(recipe, work)
        store.build(theirs.name, [str(theirs.context)])
        _write_archive(store, theirs.name, archive)

    def _with_image(self, recipe: Recipe, work: Path) -> "_Store":
        store = _Store(self.root, work, self.say)
        store.forget_unfinished()
        if not store.has(recipe.base.name):
            self._build_base(recipe.base, store, work / "base")
        arguments = [
            f"--build-arg={name}={value}" for name, value in self.arguments(recipe).items()
        ]
        store.build(
            recipe.name,
            [f"--file={recipe.dockerfile}", *network.words(), *arguments, str(CHECKOUT)],
        )
        return store

    def _build_base(self, base: Base, store: "_Store", context: Path) -> None:
        context.mkdir()
        packages = ", ".join(base.packages)
        steps.run(
            f"making {base.name} out of Debian's {packages}: once, some minutes",
            [*APART, *_mmdebstrap(base, context / "base.tar")],
            context.with_name("base.log"),
            self.say,
            {"TMPDIR": str(store.temporary)},
        )
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        store.build(base.name, [str(context)])


def _write_archive(store: "_Store", name: str, archive: Path) -> None:
    unpacked = store.work / "unpacked"
    store.export(name, unpacked)
    oci.pack(unpacked, name, archive)


def _mmdebstrap(base: Base, tar: Path) -> list[str]:
    paths = [f"--dpkgopt=path-exclude={path}" for path in base.excluded]
    paths += [f"--dpkgopt=path-include={path}" for path in base.kept]
    mirror = [os.environ[MIRROR]] if os.environ.get(MIRROR) else []
    included = f"--include={','.join(base.packages)}"
    minimal = ["mmdebstrap", "--mode=root", "--variant=minbase"]
    return [*minimal, included, *paths, base.suite, str(tar), *mirror]


@dataclass(frozen=True, slots=True)
class _Store:
    """buildah with images, layers and temporary files in our cache only."""

    root: Path
    work: Path
    say: Say

    @property
    def temporary(self) -> Path:
        """Where buildah keeps what Dockerfiles call caches, and makes its temporary folders."""
        folder = self.root / "temporary"
        folder.mkdir(exist_ok=True)
        return folder

    def has(self, image: str) -> bool:
        """Whether an image is here."""
        return self._ask("inspect", "--type=image", image)

    def forget_unfinished(self) -> None:
        """Remove the containers of builds that failed or were cut off."""
        self._ask("rm", "--all")

    def build(self, image: str, words: list[str]) -> None:
        """Build an image; layers whose making did not change are taken as they are."""
        build = ["--layers", "--isolation=chroot", "--pull-never", "--format=oci", f"--tag={image}"]
        self._run(f"building {image}", [*self._buildah("build"), *build, *words])

    def export(self, image: str, folder: Path) -> None:
        """Write an image, uncompressed, into a folder."""
        push = ["--disable-compression", "--format=oci", image, f"dir:{folder}"]
        self._run(f"writing the archive of {image}", [*self._buildah("push"), *push])

    def _buildah(self, command: str) -> list[str]:
        # What it notes of mounts must not outlive them.
        places = [f"--root={self.root / 'storage'}", f"--runroot={self.work / 'run'}"]
        return [*APART, "buildah", *places, "--storage-driver=overlay", command]

    def _ask(self, command: str, *words: str) -> bool:
        argv = [*self._buildah(command), *words]
        environment = os.environ | self._environment()
        asked = subprocess.run(argv, env=environment, capture_output=True, check=False)
        return asked.returncode == 0

    def _environment(self) -> dict[str, str]:
        return {**network.environment(), "TMPDIR": str(self.temporary)}

    def _run(self, what: str, argv: list[str]) -> None:
        steps.run(what, argv, self.work / "step.log", self.say, self._environment())
