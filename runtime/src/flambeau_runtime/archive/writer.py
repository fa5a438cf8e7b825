"""Making archives: which files go in under which names, and the same bytes for the same files."""

from __future__ import annotations

import glob
import gzip
import io
import json
import logging
import os
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from filecmp import cmp
from pathlib import Path
from typing import Any

from flambeau_runtime.archive.manifest import MANIFEST

ARCHIVER_VERSION = "0.12.0"  # of TorchServe's archiver, whose format this is
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_\-.]*$"
UNWANTED = frozenset({"__MACOSX", "__pycache__"})
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can say
FILE_MODE = 0o644

DEFAULT_HANDLERS = frozenset(
    {
        "base_handler",
        "dali_image_classifier",
        "image_classifier",
        "image_segmenter",
        "object_detector",
        "text_classifier",
        "trt_llm_handler",
        "vllm_handler",
    }
)


NATIVE_HANDLERS = frozenset({"BaseHandler", "TorchScriptHandler"})
"""Default handlers of the runtime LSP, whose others are shared libraries."""
NATIVE = "LSP"
NATIVE_ENDING = ".dylib" if sys.platform == "darwin" else ".so"

log = logging.getLogger(__name__)


class CannotArchive(Exception):
    """The archive cannot be made; the text says what to do."""


class ArchiveFormat(StrEnum):
    """What the archive becomes."""

    DEFAULT = "default"  # .mar, a compressed zip
    ZIP_STORE = "zip-store"  # .mar, an uncompressed zip
    TGZ = "tgz"  # .tar.gz with one top directory
    NO_ARCHIVE = "no-archive"  # a directory

    @property
    def ending(self) -> str:
        """Return how the archive's name ends."""
        return {"tgz": ".tar.gz", "no-archive": ""}.get(self.value, ".mar")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an archive; paths are as the user gave them."""

    model_name: str
    version: str
    handler: str  # a file, "file:function" or a default handler's name
    serialized_file: str | None = None
    model_file: str | None = None
    extra_files: str | None = None  # comma-separated files, directories and wildcards
    requirements_file: str | None = None
    config_file: str | None = None
    runtime: str = "python"


def write_archive(
    recipe: Recipe,
    export_path: Path,
    archive_format: ArchiveFormat,
    created_on: datetime,
    force: bool = False,
) -> Path:
    """Make the archive and return where it is; `export_path` is made when missing.

    Equal recipes over equal files give equal bytes but for `created_on`.

    Raises:
        CannotArchive: a file is missing, two files want one name, or the archive exists already.
    """
    target = _target(recipe, export_path, archive_format, force)
    files = collect_files(recipe)
    manifest = json.dumps(make_manifest(recipe, created_on), indent=2).encode()
    export_path.mkdir(parents=True, exist_ok=True)
    if archive_format is ArchiveFormat.NO_ARCHIVE:
        _write_directory(target, files, manifest)
        return target
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        if archive_format is ArchiveFormat.TGZ:
            _write_tgz(partial, recipe.model_name, files, manifest)
        else:
            _write_zip(partial, archive_format, files, manifest)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _target(recipe: Recipe, export_path: Path, archive_format: ArchiveFormat, force: bool) -> Path:
    """Return where the archive goes. The sentences are those that TorchServe's users know."""
    if not re.match(MODEL_NAME, recipe.model_name):
        raise CannotArchive(
            "Model name contains special characters.\n"
            f"The allowed regular expression filter for model name is: {MODEL_NAME}"
        )
    if export_path.exists() and not export_path.is_dir():
        raise CannotArchive(
            f"Given export-path {export_path} is not a directory. "
            "Point to a valid export-path directory."
        )
    target = export_path / f"{recipe.model_name}{archive_format.ending}"
    if target.exists() and not force:
        raise CannotArchive(
            f"{target} already exists.\n"
            "Please specify --force/-f option to overwrite the model archive output file.\n"
            "See -h/--help for more details."
        )
    if target.exists():
        log.warning("Overwriting %s ...", target)
    return target


def make_manifest(recipe: Recipe, created_on: datetime) -> dict[str, Any]:
    """Return MANIFEST.json's content; files are named as they are inside the archive."""
    model = {
        "modelName": recipe.model_name,
        "serializedFile": _base(recipe.serialized_file),
        "handler": Path(recipe.handler).name,
        "modelFile": _base(recipe.model_file),
        "modelVersion": recipe.version,
        "requirementsFile": _base(recipe.requirements_file),
        "configFile": _base(recipe.config_file),
    }
    return {
        "createdOn": created_on.strftime("%d/%m/%Y %H:%M:%S"),
        "runtime": recipe.runtime,
        "model": {key: value for key, value in model.items() if value is not None},
        "archiverVersion": ARCHIVER_VERSION,
    }


def collect_files(recipe: Recipe) -> dict[str, Path]:
    """Return every file of the archive by its name inside, sorted.

    Raises:
        CannotArchive: a file is missing, or two different files want one name.
    """
    files: dict[str, Path] = {}
    for name, path in _named_files(recipe):
        _add(files, name, path)
    for name, path in _extra_files(recipe.extra_files or ""):
        _add(files, name, path)
    return dict(sorted(files.items()))


def _named_files(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    named = [
        ("--serialized-file", recipe.serialized_file),
        ("--model-file", recipe.model_file),
        ("--requirements-file", recipe.requirements_file),
        ("--config-file", recipe.config_file),
    ]
    if recipe.handler not in (NATIVE_HANDLERS if recipe.runtime == NATIVE else DEFAULT_HANDLERS):
        ending = NATIVE_ENDING if recipe.runtime == NATIVE else ".py"
        named.append(("--handler", _handler_file(recipe.handler, ending)))
    for flag, given in named:
        if given is None:
            continue
        path = Path(given)
        if not path.is_file():
            known = ""
            if flag == "--handler":
                known = (
                    f" (and no default handler of that name: {', '.join(sorted(DEFAULT_HANDLERS))})"
                )
            raise CannotArchive(f"{flag}: there is no file {given}{known}")
        yield path.name, path


def _extra_files(extra_files: str) -> Iterator[tuple[str, Path]]:
    for given in filter(None, (part.strip() for part in extra_files.split(","))):
        # a name may contain what looks like a wildcard: the file itself goes first
        found = [given] if Path(given).exists() else sorted(glob.glob(given))  # noqa: PTH207  Path.glob refuses absolute patterns
        if not found and not glob.has_magic(given):
            raise CannotArchive(f"File does not exist: {given}")
        if not found:
            log.warning("Given wildcard pattern did not match any file: %s", given)
        for match in map(Path, found):
            if match.is_dir():
                yield from _walk(match)
            else:
                yield match.name, match


def _walk(top: Path) -> Iterator[tuple[str, Path]]:
    """Yield what is in a directory, by names relative to it; hidden directories stay out."""
    visited = set()
    for here, directories, names in os.walk(top, followlinks=True):
        facts = Path(here).stat()
        if (facts.st_dev, facts.st_ino) in visited:
            directories.clear()  # a link back up
            continue
        visited.add((facts.st_dev, facts.st_ino))
        directories[:] = sorted(
            name for name in directories if name not in UNWANTED and not name.startswith(".")
        )
        for name in names:
            path = Path(here, name)
            yield path.relative_to(top).as_posix(), path


def _add(files: dict[str, Path], name: str, path: Path) -> None:
    if name == MANIFEST:
        return  # of an archive unpacked before; ours is written last
    there = files.setdefault(name, path)
    if there is not path and not cmp(there, path, shallow=False):
        raise CannotArchive(
            f"{there} and {path} differ and would both be {name} in the archive: rename one"
        )


def _handler_file(handler: str, ending: str) -> str:
    file = handler.rpartition(":")[0] if ":" in handler else handler
    return file if file.endswith(ending) else f"{file}{ending}"


def _base(given: str | None) -> str | None:
    return None if given is None else Path(given).name


def _write_zip(
    target: Path, archive_format: ArchiveFormat, files: Mapping[str, Path], manifest: bytes
) -> None:
    store = archive_format is ArchiveFormat.ZIP_STORE
    with zipfile.ZipFile(target, "w") as archive:
        for name, path in _with_manifest(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_STORED if store else zipfile.ZIP_DEFLATED
            info.external_attr = (0o100000 | FILE_MODE) << 16
            source = io.BytesIO(manifest) if path is None else path.open("rb")
            info.file_size = len(manifest) if path is None else path.stat().st_size
            with source, archive.open(info, "w") as entry:
                shutil.copyfileobj(source, entry, 1024 * 1024)


def _write_tgz(target: Path, top: str, files: Mapping[str, Path], manifest: bytes) -> None:
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in _with_manifest(files):
            info = tarfile.TarInfo(f"{top}/{name}")
            info.mode = FILE_MODE
            source = io.BytesIO(manifest) if path is None else path.open("rb")
            info.size = len(manifest) if path is None else path.stat().st_size
            with source:
                archive.addfile(info, source)


def _write_directory(target: Path, files: Mapping[str, Path], manifest: bytes) -> None:
    for name, path in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not (place.exists() and place.samefile(path)):
            shutil.copyfile(path, place)
    (target / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
    (target / MANIFEST).write_bytes(manifest)


def _with_manifest(files: Mapping[str, Path]) -> Iterable[tuple[str, Path | None]]:
    return [*files.items(), (MANIFEST, None)]
