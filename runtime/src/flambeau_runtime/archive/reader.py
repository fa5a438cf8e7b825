"""Opening archives that may be broken or hostile: zip and gzipped tar, nothing leaves the target.

Every refusal names the entry and what to do about it. Nothing is trusted: not names, not kinds, not
declared sizes.
"""

from __future__ import annotations

import errno
import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from flambeau_runtime.errors import ArchiveInvalid

CHUNK = 1024 * 1024
AGAIN = "make the archive again with torch-model-archiver"
DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """How much an archive may become on disk."""

    entries: int = 100_000
    total_bytes: int = 512 * 1024**3
    ratio: int = 200  # extracted to packed, once more than `free_bytes` come out
    free_bytes: int = 256 * 1024**2


def never() -> bool:
    """Never stop."""
    return False


@dataclass(slots=True)
class Extraction:
    """One archive on its way into one directory; keeps count of what came out."""

    name: str  # of the archive, for messages
    packed_bytes: int
    target: Path
    limits: ExtractionLimits
    stop: Callable[[], bool] = never
    entries: int = 0
    written: int = 0
    seen: set[str] = field(default_factory=set)

    def check_entry(self, entry: str, size: int) -> Path:
        """Return where an entry belongs.

        Raises:
            ArchiveInvalid: it would leave the target, comes twice, or is one too many.
        """
        self.entries += 1
        if self.entries > self.limits.entries:
            self.refuse(entry, f"is one of more than {self.limits.entries} entries")
        parts = self._parts(entry)
        path = "/".join(parts)
        if path in self.seen:
            self.refuse(entry, "is there twice")
        self.seen.add(path)
        self._check_size(entry, self.written + size)
        return self.target.joinpath(*parts)

    def copy(self, entry: str, source: IO[bytes], path: Path) -> None:
        """Write one file, never more than the limits allow, whatever its header says."""
        with self._finding_a_place(entry):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                while chunk := source.read(CHUNK):
                    if self.stop():
                        raise ExtractionStopped
                    self.written += len(chunk)
                    self._check_size(entry, self.written)
                    file.write(chunk)

    def make_directory(self, entry: str, path: Path) -> None:
        """Make one directory, and those above it."""
        with self._finding_a_place(entry):
            path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _finding_a_place(self, entry: str) -> Iterator[None]:
        """Refuse an entry whose name no file can have beside those that are there."""
        try:
            yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self.refuse(entry, "is a file and a directory at once")
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self.refuse(f"{entry[:100]}…", "has a longer name than a file can have")

    def drain(self, source: IO[bytes] | gzip.GzipFile) -> None:
        """Read what follows the last entry, and with it the checksum."""
        while chunk := source.read(CHUNK):
            self.written += len(chunk)
            self._check_size("(padding)", self.written)

    def refuse(self, entry: str, why: str, fix: str = AGAIN) -> None:
        """Raise ArchiveInvalid about one entry."""
        raise ArchiveInvalid(f"{self.name}: entry {entry!r} {why}; {fix}")

    def _parts(self, entry: str) -> list[str]:
        if "\0" in entry or "\\" in entry:
            self.refuse(entry, "has a name with a backslash or a NUL in it")
        if entry.startswith("/") or DRIVE.match(entry):
            self.refuse(entry, "has an absolute path")
        parts = [part for part in entry.split("/") if part not in {"", "."}]
        if ".." in parts:
            self.refuse(entry, "points outside the archive")
        if not parts:
            self.refuse(entry, "has no name")
        return parts

    def _check_size(self, entry: str, size: int) -> None:
        limits = self.limits
        allowed = min(limits.total_bytes, max(limits.free_bytes, limits.ratio * self.packed_bytes))
        if size > allowed:
            self.refuse(
                entry,
                f"would make the archive's {self.packed_bytes} bytes grow to more than {allowed}",
                "if that is meant, pack it uncompressed (--archive-format zip-store)",
            )


class ExtractionStopped(Exception):
    """Nobody waits for this extraction any more."""


def extract(
    file: BinaryIO,
    name: str,
    target: Path,
    limits: ExtractionLimits | None = None,
    stop: Callable[[], bool] = never,
) -> None:
    """Extract the archive in `file` into the directory `target`, which must not exist.

    A gzipped tar loses its one top directory, as TorchServe's archiver puts one there.

    Raises:
        ArchiveInvalid: broken, cut short, dangerous, or no archive at all.
        ExtractionStopped: `stop` said so.
    """
    packed = file.seek(0, 2)
    file.seek(0)
    magic = file.read(2)
    file.seek(0)
    extraction = Extraction(name, packed, target, limits or ExtractionLimits(), stop)
    target.mkdir(parents=True)
    if magic == b"\x1f\x8b":
        _extract_tgz(file, extraction)
    else:
        _extract_zip(file, extraction)


_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    OverflowError,
)


@contextmanager
def _broken(name: str, kind: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise ArchiveInvalid(
            f"{name}: not a complete {kind} archive ({str(error) or type(error).__name__}): it was "
            f"cut short or is something else; fetch it again, or {AGAIN}"
        ) from error
    except (NotImplementedError, RuntimeError, UnicodeDecodeError, ValueError) as error:
        # zipfile's words for encryption, unknown compression and impossible headers
        raise ArchiveInvalid(f"{name}: cannot be read ({error}); {AGAIN}") from error


def _extract_zip(file: BinaryIO, extraction: Extraction) -> None:
    with _broken(extraction.name, "zip"), zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            path = extraction.check_entry(info.filename, info.file_size)
            if info.is_dir():
                extraction.make_directory(info.filename, path)
                continue
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                extraction.refuse(info.filename, "is neither a file nor a directory")
            with archive.open(info) as source:
                extraction.copy(info.filename, source, path)


def _extract_tgz(file: BinaryIO, extraction: Extraction) -> None:
    with (
        _broken(extraction.name, "gzipped tar"),
        gzip.GzipFile(fileobj=file) as unpacked,
        tarfile.open(fileobj=unpacked, mode="r|") as archive,
    ):
        for member in archive:
            if member.name in {".", "./"} and member.isdir():
                continue
            path = extraction.check_entry(member.name, member.size)
            if member.isdir():
                extraction.make_directory(member.name, path)
                continue
            if not member.isreg():
                extraction.refuse(member.name, "is neither a file nor a directory")
            source = archive.extractfile(member)
            if source is not None:
                extraction.copy(member.name, source, path)
        # tarfile takes a missing end mark for an end; gzip checks that all of it came
        extraction.drain(unpacked)
    _lift_top_directory(extraction.target)


def _lift_top_directory(target: Path) -> None:
    inside = list(target.iterdir())
    if len(inside) != 1 or not inside[0].is_dir() or inside[0].name == "MAR-INF":
        return
    top = inside[0].rename(target.with_name(f"{target.name}.top"))
    target.rmdir()
    top.rename(target)
