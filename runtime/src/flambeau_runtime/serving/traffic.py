"""Who takes a request: weights between the versions of a model, and callers that keep theirs.

Pure but for the dice of `Chance`. A request without a key goes by chance, one with a key always to
the same version as long as the weights stay. Either way it gets a point in [0, 100), and a version
takes what falls into its share of that line; the default version takes the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

from flambeau_runtime.serving.arena import Arena
from flambeau_runtime.serving.desired import ModelSpec, Sticky

ALL = 100
GOLDEN = (5**0.5 - 1) / 2
LONGEST_KEY = 4096
"""Bytes of a key that count."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a version takes: the points in [low, high), in percent."""

    version: str
    low: float
    high: float


def weights_of(model: ModelSpec) -> tuple[tuple[str, int], ...]:
    """Return the versions that shall take requests beside the default one, in document order."""
    return tuple(
        (spec.version, spec.weight)
        for spec in model.versions
        if spec.weight and spec.version != model.default
    )


def lay_out(weights: Iterable[tuple[str, int]]) -> tuple[Share, ...]:
    """Lay the weights out on the line: the first from 0 upwards, the second from 100 downwards.

    So each of two versions can grow into the default's part, which lies between them, and shrink
    again: a caller who moves, moves between it and the default, and no more callers move than must.
    The third is put on the first, the fourth on the second, and so on: the last one of each side,
    which a candidate is as the last of the document, still moves nobody else's callers. An inner
    one that grows pushes those upon it. No rule without a memory can do better: if all of three
    versions kept their callers whatever the two others do, each one would have to lie where neither
    of the others ever comes, but any of them may grow to 100.
    """
    shares = []
    bottom, top = 0.0, float(ALL)
    for index, (version, weight) in enumerate(weights):
        if index % 2 == 0:
            shares.append(Share(version, bottom, bottom + weight))
            bottom += weight
        else:
            shares.append(Share(version, top - weight, top))
            top -= weight
    return tuple(shares)


def point_of(model: str, key: bytes) -> float:
    """Return where a caller stands, in percent; in another model the same one stands elsewhere.

    All runtimes agree, now and after every restart.
    """
    return _point(_salt(model), key)


def _salt(model: str) -> bytes:
    return blake2b(model.encode(), digest_size=16).digest()


def _point(salt: bytes, key: bytes) -> float:
    digest = blake2b(key[:LONGEST_KEY], digest_size=8, key=salt).digest()
    # 53 bits are what a float holds: more could round up to 100, which no share has.
    return (int.from_bytes(digest, "big") >> 11) * (ALL / 2**53)


class Chance:
    """Points spread so evenly that few requests show the weights, at the price of an addition.

    The multiples of the golden ratio: each falls into one of the largest gaps that are left. Of 20
    requests a version with 5 % gets one, or two; a pattern in the requests (every second one is a
    large one) stays spread too, because multiples of the multiples are as even.
    """

    __slots__ = ("_at",)

    def __init__(self, start: float | None = None) -> None:
        # Random, so that the first requests of many runtimes do not all go the same way.
        self._at = random.random() if start is None else start  # noqa: S311

    def point(self) -> float:
        """Return the next point, in [0, 100)."""
        at = self._at + GOLDEN
        self._at = at = at - 1.0 if at >= 1.0 else at
        return at * ALL


class KeyReader:
    """Finds what a caller is known by in a block of headers."""

    __slots__ = ("_cookie", "_needle")

    def __init__(self, sticky: Sticky) -> None:
        self._cookie = None if sticky.cookie is None else sticky.cookie.encode()
        name = "cookie" if sticky.header is None else sticky.header
        self._needle = b"\r\n%b:" % name.lower().encode()

    def read(self, headers: bytes) -> bytes | None:
        r"""Return the key; None when there is none, or an empty one.

        Args:
            headers: `b"\r\nName: value"` per header.
        """
        if self._cookie is None:
            return next(_values(headers, self._needle), b"") or None
        for cookies in _values(headers, self._needle):
            for pair in cookies.split(b";"):
                name, _, value = pair.partition(b"=")
                if name.strip() == self._cookie and value.strip():
                    return value.strip()
        return None


def _values(headers: bytes, needle: bytes) -> Iterator[bytes]:
    lowered = headers.lower()
    at = lowered.find(needle)
    while at >= 0:
        start = at + len(needle)
        end = headers.find(b"\r\n", start)
        yield headers[start : end if end >= 0 else len(headers)].strip()
        at = lowered.find(needle, start)


class Queue(Protocol):
    """The part of a version's queue that a split looks at."""

    arena: Arena | None

    def sequence_of(self, headers: bytes) -> str | None:
        """Return the sequence that a request names; None where it names none."""

    def holds(self, sequence: str) -> bool:
        """Return whether a sequence has begun here and is not over."""


class Taker(Protocol):
    """A version that takes requests."""

    @property
    def queue(self) -> Queue:
        """Where they wait."""


T = TypeVar("T", bound=Taker)


class Split(Generic[T]):
    """The versions of one model that share the requests which name none.

    Args:
        model: its name.
        default: who takes what falls into no share; None: nobody does now.
        parts: the shares of those that can take requests now, and who they are.
        chance: goes on from one Split of a model to the next.
        sticky: what a caller is known by, if by anything.
        stateful: versions that keep sequences, with a weight or without: a sequence that has begun
            stays where its state is.
    """

    __slots__ = ("_chance", "_default", "_parts", "_reader", "_salt", "_stateful")

    def __init__(
        self,
        model: str,
        default: T | None,
        parts: Sequence[tuple[Share, T]],
        chance: Chance,
        sticky: Sticky | None = None,
        stateful: Sequence[T] = (),
    ) -> None:
        self._salt = _salt(model)
        self._default = default
        self._parts = tuple((share.low, share.high, taker) for share, taker in parts)
        self._chance = chance
        self._reader = None if sticky is None else KeyReader(sticky)
        self._stateful = tuple(stateful)

    def pick(self, headers: bytes | None, arena: Arena | None = None) -> T | None:
        r"""Return who takes a request; None: nobody can.

        Args:
            headers: its headers, a line break before each; None: it is no request, and whoever
                stands for the model is wanted.
            arena: where its body lies already, because it was picked when its head was read.
        """
        if headers is None:
            return self._default
        if arena is not None and (owner := self._owner(arena)) is not None:
            return owner
        key = None if self._reader is None else self._reader.read(headers)
        if self._stateful and (sequence := self._stateful[0].queue.sequence_of(headers)):
            for taker in self._stateful:
                if taker.queue.holds(sequence):
                    return taker
            key = key or sequence.encode("latin-1", "replace")
        point = self._chance.point() if key is None else _point(self._salt, key)
        for low, high, taker in self._parts:
            if low <= point < high:
                return taker
        return self._default

    def _owner(self, arena: Arena) -> T | None:
        known = [taker for _, _, taker in self._parts]
        known += [] if self._default is None else [self._default]
        return next((taker for taker in known if taker.queue.arena is arena), None)
