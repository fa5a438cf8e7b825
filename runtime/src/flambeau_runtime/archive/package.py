"""What an opened archive is to the rest of the runtime: one immutable record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Environment:
    """Installed packages of a model's own, which go before those of the runtime.

    A directory to be put on the import path, or the interpreter of a virtual environment.
    """

    home: Path  # the whole of it
    packages: Path | None
    python: Path | None
    adds_only: bool  # nothing in it is in the runtime in another version

    @property
    def suits_a_fork(self) -> bool:
        """Whether a process that has imported the runtime's packages can use it."""
        return self.python is None and self.adds_only


@dataclass(frozen=True, slots=True)
class Package:
    """A verified and extracted archive, ready to be loaded by a worker."""

    model: str
    version: str
    directory: Path  # model_dir: the worker's working directory and first on its import path
    manifest: Mapping[str, Any]  # MAR-INF/MANIFEST.json as the handler sees it
    digest: str | None  # "sha256:<64 hex>" of the archive; None for a bare directory
    size_bytes: int  # of the archive; of all files for a bare directory
    handler: str  # "file.py", "file:function" or a default handler's name
    config: Mapping[str, Any]  # model-config.yaml in JSON's types; empty without one
    environment: Environment | None = None  # None: the runtime's own
