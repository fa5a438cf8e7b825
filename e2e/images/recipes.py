"""What is built, and out of what: when nothing of that changed, nothing is built."""

import fnmatch
import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
# What every image takes beside the folder of its own; .dockerignore lets just that through.
COMMON = (
    "LICENSE",
    "NOTICE",
    "pyproject.toml",
    "uv.lock",
    "operator/pyproject.toml",
    "runtime/pyproject.toml",
    ".dockerignore",
)
LEFT_OUT = ("__pycache__", "*.egg-info", "build", "dist", "Dockerfile")


@dataclass(frozen=True, slots=True)
class Base:
    """A root file system out of Debian's packages, where no registry has one.

    Args:
        packages: what it has beside a minimal Debian.
        suite: the release of Debian.
        excluded: paths that the packages bring and nobody needs.
    """

    packages: tuple[str, ...] = ("python3", "python3-venv", "ca-certificates")
    suite: str = "trixie"
    excluded: tuple[str, ...] = (
        "/usr/share/doc/*",
        "/usr/share/locale/*",
        "/usr/share/man/*",
    )
    kept: tuple[str, ...] = ("/usr/share/doc/*/copyright",)

    @property
    def name(self) -> str:
        """The name that goes with its content."""
        return f"localhost/flambeau-base:{self.suite}-{_digest(asdict(self))}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image of ours.

    Args:
        name: what pods call it.
        folder: where its Dockerfile and its sources lie.
        base: what it stands on, where no registry has anything.
        torch: whether torch is in it.
    """

    name: str
    folder: str
    base: Base = Base()
    torch: bool = False

    @property
    def dockerfile(self) -> Path:
        """The file that users build it from too."""
        return CHECKOUT / self.folder / "Dockerfile"

    @property
    def short(self) -> str:
        """The name for files and for people, as in flambeau-runtime-dev-torch."""
        return self.name.rpartition("/")[2].replace(":", "-")

    def digest(self, arguments: dict[str, str]) -> str:
        """Return what changes when anything that goes into the image does.

        Args:
            arguments: of the build.
        """
        digest = hashlib.sha256(json.dumps([self.name, arguments], sort_keys=True).encode())
        for source in self._sources():
            digest.update(f"\0{source.relative_to(CHECKOUT)}\0".encode() + source.read_bytes())
        return digest.hexdigest()[:12]

    def _sources(self) -> Iterator[Path]:
        yield from (CHECKOUT / name for name in COMMON)
        yield self.dockerfile
        folder = CHECKOUT / self.folder
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not any(map(_left_out, path.relative_to(folder).parts)):
                yield path


@dataclass(frozen=True, slots=True)
class Theirs:
    """An image that somebody builds on one of ours.

    Args:
        name: what pods call it.
        context: the folder with its Dockerfile and what goes into it.
    """

    name: str
    context: Path


# Debian's torch is for CPUs and a fifth of what PyPI's unpacks to; its tests are a tenth of it.
WITH_TORCH = Base(
    packages=(*Base().packages, "python3-torch"),
    excluded=(
        *Base().excluded,
        "/usr/lib/libtorch-test/*",
        "/usr/lib/python3/dist-packages/torch/bin/test_*",
        "/usr/lib/python3/dist-packages/torch/test/*",
    ),
)
OPERATOR = Recipe("localhost/flambeau-operator:dev", "operator")
RUNTIME = Recipe("localhost/flambeau-runtime:dev", "runtime")
RUNTIME_TORCH = Recipe("localhost/flambeau-runtime:dev-torch", "runtime", WITH_TORCH, torch=True)
RECIPES = (OPERATOR, RUNTIME, RUNTIME_TORCH)


def _left_out(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in LEFT_OUT)


def version() -> str:
    """Return the version of the checkout."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
