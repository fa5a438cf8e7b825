"""Whether two answers count as the same: JSON by value, everything else byte for byte.

The runtime compares the answers of a shadow by the same rules; tests/contract/ holds both together.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from flambeau_operator.resources.comparison import Comparison

EVERY: Final = "*"
LONGEST_VALUE: Final = 60
MISSING: Final = object()
_STEP: Final = re.compile(r"\.([A-Za-z0-9_-]+)|\[([0-9]+|\*)\]")

Steps = tuple[tuple[bool, str], ...]
"""The way to a place: whether each step is an item of a list, and which item or field."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is special at a place and below it."""

    steps: Steps
    absolute: float = 0.0
    relative: float = 0.0
    ignored: bool = False

    def fits(self, path: Steps) -> bool:
        """Tell whether a place is the rule's own, or below it."""
        if len(path) < len(self.steps):
            return False
        return all(
            item is is_item and (wanted == step or (item and wanted == EVERY))
            for (item, wanted), (is_item, step) in zip(self.steps, path, strict=False)
        )


def difference(old: bytes, new: bytes, rules: Comparison | None) -> str | None:
    """Return how the new answer differs from the old one, in words; None when it does not."""
    if old == new:
        return None
    try:
        before, now = json.loads(old), json.loads(new)
    except ValueError:
        return _bytes_differ(old, new)
    return _differ(before, now, _read(rules or Comparison()), ())


def _read(rules: Comparison) -> tuple[_Rule, ...]:
    ignored = (_Rule(_steps(path), ignored=True) for path in rules.ignore)
    tolerated = (
        _Rule(_steps(each.path), each.absolute or 0.0, each.relative or 0.0)
        for each in rules.tolerances
    )
    return (*ignored, *tolerated)


def _steps(path: str) -> Steps:
    return tuple((not field, field or index) for field, index in _STEP.findall(path))


def _differ(old: Any, new: Any, rules: tuple[_Rule, ...], path: Steps) -> str | None:  # noqa: ANN401  JSON
    rule = next((each for each in rules if each.fits(path)), None)
    if rule is not None and rule.ignored:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        names = dict.fromkeys((*old, *new))
        pairs = [((False, name), old.get(name, MISSING), new.get(name, MISSING)) for name in names]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [((True, str(at)), old[at], new[at]) for at in range(len(old))]
    elif isinstance(old, list) and isinstance(new, list):
        return f"{_written(path)}: {len(new)} items, not {len(old)}"
    else:
        same = _same(old, new, rule)
        return None if same else f"{_written(path)}: {_shown(new)}, not {_shown(old)}"
    found = (_differ(ours, theirs, rules, (*path, step)) for step, ours, theirs in pairs)
    return next((each for each in found if each is not None), None)


def _same(old: Any, new: Any, rule: _Rule | None) -> bool:  # noqa: ANN401  JSON
    if not (_is_number(old) and _is_number(new)):
        return type(old) is type(new) and bool(old == new)
    if old == new or rule is None:
        return bool(old == new)
    apart, larger = abs(old - new), max(abs(old), abs(new))
    return bool(apart <= rule.absolute or apart <= rule.relative * larger)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _written(path: Steps) -> str:
    return "$" + "".join(f"[{step}]" if item else f".{step}" for item, step in path)


def _bytes_differ(old: bytes, new: bytes) -> str:
    if len(old) != len(new):
        return f"{len(new)} bytes, not {len(old)}"
    at = next(index for index, pair in enumerate(zip(old, new, strict=True)) if len(set(pair)) > 1)
    return f"other bytes from byte {at} of {len(old)}"
