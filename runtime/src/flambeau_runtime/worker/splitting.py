"""JSON lists in bodies: one request or many? A setting of the model, or learnt from the handler."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

log = logging.getLogger(__name__)

FEWEST_TO_LEARN = 2
"""A list of one proves nothing when it is accepted whole."""


class Splitting(StrEnum):
    """Whether a JSON list is split into rows and answered as a list."""

    AUTO = "auto"  # whole first; split if the handler raises on the whole; then known for good
    ON = "on"
    OFF = "off"


class SplitPolicy:
    """What is known about the handler of this worker."""

    def __init__(self, splitting: Splitting) -> None:
        self.splitting = splitting

    def concerns(self, data: Sequence[dict[str, Any]]) -> bool:
        """Tell whether any row is a list that may have to be split."""
        if self.splitting is Splitting.OFF:
            return False
        return any(is_list(row) for row in data)

    @property
    def whole_first(self) -> bool:
        """Tell whether the handler is still to be asked about whole lists."""
        return self.splitting is Splitting.AUTO

    def accepted_whole(self, data: Sequence[dict[str, Any]]) -> None:
        """Learn from a batch that the handler took as it was."""
        lengths = [len(row["body"]) for row in data if is_list(row)]
        if max(lengths, default=0) >= FEWEST_TO_LEARN:
            self._learn(Splitting.OFF, "the handler takes JSON lists whole; they are not split")

    def accepted_split(self) -> None:
        """Learn from a list whose elements the handler took after it had refused the whole."""
        self._learn(Splitting.ON, "the handler takes one object at a time; JSON lists are split")

    def _learn(self, splitting: Splitting, what: str) -> None:
        if self.splitting is Splitting.AUTO:
            self.splitting = splitting
            log.info("%s (set splitJsonArrays to decide it yourself)", what)


def is_list(row: dict[str, Any]) -> bool:
    """Tell whether a decoded row is a JSON list."""
    return type(row.get("body")) is list
