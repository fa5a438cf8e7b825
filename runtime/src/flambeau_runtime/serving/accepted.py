"""The document this runtime last accepted: its fence, its file, and the boot file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.settings import Limits, Managed


class AcceptedDocument:
    """Async context manager of a managed runtime; owns the task that watches the boot file.

    Entering boots: the higher sequence of the last accepted document and the boot file is wanted.
    `raw` is that document as it came; `public_keys` are those of the boot file.
    """

    raw: dict[str, Any] | None
    public_keys: tuple[str, ...]

    def __init__(
        self, managed: Managed, state_dir: Path, limits: Limits, converger: Converger
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    async def offer(self, body: bytes) -> int:
        """Accept a document: fence, file, then the converger; return its sequence.

        Raises:
            InvalidDocument: wrong fields; nothing changed.
            StaleDocument: refused by the fence.
        """
        raise NotImplementedError


OnKeys = Callable[[tuple[str, ...]], None]
