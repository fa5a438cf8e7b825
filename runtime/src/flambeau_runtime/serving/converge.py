"""Turns what is wanted into what is: asks `plan_steps` again and again, and carries it out."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from flambeau_runtime.archive.store import Store
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.desired import Document
from flambeau_runtime.serving.supervisor import Supervisor


class Converger:
    """Async context manager; owns the task that converges and the tasks that fetch, warm and drain.

    Enter it after the supervisor and leave it before: leaving stops converging, workers stay.
    """

    def __init__(self, catalogue: Catalogue, supervisor: Supervisor, store: Store) -> None:
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

    def want(self, document: Document, *, cautious: bool = False) -> None:
        """Replace the wish; `cautious` (a boot) lets candidates wait until the defaults serve."""
        raise NotImplementedError

    async def settled(self, model: str, version: str, timeout_s: float) -> bool:
        """Wait until the version is as wanted; return whether it is in time.

        Raises:
            LoadFailed: it failed (and is retried as long as it stays wanted).
            VersionNotFound, ModelNotFound: it is not wanted any more.
        """
        raise NotImplementedError

    async def gone(self, model: str, version: str | None, timeout_s: float) -> bool:
        """Wait until a version (None: every version) that is not wanted any more is unloaded."""
        raise NotImplementedError
