"""Log files as TorchServe rolls them: a new one every day, and when one has grown too long.

What is rolled away is called `ts_log.25-Nov.log.gz`, the next one of the same day
`ts_log.25-Nov.2.log.gz`.
"""

from __future__ import annotations

import gzip
import logging
import shutil
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

FILE_BYTES = 100 * 1024 * 1024
FILES_KEPT = 5


class RollingFile(logging.FileHandler):
    """Writes one file; keeps the last `FILES_KEPT` that were rolled away, compressed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self._path = path
        self._size = -1  # of the file, once it is looked at
        self._day = ""  # of its lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, into a new file when its time has come."""
        day = _day(record.created)
        if self._size < 0:
            self._look(day)
        if day != self._day or self._size > FILE_BYTES:
            self._roll()
            self._day, self._size = day, 0
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, and count what it adds to the file."""
        text = super().format(record)
        self._size += len(text) + 1
        return text

    def _look(self, today: str) -> None:
        """Go on with the file of an earlier start, which may be of another day."""
        self._day, self._size = today, 0
        with suppress(FileNotFoundError):
            status = self._path.stat()
            self._size = status.st_size
            if self._size:
                self._day = _day(status.st_mtime)

    def _roll(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None  # opened again by the next record
        away = self._free_name()
        try:
            self._path.rename(away)
        except FileNotFoundError:
            return
        # Compressing takes seconds, in which lines would wait for this handler.
        threading.Thread(target=_compress, args=(away, self._path), daemon=True).start()

    def _free_name(self) -> Path:
        number = 1
        while True:
            suffix = "" if number == 1 else f".{number}"
            away = self._path.with_name(f"{self._path.stem}.{self._day}{suffix}.log")
            if not away.exists() and not _packed(away).exists():
                return away
            number += 1


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment).astimezone():%d-%b}"


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _compress(path: Path, live: Path) -> None:
    partial = path.with_name(f"{path.name}.gz.partial")
    try:
        with path.open("rb") as plain, gzip.open(partial, "wb") as packed:
            shutil.copyfileobj(plain, packed)
        partial.rename(_packed(path))
        path.unlink()
    except OSError:
        partial.unlink(missing_ok=True)
    _forget_old(live)


def _forget_old(live: Path) -> None:
    rolled = [*live.parent.glob(f"{live.stem}.*.log.gz"), *live.parent.glob(f"{live.stem}.*.log")]
    for path in sorted(rolled, key=_changed_at, reverse=True)[FILES_KEPT:]:
        path.unlink(missing_ok=True)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another one has just been compressed
        return 0.0
