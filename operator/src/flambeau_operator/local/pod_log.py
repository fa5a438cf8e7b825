"""What the processes of a pod have printed: one file, kept short, its end shown when one dies."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

LONGEST_LOG_BYTES: Final = 16 << 20


def trim_log(path: Path) -> None:
    """Begin a log anew when it is long, keeping one predecessor; its writers append, and stay."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > LONGEST_LOG_BYTES:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)


def log_tail(path: Path, size: int = 2048) -> str:
    """Return the last lines of a log, at most so many bytes."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            start = max(file.tell() - size, 0)
            file.seek(start)
            tail = file.read(size)
    except OSError:
        return ""
    if start:
        tail = tail[tail.find(b"\n") + 1 :]
    return tail.decode(errors="replace").rstrip()
