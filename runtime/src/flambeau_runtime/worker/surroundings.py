"""What a worker process sets right about itself before it loads anything, however it was born."""

from __future__ import annotations

import ctypes
import importlib
import os
import random
import sys
from contextlib import suppress
from pathlib import Path

OWN_PACKAGES = "FLAMBEAU_PACKAGES"
"""Where a model has packages of its own; `serving/worker_environment.py` sets it."""

_OPENBLAS_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def settle() -> None:
    """Make prints leave line by line, and the model's files importable for its subprocesses."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a handler's own stream, or none
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    own = os.environ.pop(OWN_PACKAGES, None)
    if own is not None:
        _put_first(own)
    # Not before: a model with a file called `types.py` must not keep Python from starting.
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [inherited, str(Path.cwd()), own]))


def _put_first(packages: str) -> None:
    """Have a model's own packages found before the runtime's, but not before Python's."""
    folders = {"site-packages", "dist-packages"}
    first = (at for at, entry in enumerate(sys.path) if Path(entry).name in folders)
    sys.path.insert(next(first, len(sys.path)), packages)
    importlib.invalidate_caches()


def use_threads(count: int) -> None:
    """Give libraries that read their variables when they were imported this many threads."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    for library in _loaded_openblas():
        for name in _OPENBLAS_SETTERS:
            setter = getattr(library, name, None)
            if setter is not None:
                setter(ctypes.c_int(count))
                break


def reseed() -> None:
    """Draw new random seeds: siblings forked from one process would all draw the same numbers."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


def _loaded_openblas() -> list[ctypes.CDLL]:
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "openblas" in line}
    libraries = []
    for path in sorted(paths):
        with suppress(OSError):
            libraries.append(ctypes.CDLL(path))
    return libraries
