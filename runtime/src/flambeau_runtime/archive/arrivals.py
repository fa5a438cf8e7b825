"""Archives on their way into a root that several runtimes may share, on one machine or many.

Of each download one process is in charge (`lease.py`): what has a digest comes once, whoever else
wants it finds it there, and what a process has left unfinished another goes on with.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flambeau_runtime.archive import attempts
from flambeau_runtime.archive.fetch import process
from flambeau_runtime.archive.fetch.order import Order
from flambeau_runtime.archive.lease import BEAT_S, Lease
from flambeau_runtime.archive.owner import Owner
from flambeau_runtime.archive.partial import OnBytes, inherit
from flambeau_runtime.archive.sources import HTTP, Remote
from flambeau_runtime.errors import DigestMismatch, SourceUnavailable

OnProgress = Callable[[int, int | None], None]
"""Called on the event loop with (bytes so far, bytes in all if known)."""

Verify = Callable[[Path, str | None, str, threading.Event], str | None]
"""Compares an archive with a digest: (path, digest, how to call it, stop)."""

AT_ONCE = 4
PROGRESS_EVERY_S = 0.1
LOOK_AGAIN_S = 0.5
LEFT_BEHIND_S = 24 * 3600.0
"""What nobody has touched for so long was left behind by a process that is gone."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wish:
    """One archive to be brought; `credentials` names the mounted Secret that opens its source."""

    source: Remote
    digest: str | None
    credentials: str | None = None

    @property
    def key(self) -> str:
        """Return what it is known by among all processes."""
        if self.digest is not None:
            return hex_of(self.digest)
        return hashlib.sha256(f"{self.credentials or ''} {self.source.url}".encode()).hexdigest()


class Arrivals:
    """What is on its way into one root."""

    def __init__(self, root: Path, owner: Owner, credentials: Path, verify: Verify) -> None:
        self.downloads = root / "downloads"
        self.packages = root / "packages"
        self.trees = root / "trees"
        self._owner = owner
        self._credentials = credentials
        self._verify = verify
        # Of their own: a download of an hour shall keep nothing else waiting, least of all a lease.
        self._fetchers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
        self._leases = ThreadPoolExecutor(1, thread_name_prefix="lease")

    async def bring(self, wish: Wish, on_progress: OnProgress | None) -> Path:
        """Return the archive, a directory, or the package that another process has made of it.

        Raises:
            SourceUnavailable: it cannot be had now; SourceNotFound: it is not there.
            DigestMismatch: something else is there.
        """
        on_bytes = _report(asyncio.get_running_loop(), on_progress)
        async with self._leased(wish.key):
            return await self._in_thread(lambda stop: self._bring(wish, on_bytes, stop))

    def close(self) -> None:
        """Wait for the threads, which stop when nobody waits for them."""
        self._fetchers.shutdown()
        self._leases.shutdown()

    @asynccontextmanager
    async def _leased(self, key: str) -> AsyncIterator[None]:
        """Be the only process, of all that share the root, that brings this."""
        lease = Lease(self.downloads / f"{key}.lease", self._owner)
        try:
            await self._take(lease)
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(self._beat(lease))
                yield
                beating.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            with suppress(OSError):  # then it is taken over, a little later
                await self._of_lease(lease.give_back)

    async def _take(self, lease: Lease) -> None:
        with reading(self.downloads):
            while not await self._of_lease(lease.try_to_take):  # noqa: ASYNC110  of other machines nothing is heard
                await asyncio.sleep(LOOK_AGAIN_S)

    async def _beat(self, lease: Lease) -> None:
        ours = True
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(OSError):  # the volume is away; whose it is will be seen when it is back
                ours = await self._of_lease(lease.beat)
            if not ours:
                raise SourceUnavailable(
                    "another runtime has taken over the download, since this one was silent for "
                    "too long"
                )

    async def _of_lease(self, work: Callable[[], T]) -> T:
        asked = asyncio.get_running_loop().run_in_executor(self._leases, work)
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            await asyncio.wait([asked])  # whether it is ours must be known to give it back
            raise

    async def _in_thread(self, work: Callable[[threading.Event], T]) -> T:
        """Run `work` off the loop; whoever stops waiting stops it, and waits until it has stopped.

        The lease is given back only then: nobody else shall go on with what is still written to.
        """
        stop = threading.Event()
        working = asyncio.get_running_loop().run_in_executor(self._fetchers, work, stop)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([working])
            raise

    def _bring(self, wish: Wish, on_bytes: OnBytes, stop: threading.Event) -> Path:
        known = self._brought_meanwhile(wish, stop)
        if known is not None:
            return known
        target = self.downloads / f"{wish.key}.{self._owner}.archive"
        self._inherit(wish.key, target)
        with reading(target):
            came = self._fetch(wish, target, on_bytes, stop)
        try:
            self._verify(came, wish.digest, wish.source.shown, stop)
        except DigestMismatch:
            came.unlink(missing_ok=True)  # the next try shall not find it again
            raise
        return came if wish.digest is None else came.rename(self._brought(wish))

    def _fetch(self, wish: Wish, target: Path, on_bytes: OnBytes, stop: threading.Event) -> Path:
        source = wish.source
        if source.scheme in HTTP and wish.credentials is None:
            # imported late: a runtime whose archives are local never pays for an HTTP client
            from flambeau_runtime.archive.download import Download  # noqa: PLC0415

            Download(source, target, on_bytes, stop).run()
            return target
        order = Order(
            uri=source.url,
            shown=source.shown,
            target=str(target),
            trees=str(self.trees),
            digest=wish.digest,
            credentials=wish.credentials and str(self._credentials / wish.credentials),
            pauses_s=attempts.PAUSES_S,
        )
        return process.fetch(order, os.environ, on_bytes, stop)

    def _brought(self, wish: Wish) -> Path:
        return self.downloads / f"{wish.key}.archive"

    def _brought_meanwhile(self, wish: Wish, stop: threading.Event) -> Path | None:
        """Return what another process has brought while this one waited for the lease."""
        if wish.digest is None:
            return None
        package, archive = self.packages / wish.key, self._brought(wish)
        if package.is_dir():
            return package
        try:
            self._verify(archive, wish.digest, wish.source.shown, stop)
        except (SourceUnavailable, DigestMismatch):
            archive.unlink(missing_ok=True)
            return None
        return archive

    def _inherit(self, key: str, target: Path) -> None:
        """Go on with what another process has begun, and sweep away what nobody goes on with."""
        for before in self.downloads.glob(f"{key}.*.archive.partial"):
            archive = before.with_suffix("")
            owner = Owner.read(archive.name.split(".")[1])
            if archive != target and owner is not None:
                inherit(target, archive, same_machine=owner.machine == self._owner.machine)
        now = (self.downloads / f"{key}.lease").stat().st_mtime  # by the clock of the volume
        for left in self.downloads.iterdir():
            with suppress(OSError):
                if now - left.stat().st_mtime > LEFT_BEHIND_S:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def hex_of(digest: str) -> str:
    """Return the 64 digits of a digest."""
    return digest.removeprefix("sha256:")


def _report(loop: asyncio.AbstractEventLoop, on_progress: OnProgress | None) -> OnBytes:
    """Return a callback for a thread that tells the loop every now and then, and at the end."""
    last = 0.0

    def on_bytes(have: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if on_progress is not None and (now - last >= PROGRESS_EVERY_S or have == total):
            last = now
            loop.call_soon_threadsafe(on_progress, have, total)

    return on_bytes


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the disk says about a file into words about a source.

    Raises:
        SourceUnavailable: it is gone, or cannot be read or written.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise SourceUnavailable(f"Model not found at: {path.name}") from error
    except OSError as error:
        raise SourceUnavailable(f"{path.name}: {error.strerror or error}") from error
