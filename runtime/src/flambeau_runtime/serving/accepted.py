"""The document this runtime last accepted: its fence, its file, and the boot file."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from flambeau_runtime.errors import FieldProblem, InvalidDocument, RuntimeFault, StaleDocument
from flambeau_runtime.serving import document
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.desired import Document
from flambeau_runtime.settings import Limits, Managed

log = logging.getLogger(__name__)

FILE_NAME = "accepted.json"
WATCH_EVERY_S = 2.0
NO_ERROR = (None, None, None)


@dataclass(frozen=True, slots=True)
class Accepted:
    """One document, and the text it came as."""

    document: Document
    text: bytes


@dataclass(frozen=True, slots=True)
class BootFile:
    """What the boot file says: the committed document and the operator's public keys."""

    accepted: Accepted | None
    public_keys: tuple[str, ...]


def judge(current: Document | None, offered: Document, uid: str) -> None:
    """Let the offered document pass the fence, or not.

    Raises:
        StaleDocument: another owner's, an older one, or another one of the same sequence.
    """
    owner = "" if offered.owner is None else offered.owner.uid
    sequence = 0 if current is None else current.sequence
    if owner != uid:
        message = f"this runtime belongs to the ModelDeployment with uid {uid}, not {owner}"
        raise StaleDocument(message, uid, sequence)
    if current is None:
        return
    if offered.sequence < sequence:
        message = f"sequence {offered.sequence} is older than {sequence}, which was accepted"
        raise StaleDocument(message, uid, sequence)
    if offered.sequence == sequence and offered != current:
        message = f"another document of sequence {sequence} was accepted; a change needs a new one"
        raise StaleDocument(message, uid, sequence)


class AcceptedDocument:
    """Async context manager of a managed runtime; owns the task that watches the boot file.

    Entering boots: of the last accepted document and the boot file the one with the higher
    sequence is wanted, its candidates after its defaults serve.
    """

    def __init__(
        self,
        managed: Managed,
        state_dir: Path,
        limits: Limits,
        converger: Converger,
        watch_every_s: float = WATCH_EVERY_S,
    ) -> None:
        self.public_keys: tuple[str, ...] = ()
        self._managed = managed
        self._file = _DurableFile(state_dir / FILE_NAME)
        self._limits = limits
        self._converger = converger
        self._watch_every_s = watch_every_s
        self._current: Accepted | None = None
        self._offering = asyncio.Lock()
        self._boot_stamp: object = None
        self._tasks = asyncio.TaskGroup()
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._current = await asyncio.to_thread(self._recall)
        await self._look_at_boot_file()
        if self._current is not None:
            self._adopt(self._current, cautious=True)
        await self._tasks.__aenter__()
        self._watcher = self._tasks.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        # An error of the caller's own is not wrapped into the group of these tasks.
        cancelled = isinstance(error, asyncio.CancelledError)
        await self._tasks.__aexit__(*((kind, error, traceback) if cancelled else NO_ERROR))

    @property
    def text(self) -> bytes | None:
        """The wanted document as it was written (JSON), None before the first."""
        return None if self._current is None else self._current.text

    async def offer(self, text: bytes) -> int:
        """Accept a document: fence, file, then the converger; return its sequence.

        Raises:
            InvalidDocument: wrong fields, or other content for a version that serves.
            StaleDocument: refused by the fence.
        """
        offered = Accepted(document.parse(text, self._limits), text)
        async with self._offering:
            before = self._current
            judge(None if before is None else before.document, offered.document, self._managed.uid)
            if problems := self._converger.catalogue.conflicts(offered.document):
                raise InvalidDocument(problems)
            # The fence is raised before the file is written, so that a caller who leaves in between
            # cannot make this runtime accept something older; acting comes last.
            self._current = offered
            try:
                await asyncio.to_thread(self._file.write, text, offered.document.sequence)
            except OSError:
                self._current = before
                raise
            self._adopt(offered, cautious=False)
        return offered.document.sequence

    def _adopt(self, accepted: Accepted, *, cautious: bool) -> None:
        self._current = accepted
        self._converger.want(accepted.document, cautious=cautious)
        log.info(
            "document accepted",
            extra={"sequence": accepted.document.sequence, "boot": cautious},
        )

    def _recall(self) -> Accepted | None:
        text = self._file.read()
        if text is None:
            return None
        try:
            found = Accepted(document.parse(text, self._limits), text)
            judge(None, found.document, self._managed.uid)
        except RuntimeFault as fault:
            log.warning(
                "last accepted document ignored",
                extra={"file": str(self._file.path), "why": str(fault)},
            )
            return None
        return found

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_every_s)
            await self._look_at_boot_file()

    async def _look_at_boot_file(self) -> None:
        """Read the boot file if it changed; adopt its document only if its sequence is higher."""
        stamp = await asyncio.to_thread(_stamp, self._managed.boot_file)
        if stamp == self._boot_stamp:
            return
        self._boot_stamp = stamp
        boot = await asyncio.to_thread(self._read_boot_file)
        if boot is None:
            return
        self.public_keys = boot.public_keys
        async with self._offering:
            if boot.accepted is not None and self._is_newer(boot.accepted.document):
                await self._keep(boot.accepted)
                if self._watcher is not None:
                    self._adopt(boot.accepted, cautious=True)

    async def _keep(self, found: Accepted) -> None:
        """Raise the fence to a document of the boot file, also for the next start."""
        self._current = found
        try:
            await asyncio.to_thread(self._file.write, found.text, found.document.sequence)
        except OSError as error:
            log.warning("document not kept", extra={"why": str(error)})

    def _is_newer(self, found: Document) -> bool:
        if self._current is not None and found.sequence <= self._current.document.sequence:
            return False
        if problems := self._converger.catalogue.conflicts(found):
            log.warning(
                "document of the boot file ignored", extra={"why": str(InvalidDocument(problems))}
            )
        return not problems

    def _read_boot_file(self) -> BootFile | None:
        path = self._managed.boot_file
        try:
            return _parse_boot_file(path.read_bytes(), self._limits, self._managed.uid)
        except (OSError, RuntimeFault) as error:
            # A mounted file may come late, or be half-way written by something that is not atomic.
            log.warning("boot file ignored", extra={"file": str(path), "why": str(error)})
            return None


def _parse_boot_file(text: bytes, limits: Limits, uid: str) -> BootFile:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidDocument((FieldProblem("", f"not JSON: {error}"),)) from None
    if not isinstance(content, dict):
        raise InvalidDocument((FieldProblem("", "must be an object with document and publicKeys"),))
    keys = content.get("publicKeys")
    return BootFile(
        _boot_document(content.get("document"), limits, uid),
        tuple(key for key in keys if isinstance(key, str)) if isinstance(keys, list) else (),
    )


def _boot_document(content: object, limits: Limits, uid: str) -> Accepted | None:
    """Read the document of the boot file; a bad one does not make the keys beside it useless."""
    if content is None:
        return None
    text = orjson.dumps(content)
    try:
        found = Accepted(document.parse(text, limits), text)
        judge(None, found.document, uid)
    except RuntimeFault as fault:
        log.warning("document of the boot file ignored", extra={"why": str(fault)})
        return None
    return found


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what differs once the file, or the symlink that it is mounted by, was replaced."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


class _DurableFile:
    """A file that survives a crash whole, and never goes back to a lower sequence."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._written = -1

    def write(self, text: bytes, sequence: int) -> None:
        """Write, flush and rename; a write that was overtaken by a higher sequence does nothing."""
        with self._lock:
            if sequence < self._written:
                return
            part = self.path.with_suffix(".partial")
            with part.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
            self._sync_directory()
            self._written = sequence

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self) -> bytes | None:
        """Return the content, None without a readable file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning(
                "last accepted document ignored", extra={"file": str(self.path), "why": str(error)}
            )
            return None
