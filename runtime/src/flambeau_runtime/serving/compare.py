"""Are two answers the same? JSON by value, with tolerances by path; all else byte for byte.

Pure. A comparison goes on in small steps, because it is nobody's request: whoever asks for it can
do something else in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from flambeau_runtime.serving.desired import Shadow
from flambeau_runtime.serving.job import Prediction

LARGEST_JSON_BYTES = 256 * 1024
"""Longer answers are the same byte for byte, or nobody can say."""
SHOWN_CHARACTERS = 60

EVERY = "*"
_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[([0-9]+|\*)\]")

Step = str | int
"""A field's name, or an item's index; EVERY stands for each item."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is special from one place downwards: by how much numbers may differ, or ignored."""

    steps: tuple[tuple[bool, Step], ...]  # whether it is an item, and which
    absolute: float = 0.0
    relative: float = 0.0
    ignore: bool = False
    order: int = 0  # of those that fit a place the lowest counts, however deep it was met


def read_rules(shadow: Shadow) -> tuple[Rule, ...]:
    """Return the rules of a shadow; of those that fit a place the first one counts."""
    ignored = [Rule(_steps(path), ignore=True) for path in shadow.ignore]
    tolerated = [Rule(_steps(it.path), it.absolute, it.relative) for it in shadow.tolerances]
    rules = enumerate((*ignored, *tolerated))
    return tuple(replace(rule, order=order) for order, rule in rules)


def _steps(path: str) -> tuple[tuple[bool, Step], ...]:
    """Read `$.scores[*].value`; the document's own check has let it pass."""
    return tuple(
        (False, field) if field else (True, index if index == EVERY else int(index))
        for field, index in _STEP.findall(path)
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A pair of values, the way to it, and the rules that may still come to matter below."""

    path: tuple[tuple[bool, Step], ...]
    real: Any
    copy: Any
    rules: tuple[Rule, ...] = ()
    rule: Rule | None = None

    def child(self, *, item: bool, step: Step, real: Any, copy: Any) -> _Place:  # noqa: ANN401  JSON
        depth = len(self.path)
        fitting = tuple(rule for rule in self.rules if _fits(rule, depth, item=item, step=step))
        arrived = [rule for rule in fitting if len(rule.steps) == depth + 1]
        known = [*arrived, *([self.rule] if self.rule else [])]
        rule = min(known, key=lambda rule: rule.order, default=None)
        return _Place((*self.path, (item, step)), real, copy, fitting, rule)


def _fits(rule: Rule, depth: int, *, item: bool, step: Step) -> bool:
    if len(rule.steps) <= depth:
        return False
    is_item, wanted = rule.steps[depth]
    return is_item is item and (wanted == step or (item and wanted == EVERY))


_MISSING = object()


class Comparison:
    """Two answers that are held against each other.

    Attributes:
        difference: the first one in words, once there is one.
        undecided: nobody can say within bounds.
    """

    __slots__ = ("_open", "difference", "undecided")

    def __init__(self, real: Prediction, copy: Prediction, rules: tuple[Rule, ...]) -> None:
        """Begin; what can be seen at a glance is decided here."""
        self.difference: str | None = None
        self.undecided = False
        self._open: list[Iterator[_Place]] = []
        if real.status != copy.status:
            self.difference = f"status {copy.status}, not {real.status}"
        elif real.body != copy.body:
            self._look_into(real.body, copy.body, rules)

    def _look_into(
        self,
        real: bytes | bytearray | memoryview,
        copy: bytes | bytearray | memoryview,
        rules: tuple[Rule, ...],
    ) -> None:
        if max(len(real), len(copy)) > LARGEST_JSON_BYTES:
            self.undecided = True
            return
        try:
            values = orjson.loads(real), orjson.loads(copy)
        except orjson.JSONDecodeError:
            self.difference = _bytes_differ(real, copy)
            return
        whole = next((rule for rule in rules if not rule.steps), None)
        self._open.append(iter((_Place((), *values, rules, whole),)))

    def step(self, places: int) -> bool:
        """Look at so many places more; return whether all is said."""
        for _ in range(places):
            if self.difference is not None or not self._open:
                break
            place = next(self._open[-1], None)
            if place is None:
                self._open.pop()
            else:
                self._look_at(place)
        return self.difference is not None or not self._open

    def _look_at(self, place: _Place) -> None:
        real, copy, rule = place.real, place.copy, place.rule
        if rule is not None and rule.ignore:
            return
        if isinstance(real, dict) and isinstance(copy, dict):
            self._open.append(_fields(place))
        elif isinstance(real, list) and isinstance(copy, list) and len(real) == len(copy):
            self._open.append(_items(place))
        elif isinstance(real, list) and isinstance(copy, list):
            self._differ(place, f"{len(copy)} items, not {len(real)}")
        elif not _same(real, copy, rule):
            self._differ(place, f"{_shown(copy)}, not {_shown(real)}")

    def _differ(self, place: _Place, words: str) -> None:
        self.difference = f"{_written(place.path)}: {words}"


def _fields(place: _Place) -> Iterator[_Place]:
    for name in dict.fromkeys((*place.real, *place.copy)):
        real, copy = place.real.get(name, _MISSING), place.copy.get(name, _MISSING)
        yield place.child(item=False, step=name, real=real, copy=copy)


def _items(place: _Place) -> Iterator[_Place]:
    for index, (real, copy) in enumerate(zip(place.real, place.copy, strict=True)):
        yield place.child(item=True, step=index, real=real, copy=copy)


def _same(real: Any, copy: Any, rule: Rule | None) -> bool:  # noqa: ANN401  JSON
    if not (_is_number(real) and _is_number(copy)):
        return type(real) is type(copy) and bool(real == copy)
    if real == copy or rule is None:
        return bool(real == copy)
    apart = abs(real - copy)
    return bool(apart <= rule.absolute or apart <= rule.relative * max(abs(real), abs(copy)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    if value is _MISSING:
        return "nothing"
    text = orjson.dumps(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _written(path: Iterable[tuple[bool, Step]]) -> str:
    steps = (f"[{step}]" if item else f".{str(step)[:SHOWN_CHARACTERS]}" for item, step in path)
    return "$" + "".join(steps)


def _bytes_differ(
    real: bytes | bytearray | memoryview, copy: bytes | bytearray | memoryview
) -> str:
    if len(real) != len(copy):
        return f"{len(copy)} bytes, not {len(real)}"
    at = next(
        index for index, (one, other) in enumerate(zip(real, copy, strict=True)) if one != other
    )
    return f"other bytes from byte {at} of {len(real)}"
