"""The images' archives: built once for each state of what goes into them, and kept."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from e2e.cluster.faults import ClusterFault
from e2e.cluster.place import cache
from e2e.cluster.progress import Say
from e2e.images import docker
from e2e.images.buildah import Buildah
from e2e.images.docker import Docker
from e2e.images.recipes import RECIPES, Recipe, Theirs

VARIABLE = "FLAMBEAU_BUILDER"
KEPT = 4  # of each image; several checkouts may share the cache
IN_USE_S = 900  # somebody may be about to load an archive that was asked for so lately


def built(say: Say, wanted: Sequence[Recipe] = RECIPES) -> Mapping[str, Path]:
    """Return the archive of each image, by the image's name; build what is missing.

    Args:
        say: told how far it is; silent when there is nothing to do.
        wanted: the images.

    Raises:
        ClusterFault: it cannot be built here, or the build said no.
    """
    root = cache() / "images"
    builder = _builder(root, say)
    archives = {one.name: _archive(root, one, builder) for one in wanted}
    if not all(archive.exists() for archive in archives.values()):
        builder.check()
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root / "lock", say):
            for recipe in wanted:
                if not archives[recipe.name].exists():  # nobody built it while we waited
                    _build(recipe, archives[recipe.name], builder)
    for archive in archives.values():
        os.utime(archive)
    return archives


def build_upon(say: Say, recipe: Recipe, theirs: Theirs, archive: Path) -> None:
    """Build an image of somebody's on one of ours, and write its archive; nothing is kept.

    Raises:
        ClusterFault: it cannot be built here, or the build said no.
    """
    root = cache() / "images"
    builder = _builder(root, say)
    builder.check()
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root / "lock", say), _workplace(root) as work:
        builder.build_upon(recipe, theirs, archive, work)


def _builder(root: Path, say: Say) -> Buildah | Docker:
    wish = os.environ.get(VARIABLE) or ("docker" if docker.works() else "buildah")
    if wish == "docker":
        return Docker(say)
    if wish == "buildah":
        return Buildah(root, say)
    raise ClusterFault(f"{VARIABLE}={wish}: docker or buildah")


def _archive(root: Path, recipe: Recipe, builder: Buildah | Docker) -> Path:
    digest = recipe.digest(builder.arguments(recipe))
    return root / recipe.short / f"{digest}.tar"


@contextlib.contextmanager
def _alone(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds images: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, archive: Path, builder: Buildah | Docker) -> None:
    with _workplace(archive.parents[1]) as work:
        builder.build(recipe, work / archive.name, work)
        archive.parent.mkdir(exist_ok=True)
        (work / archive.name).rename(archive)
    _forget_old(archive.parent)


@contextlib.contextmanager
def _workplace(root: Path) -> Iterator[Path]:
    work = root / "building"
    shutil.rmtree(work, ignore_errors=True)  # of a build that was cut off
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _forget_old(folder: Path) -> None:
    by_use = sorted(folder.glob("*.tar"), key=lambda one: one.stat().st_mtime, reverse=True)
    for archive in by_use[KEPT:]:
        # Files carry the wall clock.
        if archive.stat().st_mtime < time.time() - IN_USE_S:  # noqa: TID251  see above
            archive.unlink()
