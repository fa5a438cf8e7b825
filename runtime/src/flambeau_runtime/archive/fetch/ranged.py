"""Fetching one object of a store part by part, several at once, and going on after a cut."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Event

from flambeau_runtime.archive import attempts
from flambeau_runtime.archive.download import find_refusal, is_final
from flambeau_runtime.archive.fetch.order import Order
from flambeau_runtime.archive.partial import OnBytes, Partial
from flambeau_runtime.errors import SourceNotFound, SourceUnavailable

PART = 4 * 1024**2
AT_ONCE = 4
LONGEST_WORDS = 500
CHANGED = 412
"""HTTP's Precondition Failed: it is not the content any more that was begun."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an object is now; `read` gives the bytes from one position up to another of just that.

    `validator` tells it from what else may come to be there.
    """

    size: int
    validator: str
    read: Callable[[int, int], Awaitable[bytes]]


Open = Callable[[str], AbstractAsyncContextManager[Content]]
"""Opens the object that an address names, on the running loop."""


class Short(OSError):
    """Fewer bytes came than there are."""


class Changed(OSError):
    """What was begun is there no longer."""

    def __str__(self) -> str:
        return "it was replaced while it was fetched"


@dataclass(frozen=True, slots=True)
class RangedDownload:
    """One object on its way."""

    order: Order
    open: Open
    on_bytes: OnBytes

    def run(self) -> Path:
        """Bring the object to the order's target.

        Raises:
            SourceUnavailable: it did not come, after several tries; SourceNotFound: it never will.
        """
        target = Path(self.order.target)
        partial = Partial(self.order.shown, target, self.on_bytes)
        attempts.persist(
            partial,
            lambda: asyncio.run(self._attempt(partial)),
            lambda error: fault_of(error, self.order.shown),
            Event(),
            self.order.pauses_s,
        )
        return target

    async def _attempt(self, partial: Partial) -> None:
        async with self.open(self.order.uri) as content:
            same = partial.validator() == content.validator
            have = partial.size() if same else 0
            with partial.open(content.validator, content.size, have) as write:
                await _copy(content, have, write)
            if partial.have < content.size:
                raise Short(f"{partial.have} of {content.size} bytes came")


async def _copy(content: Content, have: int, write: Callable[[bytes], None]) -> None:
    """Write the parts in their order; a few of them are on their way at any time.

    One that fails counts when its turn comes: those before it are kept.
    """
    waiting: deque[asyncio.Task[bytes | Exception]] = deque()
    try:
        async with asyncio.TaskGroup() as tasks:
            for start in range(have, content.size, PART):
                end = min(start + PART, content.size)
                waiting.append(tasks.create_task(_read(content, start, end)))
                if len(waiting) == AT_ONCE:
                    write(_come(await waiting.popleft()))
            while waiting:
                write(_come(await waiting.popleft()))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


async def _read(content: Content, start: int, end: int) -> bytes | Exception:
    try:
        part = await content.read(start, end)
    except Exception as error:  # noqa: BLE001  told by whoever waits for this part
        return error
    return part if len(part) == end - start else Short(f"{len(part)} of {end - start} bytes came")


def _come(part: bytes | Exception) -> bytes:
    if isinstance(part, Exception):
        raise part
    return part


def fault_of(error: Exception, shown: str) -> SourceUnavailable:
    """Return what an error of whichever library means for the source."""
    text = f"Failed to download archive from: {shown}"
    refused = find_refusal(error)
    if refused is not None:
        return SourceNotFound(f"{text}: {refused}")
    if isinstance(error, Changed):
        return SourceUnavailable(f"{text}: {error}")
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return SourceNotFound(f"{text}: 404 Not Found")
    said = " ".join(str(error).split())[:LONGEST_WORDS] or type(error).__name__
    if isinstance(error, PermissionError):
        return SourceNotFound(f"{text}: 403 Forbidden ({said})")
    status = status_of(error)
    if status is not None and is_final(status) and status != CHANGED:
        return SourceNotFound(f"{text}: {status} {_phrase(status)} ({said})")
    return SourceUnavailable(f"{text}: {type(error).__name__}: {said}")


def _phrase(status: int) -> str:
    return next((str(known.phrase) for known in HTTPStatus if known == status), "")


def status_of(error: BaseException | None) -> int | None:
    """Return the HTTP status behind an error; each library keeps it in a place of its own."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):  # botocore
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(response, "status_code", None)  # httpx, and those made of it
        for name in ("status_code", "status", "code"):  # azure, aiohttp, gcsfs
            found = found or getattr(error, name, None)
        if isinstance(found, int):
            return found
        error = error.__cause__ or error.__context__
    return None
