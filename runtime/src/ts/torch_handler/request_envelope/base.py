"""`BaseEnvelope`: between the server and a handler's `handle`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

Anything: TypeAlias = Any
"""Rows, instances, results: each envelope says what it takes and gives."""


class BaseEnvelope(ABC):
    """Unwraps a batch before the handler sees it, and wraps what the handler answers."""

    def __init__(self, handle_fn: Callable[[Anything, Anything], Anything]) -> None:
        self._handle_fn = handle_fn
        self.context: Anything = None

    def handle(self, data: Anything, context: Anything) -> Anything:
        """Answer one batch; nothing is neither unwrapped nor wrapped."""
        self.context = context
        results = self._handle_fn(self.parse_input(data) if data else data, context)
        return self.format_output(results) if results else results

    @abstractmethod
    def parse_input(self, data: Anything) -> Anything:
        """Return what the handler gets."""

    @abstractmethod
    def format_output(self, data: Anything) -> Anything:
        """Return the batch's answers, one for each of its requests."""
