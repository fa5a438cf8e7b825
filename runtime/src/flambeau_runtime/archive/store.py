"""Where archives become packages: fetched, verified, extracted once per digest.

Below the root, `downloads/` holds archives on their way, `packages/<sha256>/` the extracted ones,
`packages/<sha256>.json` their sizes and `trees/` whole repositories of a hub. What is being written
has `.partial` in its name and is renamed when whole: two processes may extract the same at once,
and a crash leaves nothing half-made.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from flambeau_runtime.archive.arrivals import (
    LEFT_BEHIND_S,
    LOOK_AGAIN_S,
    Arrivals,
    OnProgress,
    Wish,
    hex_of,
    reading,
)
from flambeau_runtime.archive.environments import Environments
from flambeau_runtime.archive.fetch.credentials import FOLDER
from flambeau_runtime.archive.manifest import (
    Declared,
    read_config,
    read_manifest,
    to_json_types,
)
from flambeau_runtime.archive.owner import Owner
from flambeau_runtime.archive.package import Package
from flambeau_runtime.archive.reader import ExtractionLimits, extract
from flambeau_runtime.archive.sources import EVERYWHERE, Local, Remote, resolve
from flambeau_runtime.errors import (
    ArchiveInvalid,
    DigestMismatch,
    SourceNotFound,
    SourceUnavailable,
)

CHUNK = 1024 * 1024
THREADS = 4
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LATE = Path("/mnt/configmaps")
"""Where a pod has ConfigMaps: what is added to one appears here after up to a minute and a half."""
LATE_S = 120.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What changes when a file's content does."""

    inode: int
    size: int
    changed_ns: int


class HashingStopped(Exception):
    """Nobody waits for this digest any more."""


@dataclass(frozen=True, slots=True)
class Around:
    """What is around a store.

    Args:
        late: the folder where files may appear late.
        credentials: the folder with a folder for each Secret that sources may name.
        shared: whether other runtimes use the same root: then a package that is not needed here any
            more stays for them.
        default_handler: the handler of archives that name none.
    """

    late: Path = LATE
    credentials: Path = FOLDER
    shared: bool = False
    default_handler: str | None = None


class Store:
    """One directory of extracted archives, and the ways into it."""

    def __init__(
        self,
        root: Path,
        model_store: Path | None = None,
        allowed_urls: tuple[str, ...] = EVERYWHERE,
        limits: ExtractionLimits | None = None,
        around: Around | None = None,
        environments: Environments | None = None,
    ) -> None:
        self.root = root
        self.model_store = model_store
        self.allowed_urls = allowed_urls
        self._limits = limits or ExtractionLimits()
        self._around = around or Around()
        self._owner = Owner.me()
        self._environments = environments  # None: no model has packages of its own
        self._digests: dict[Path, tuple[_Stamp, str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
        self._arrivals = Arrivals(root, self._owner, self._around.credentials, self._verify)

    @property
    def packages(self) -> Path:
        """Return where extracted archives are."""
        return self._arrivals.packages

    @property
    def downloads(self) -> Path:
        """Return where archives on their way are."""
        return self._arrivals.downloads

    @property
    def trees(self) -> Path:
        """Return where directories are that came file by file."""
        return self._arrivals.trees

    async def fetch(
        self,
        uri: str,
        digest: str | None = None,
        on_progress: OnProgress | None = None,
        credentials: str | None = None,
    ) -> Path:
        """Bring what `uri` names onto this disk and verify it.

        Args:
            uri: file://…, http(s)://…, s3://…, gs://…, az://…, hf://…, oci://…, an absolute path,
                or a name inside the model store.
            digest: "sha256:<64 hex>" that the archive must have, or None.
            on_progress: told how far a download has come.
            credentials: the name of the mounted Secret that opens the source; None: whatever the
                environment has.

        Returns:
            The archive, a directory, or the package of that digest if it was extracted before: to
            be passed to `open`.

        Raises:
            SourceUnavailable: it cannot be read now; SourceNotFound: it is not there.
            CredentialsMissing: they are not there, or make no sense.
            DigestMismatch: something else is there.
        """
        wanted = _check_digest(uri, digest)
        source = await self._find(uri, wanted)
        if isinstance(source, Local):
            await self._in_thread(lambda stop: self._verify(source.path, wanted, uri, stop))
            return source.path
        wish = Wish(source, wanted, credentials)
        async with self._lock(wish.key):
            return await self._arrivals.bring(wish, on_progress)

    async def open(
        self,
        path: Path,
        digest: str | None = None,
        *,
        model: str | None = None,
        version: str | None = None,
        handler: str | None = None,
    ) -> Package:
        """Extract the archive (once per digest, however many ask at once) and read its manifest.

        `model`, `version` and `handler` go before what the manifest says; an archive without a
        manifest needs the first and the last.

        Raises:
            ArchiveInvalid: broken, dangerous, or its manifest or model-config.yaml makes no sense.
            SourceUnavailable: it cannot be read, or there is no room for what is in it.
            RequirementsFailed: what it requires cannot be installed.
        """
        wanted = _check_digest(path.name, digest)
        declared = Declared(model, version, handler, self._around.default_handler)
        path = await self._in_thread(lambda _: self._still_there(path, wanted))
        found = await self._in_thread(lambda stop: self._verify(path, wanted, path.name, stop))
        if found is None:
            package = await self._in_thread(lambda _: self._read_directory(path, declared))
        else:
            async with self._lock(found):
                package = await self._in_thread(
                    lambda stop: self._read_archive(path, found, declared, stop)
                )
        return package if self._environments is None else await self._environments.equip(package)

    async def remove(self, package: Package) -> None:
        """Delete the files of a package that no version uses any more; a bare directory stays."""
        if package.environment is not None and self._environments is not None:
            await self._environments.release(package.environment)
        ours = package.directory.parent in {self.packages, self.trees}
        if ours and not self._around.shared:
            await self._in_thread(lambda _: self._discard(package.directory))

    def close(self) -> None:
        """Wait for the threads, which stop at their next chunk when nobody waits for them."""
        self._threads.shutdown()
        self._arrivals.close()
        if self._environments is not None:
            self._environments.close()

    async def _find(self, uri: str, wanted: str | None) -> Local | Remote:
        """Return where the archive is; one that may come late is waited for."""
        loop = asyncio.get_running_loop()
        patience = LATE_S if uri.startswith(f"file://{self._around.late}/") else 0.0
        deadline = loop.time() + patience
        while True:
            try:
                return await self._in_thread(lambda _: self._resolve(uri, wanted))
            except SourceNotFound:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(LOOK_AGAIN_S)  # nobody tells a pod that its files have changed

    def _still_there(self, path: Path, wanted: str | None) -> Path:
        """Return the package instead of an archive that another process was quicker to extract."""
        if wanted is None or path.exists():
            return path
        package = self.packages / hex_of(wanted)
        return package if package.is_dir() else path

    def _resolve(self, uri: str, wanted: str | None) -> Local | Remote:
        source = resolve(uri, self.model_store, self.allowed_urls)
        if wanted is not None and (self.packages / hex_of(wanted)).is_dir():
            return Local(self.packages / hex_of(wanted))
        return source

    def _verify(
        self, path: Path, wanted: str | None, shown: str, stop: threading.Event
    ) -> str | None:
        """Return the digest of an archive, after comparing it; None for a directory."""
        if path.is_dir():
            if wanted is not None and path != self.packages / hex_of(wanted):
                raise ArchiveInvalid(
                    f"{shown} is a directory, which has no digest: leave the digest out, or "
                    "archive it"
                )
            return None
        found = self._digest(path, stop)
        if wanted is not None and found != wanted:
            raise DigestMismatch(shown, wanted, found)
        return found

    def _digest(self, path: Path, stop: threading.Event) -> str:
        if path.exists() and not path.is_file():  # a pipe or a device is read without end
            raise ArchiveInvalid(f"{path.name} is neither a file nor a directory")
        with reading(path), path.open("rb") as file:
            facts = os.fstat(file.fileno())
            stamp = _Stamp(facts.st_ino, facts.st_size, facts.st_mtime_ns)
            known = self._digests.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            digest = f"sha256:{_hash(file, stop)}"
        self._digests[path] = (stamp, digest)
        return digest

    def _read_directory(self, path: Path, declared: Declared) -> Package:
        if path.parent != self.packages:
            path = _inner(path)
        if path.parent == self.packages:
            return self._package(path, f"sha256:{path.name}", self._size(path), declared)
        with reading(path):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return self._package(path.resolve(), None, size, declared)

    def _read_archive(
        self, path: Path, digest: str, declared: Declared, stop: threading.Event
    ) -> Package:
        directory = self.packages / hex_of(digest)
        size = path.stat().st_size if path.exists() else 0
        if not directory.is_dir():
            try:
                self._extract(path, directory, size, stop)
            except SourceUnavailable:
                if not directory.is_dir():  # another process was quicker, and took the archive away
                    raise
        package = self._package(directory, digest, self._size(directory), declared, path.name)
        if path.parent == self.downloads:
            path.unlink(missing_ok=True)  # the extracted files are what is kept
        return package

    def _extract(self, path: Path, directory: Path, size: int, stop: threading.Event) -> None:
        self._sweep()
        work = directory.with_name(f"{directory.name}.partial-{self._owner}")
        with reading(path):
            work.mkdir(parents=True)
            try:
                with path.open("rb") as file:
                    extract(file, path.name, work / "files", self._limits, stop.is_set)
                facts = work / "facts.json"
                facts.write_text(json.dumps({"bytes": size}))
                facts.replace(directory.with_name(f"{directory.name}.json"))
                _rename(work / "files", directory)
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what crashed processes left half-made."""
        self.packages.mkdir(parents=True, exist_ok=True)
        for left in self.packages.glob("*.partial-*"):
            owner = Owner.read(left.name.rpartition(".partial-")[2])
            if owner is None or owner.is_surely_dead() or self._is_old(left):
                shutil.rmtree(left, ignore_errors=True)

    def _is_old(self, path: Path) -> bool:
        """Tell whether another machine began this so long ago that it will not go on with it."""
        mark = self.packages / f"now-{self._owner}"
        mark.touch()  # by the clock of the volume
        try:
            return mark.stat().st_mtime - path.stat().st_mtime > LEFT_BEHIND_S
        except FileNotFoundError:
            return False
        finally:
            mark.unlink(missing_ok=True)

    def _package(
        self,
        directory: Path,
        digest: str | None,
        size: int,
        declared: Declared,
        name: str | None = None,
    ) -> Package:
        shown = name or directory.name
        manifest = read_manifest(directory, shown, declared)
        config = read_config(directory, shown, manifest.config_file)
        return Package(
            manifest.model,
            manifest.version,
            directory,
            manifest.content,
            digest,
            size,
            manifest.handler,
            to_json_types(config),
        )

    def _size(self, directory: Path) -> int:
        try:
            facts = json.loads(directory.with_name(f"{directory.name}.json").read_text())
            return int(facts["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _discard(self, directory: Path) -> None:
        gone = directory.with_name(f"{directory.name}.gone.partial-{self._owner}")
        try:
            directory.rename(gone)
        except FileNotFoundError:
            return
        directory.with_name(f"{directory.name}.json").unlink(missing_ok=True)
        shutil.rmtree(gone, ignore_errors=True)

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    async def _in_thread(self, work: Callable[[threading.Event], T]) -> T:
        """Run `work` off the loop; whoever stops waiting stops it, at its next chunk."""
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, stop)
        finally:
            stop.set()


def _inner(path: Path) -> Path:
    """Return the one directory that a directory consists of, as TorchServe does; else itself."""
    with reading(path):
        inside = list(path.iterdir())
    only = inside[0] if len(inside) == 1 else path
    return only if only.is_dir() and only.name != "MAR-INF" else path


def _check_digest(shown: str, digest: str | None) -> str | None:
    if digest is None:
        return None
    wanted = digest.lower()
    if not DIGEST.fullmatch(wanted):
        raise ArchiveInvalid(f"{shown}: digest {digest!r} must be sha256: and 64 hex digits")
    return wanted


def _hash(file: BinaryIO, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    while read := file.readinto(buffer):  # type: ignore[attr-defined]
        if stop.is_set():
            raise HashingStopped
        digest.update(buffer[:read])
    return digest.hexdigest()


def _rename(files: Path, directory: Path) -> None:
    try:
        files.rename(directory)
    except OSError:
        if not directory.is_dir():  # another process was quicker: its files are as good
            raise
