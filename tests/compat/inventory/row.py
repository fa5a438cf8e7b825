"""One row of the inventory: a behaviour of TorchServe 0.12 that someone may rely on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Importance(StrEnum):
    """How many migrations break without it."""

    MUST = "must"
    SHOULD = "should"
    RARE = "rare"


class Mark(StrEnum):
    """How the behaviour is known."""

    VERIFIED = "V"
    """Seen by running TorchServe 0.12.0."""
    SOURCE = "S"
    """Read in its source only."""


class State(StrEnum):
    """How this runtime stands to the row."""

    SAME = "same"
    """Its tests pass on this runtime and on TorchServe."""
    DIFFERENT = "different"
    """Different on purpose, for the reason given; its tests run on this runtime only."""
    MISSING = "missing"
    """Not there, and not planned for the release in hand."""
    OPEN = "open"
    """Not looked at yet. It may have no test: whoever writes the first one sets the state."""


MUST, SHOULD, RARE = Importance
V, S = Mark
SAME, DIFFERENT, MISSING, OPEN = State


@dataclass(frozen=True, slots=True)
class Row:
    """One behaviour.

    Args:
        id: `<section>-<name>`; what `@pytest.mark.row` names. Never changes.
        text: the behaviour in a few words.
        importance: how many migrations break without it.
        mark: how the behaviour is known.
        state: how this runtime stands to it.
        why: the reason, for `different`; what is left to say, for the others.
    """

    id: str
    text: str
    importance: Importance
    mark: Mark
    state: State = OPEN
    why: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The rows of one section."""

    number: str
    title: str
    rows: tuple[Row, ...]
