"""An archive on its way: the bytes so far, and what they are the beginning of."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flambeau_runtime.errors import SourceNotFound, SourceUnavailable

OnBytes = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all if known)."""

LARGEST = 512 * 1024**3
"""No archive is longer: what sends more will never end."""
SPARE = 16 * 1024**2
"""Left free on the disk by a download whose length is known beforehand."""


@dataclass(slots=True)
class Partial:
    """What is kept beside `target` until it is whole."""

    shown: str  # the source, without credentials
    target: Path
    on_bytes: OnBytes
    have: int = 0
    total: int | None = None

    @property
    def path(self) -> Path:
        """Return where the bytes are kept until all have come."""
        return self.target.with_name(f"{self.target.name}.partial")

    @property
    def notes(self) -> Path:
        """Return where the validator of those bytes is kept."""
        return self.target.with_name(f"{self.target.name}.partial.json")

    def size(self) -> int:
        """Return how many bytes have come so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str | None:
        """Return what tells which content the bytes so far are of, if anything does."""
        try:
            notes: dict[str, Any] = json.loads(self.notes.read_text())
        except (OSError, ValueError):
            return None
        return notes.get("validator") if notes.get("url") == self.shown else None

    def forget(self) -> None:
        """Let the next attempt start anew: nobody knows what the bytes so far are of."""
        self.notes.unlink(missing_ok=True)

    @contextmanager
    def open(
        self, validator: str | None, total: int | None, start: int
    ) -> Iterator[Callable[[bytes], None]]:
        """Write down what comes from `start` on: 0 throws away what is there.

        Raises:
            SourceNotFound: it is larger than an archive may be.
            SourceUnavailable: fewer bytes came than were said, or the disk has no room for them.
        """
        self.have, self.total = start, total
        self._check_room()
        self.notes.write_text(json.dumps({"url": self.shown, "validator": validator}))
        with self.path.open("ab" if start else "wb") as file:
            with suppress(OSError):  # a volume without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

            def write(chunk: bytes) -> None:
                try:
                    file.write(chunk)
                except OSError as error:
                    raise self._no_room(error) from error
                self.have += len(chunk)
                self._check_size(self.have)
                self.on_bytes(self.have, self.total)

            yield write

    def finish(self) -> None:
        """Give the whole archive its name."""
        self.path.replace(self.target)
        self.notes.unlink(missing_ok=True)

    def _check_room(self) -> None:
        if self.total is None:
            return
        self._check_size(self.total)
        free = shutil.disk_usage(self.path.parent).free
        if self.total - self.have + SPARE > free:
            raise NoRoom(
                f"Failed to download archive from: {self.shown}: it has {self.total} bytes, and "
                f"{free} are free where it would be kept; make room, or name another --cache"
            )

    def _check_size(self, size: int) -> None:
        if size > LARGEST:
            raise SourceNotFound(
                f"Failed to download archive from: {self.shown}: it is larger than {LARGEST} "
                "bytes, the most an archive may have"
            )

    def _no_room(self, error: OSError) -> Exception:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return error
        # What lies there now could keep every other archive out.
        self.path.unlink(missing_ok=True)
        return NoRoom(
            f"Failed to download archive from: {self.shown}: {error.strerror}; make room, or name "
            "another --cache"
        )


def inherit(target: Path, before: Path, *, same_machine: bool) -> None:
    """Go on with what another process has begun to bring.

    Args:
        target: what shall be brought now.
        before: what the other was bringing. It may only have slept, and go on writing: then its
            bytes are copied, and it writes to a file without a name.
        same_machine: whether this machine would know.
    """
    new, old = Partial("", target, _tell_nobody), Partial("", before, _tell_nobody)
    if not (old.path.exists() and old.notes.exists()):
        old.notes.unlink(missing_ok=True)
        old.path.unlink(missing_ok=True)
        return
    if same_machine and not _is_written(old.path):
        old.path.replace(new.path)
    else:
        shutil.copyfile(old.path, new.path)
        old.path.unlink(missing_ok=True)
    # Last: bytes that have no notes are of nobody knows what, and never used.
    old.notes.replace(new.notes)


def _is_written(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _tell_nobody(_have: int, _total: int | None) -> None:
    """Nobody waits for these bytes."""


class NoRoom(SourceUnavailable):
    """The disk is too small, now."""
