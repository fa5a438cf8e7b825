"""Counts since a word of the document changed: what one step of a rollout is judged by.

Nothing of this is on the way of a request. A window remembers what the running counters said when
it began, and a version that was loaded anew within it goes on from what the earlier one had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import add, sub

from flambeau_runtime.serving.counters import FINE_BUCKETS_MS, Counters
from flambeau_runtime.serving.desired import Document
from flambeau_runtime.serving.steps import Key

NO_LATENCY = (0,) * (len(FINE_BUCKETS_MS) + 1)
NO_NUMBERS = (0,) * 7


@dataclass(frozen=True, slots=True)
class Counts:
    """What a version did: answers, and copies as a shadow."""

    numbers: tuple[int, ...] = NO_NUMBERS
    latency: tuple[int, ...] = NO_LATENCY  # per bucket of FINE_BUCKETS_MS

    @classmethod
    def of(cls, counters: Counters, restarts: int) -> Counts:
        """Read what has been counted so far."""
        copies = counters.copies
        numbers = (
            counters.requests,
            counters.errors,
            restarts,
            copies.answered,
            copies.errors,
            copies.compared,
            copies.different,
        )
        return cls(numbers, tuple(counters.latency.counts))

    def __add__(self, other: Counts) -> Counts:
        """Return both together."""
        return self._each(add, other)

    def __sub__(self, other: Counts) -> Counts:
        """Return what has come since."""
        return self._each(sub, other)

    def _each(self, do: Callable[[int, int], int], other: Counts) -> Counts:
        return Counts(
            tuple(map(do, self.numbers, other.numbers)),
            tuple(map(do, self.latency, other.latency)),
        )


@dataclass(frozen=True, slots=True)
class Window:
    """One version's counts since its window began, in which it has answered."""

    id: str
    requests: int
    errors: int
    restarts: int
    copies: int
    copy_errors: int
    compared: int
    different: int
    difference: str
    latency: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """A version that has workers: its counters, its restarts, and whether it is ready."""

    counters: Counters
    restarts: int
    ready: bool


class _Count:
    """One version in one window."""

    def __init__(self, word: str) -> None:
        self.word = word
        self._before = Counts()  # of earlier lives of the version
        self._earlier = ""  # difference, of those
        self._base: Counts | None = None  # when this life began to count; None: not yet
        self._counters: Counters | None = None
        self._restarts = 0

    def follow(self, present: Present | None) -> None:
        """Look at the version: it may have become ready, or be another one under its name."""
        if present is None:
            return
        if present.counters is not self._counters:
            self._before, self._earlier = self.so_far(), self.difference
            self._base, self._counters = None, present.counters
        self._restarts = present.restarts
        if self._base is None and present.ready:
            # From here on: what warms a version up is slow, and says nothing about it.
            self._base = Counts.of(present.counters, present.restarts)
            present.counters.copies.difference = ""

    def so_far(self) -> Counts:
        if self._counters is None or self._base is None:
            return self._before
        return self._before + (Counts.of(self._counters, self._restarts) - self._base)

    @property
    def difference(self) -> str:
        if self._counters is None or self._base is None:
            return self._earlier
        return self._earlier or self._counters.copies.difference


class Windows:
    """The windows of every version that is wanted of a model which has one."""

    def __init__(self) -> None:
        self._counts: dict[Key, _Count] = {}

    def follow(self, wanted: Document, present: Mapping[Key, Present]) -> None:
        """Open, go on with and forget windows as the document says."""
        words = {
            (spec.model, spec.version): model.window
            for model in wanted.models
            if model.window is not None
            for spec in model.versions
        }
        self._drop(self._counts.keys() - words.keys())
        for key, word in words.items():
            count = self._counts.get(key)
            if count is None or count.word != word:
                count = self._counts[key] = _Count(word)
            count.follow(present.get(key))

    def _drop(self, keys: Iterable[Key]) -> None:
        for key in keys:
            del self._counts[key]

    def of(self, key: Key) -> Window | None:
        """Return one version's window; None: its model has none."""
        count = self._counts.get(key)
        if count is None:
            return None
        now = count.so_far()
        requests, errors, restarts, copies, copy_errors, compared, different = now.numbers
        return Window(
            count.word,
            requests,
            errors,
            restarts,
            copies,
            copy_errors,
            compared,
            different,
            count.difference,
            now.latency,
        )
