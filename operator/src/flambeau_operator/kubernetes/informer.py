"""Follows labelled objects: a store that is right again after whatever happened to the watch.

A list in pages, then a watch with bookmarks. A silence longer than the bookmarks' minute ends the
connection; a watch that ended goes on where it was; lost history (410) means a new list that
replaces the store, and what is no longer in it counts as deleted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from flambeau_operator.doors import Key
from flambeau_operator.errors import DoorFault
from flambeau_operator.kubernetes.client import (
    JSON,
    METADATA_LIST,
    METADATA_ONLY,
    Api,
    Expired,
    Object,
)
from flambeau_operator.kubernetes.kinds import Kind
from flambeau_operator.names import MANAGED_BY, MANAGER

log = logging.getLogger(__name__)

T = TypeVar("T")
OURS: Final = f"{MANAGED_BY}={MANAGER}"
SILENCE_S: Final = 70.0  # bookmarks come about once a minute


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """What is remembered of one object: whose it is, and what matters of it."""

    owner: Key
    content: T


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the API server is asked again after a failure."""

    first_s: float = 0.2
    last_s: float = 30.0

    def wait_s(self, failures: int, dice: float) -> float:
        """Return the wait after so many failures in a row (1 or more), half of it by dice."""
        longest: float = min(self.first_s * 2 ** min(failures - 1, 20), self.last_s)
        return longest * (0.5 + dice / 2)


class Informer(Generic[T]):
    """One kind of object in one namespace, or in all of them.

    Args:
        api: the API server.
        kind: what is followed.
        namespace: None is every namespace.
        keep: what to remember of an object; None leaves it out.
        changed: called with the owner of what appeared, changed or went.
        dice: 0..1, spreads the retries.
        whole: read whole objects; otherwise their metadata alone.
    """

    def __init__(  # noqa: PLR0913  a composition: every part is handed in, and named at the call
        self,
        api: Api,
        kind: Kind,
        namespace: str | None,
        *,
        keep: Callable[[Object], Kept[T] | None],
        changed: Callable[[Key], None],
        dice: Callable[[], float],
        whole: bool = False,
        silence_s: float = SILENCE_S,
        backoff: Backoff | None = None,
    ) -> None:
        self._api = api
        self._path = kind.path(namespace)
        self._keep = keep
        self._changed = changed
        self._dice = dice
        self._accept = (JSON, JSON) if whole else (METADATA_LIST, METADATA_ONLY)
        self._silence_s = silence_s
        self._backoff = backoff or Backoff()
        self._store: dict[tuple[str, str], Kept[T]] = {}
        self.synced = asyncio.Event()
        self.heard_at = time.monotonic()  # when the API server last said something

    def owned_by(self, owner: Key) -> Iterator[tuple[str, T]]:
        """Yield name and content of what belongs to an object."""
        for (_, name), kept in self._store.items():
            if kept.owner == owner:
                yield name, kept.content

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                await self._follow(version)
            except Expired:
                log.info("list again", extra={"path": self._path})
            except DoorFault as fault:
                failures += 1
                wait_s = self._backoff.wait_s(failures, self._dice())
                log.warning("cannot list", extra={"path": self._path, "why": str(fault)})
                await asyncio.sleep(wait_s)

    async def _list(self) -> str:
        """Replace the store and return the version that it stands for."""
        found: dict[tuple[str, str], Kept[T]] = {}
        version = ""
        async for page in self._api.pages(self._path, OURS, self._accept[0]):
            version = str(page.get("metadata", {}).get("resourceVersion", ""))
            # An empty list of metadata has null items.
            for each in page.get("items") or ():
                kept = self._keep(each)
                if kept is not None:
                    found[_name(each)] = kept
        gone = self._store.keys() - found.keys()
        for name in gone:
            self._set(name, None)
        for name, kept in found.items():
            self._set(name, kept)
        self.heard_at = time.monotonic()
        self.synced.set()
        return version

    async def _follow(self, version: str) -> None:
        """Watch, again and again from where the last watch ended, until history is lost."""
        failures = 0
        while True:
            try:
                version = await self._watch(version)
                failures = 0
            except Expired:
                raise
            except _Broken as broken:
                failures = 1 if broken.version != version else failures + 1
                version = broken.version
                await asyncio.sleep(self._backoff.wait_s(failures, self._dice()))

    async def _watch(self, version: str) -> str:
        """Take in events and return the version of the last one."""
        query = [
            ("labelSelector", OURS),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
        ]
        try:
            async for event in self._api.watch(self._path, query, self._accept[1], self._silence_s):
                self.heard_at = time.monotonic()
                body = event["object"]
                self._take(str(event["type"]), body)
                version = str(body["metadata"]["resourceVersion"])
        except Expired:
            raise
        except (DoorFault, LookupError, TypeError) as error:
            raise _Broken(version) from error
        return version

    def _take(self, event: str, body: Object) -> None:
        if event == "BOOKMARK":
            return
        self._set(_name(body), None if event == "DELETED" else self._keep(body))

    def _set(self, name: tuple[str, str], kept: Kept[T] | None) -> None:
        """Remember one object, or forget it, and tell whom it concerns."""
        before = self._store.get(name)
        if before == kept:
            return
        if kept is None:
            self._store.pop(name, None)
        else:
            self._store[name] = kept
        for owner in {each.owner for each in (before, kept) if each is not None}:
            self._changed(owner)


class _Broken(Exception):
    """A watch ended before its time."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version  # of the last event that was taken in


def _name(body: Object) -> tuple[str, str]:
    return str(body["metadata"]["namespace"]), str(body["metadata"]["name"])
