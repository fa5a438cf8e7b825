"""Whether a worker will import torch: a guess that decides what it is worth to wait for."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

MOST_FILES = 100
MOST_BYTES = 256 << 10  # of one file


def wants_torch(directory: Path, handler: str) -> bool:
    """Return whether a model's own code speaks of torch, or its handler is one of ours.

    The answer is only about time: a model of another library need not wait for the template's
    import of torch, but is executed at once; where the guess is wrong, its worker imports torch.
    """
    file = handler.partition(":")[0]
    if not ((directory / file).is_file() or (directory / f"{file}.py").is_file()):
        return True  # a default handler's name
    return any(map(_mentions_torch, islice(directory.rglob("*.py"), MOST_FILES)))


def _mentions_torch(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES)
    except OSError:
        return False
    return b"torch" in text or b"ts." in text
