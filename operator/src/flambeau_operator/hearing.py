"""What the watch on ModelDeployments has told, held against what a list shows.

A watch that has gone deaf is quiet, and so is one with nothing to tell. But a list that knows of a
newer version than the watch told of, and goes on to do so, tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flambeau_operator.doors import Key

GRACE_S = 30.0  # what a list shows, the watch must have told within


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch event says of a ModelDeployment; what it is now is read from the API."""

    key: Key
    resource_version: str
    generation: int
    asked: tuple[str, ...]  # what people can change; our own status is no part of it
    deleted: bool = False


class Hearing:
    """Remembers the last event of each object."""

    def __init__(self) -> None:
        self._heard: dict[Key, Change] = {}
        self._missed: dict[Key, float] = {}  # since when a list is ahead of the watch

    def hear(self, change: Change) -> bool:
        """Take in an event and return whether it is worth a pass.

        A mere change of the status was our own writing: to look at it would make every failure be
        tried again at once.
        """
        before = self._heard.get(change.key)
        self._missed.pop(change.key, None)
        if change.deleted:
            self._heard.pop(change.key, None)
            return True
        self._heard[change.key] = change
        return before is None or before.asked != change.asked

    def generation(self, key: Key) -> int | None:
        """Return the generation that was told of last."""
        heard = self._heard.get(key)
        return heard.generation if heard else None

    def compare(self, listed: Mapping[Key, str], now: float) -> set[Key]:
        """Hold a list of resourceVersions against what was told; return what was missed."""
        ahead = {key for key, version in listed.items() if self._is_news(key, version)}
        for key in ahead:
            self._missed.setdefault(key, now)
        gone = (self._heard.keys() | self._missed.keys()) - listed.keys()
        for key in gone:
            self._heard.pop(key, None)
            self._missed.pop(key, None)
        return ahead | gone

    def missed(self, now: float) -> list[Key]:
        """Return what the watch has not told although it had the time."""
        return sorted(key for key, since in self._missed.items() if now - since > GRACE_S)

    def _is_news(self, key: Key, version: str) -> bool:
        heard = self._heard.get(key)
        return heard is None or _number(version) > _number(heard.resource_version)


def _number(resource_version: str) -> int:
    # Of one kind of object, a later version has a higher number.
    return int(resource_version) if resource_version.isdecimal() else 0
