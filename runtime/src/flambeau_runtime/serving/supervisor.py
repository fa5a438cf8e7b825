"""Who owns every worker process: starts them, sees them die, and leaves none behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from flambeau_runtime.archive.package import Package
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.settings import Settings

OnMetrics = Callable[[VersionSpec, Sequence[Mapping[str, Any]]], None]
"""Takes what a handler measured."""


class Supervisor:
    """Async context manager around all workers of this process.

    Entering starts the template process, whose import of torch runs beside everything else; leaving
    stops every worker.

    `changed` holds callbacks without arguments, called whenever any fact about any worker changes.
    """

    changed: list[Callable[[], None]]

    def __init__(self, settings: Settings, on_metrics: OnMetrics | None = None) -> None:
        self.changed = []
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

    def add(self, spec: VersionSpec, package: Package) -> LiveVersion:
        """Bring a version to life: its queue opens and `spec.workers` workers start."""
        raise NotImplementedError

    async def remove(self, live: LiveVersion, timeout_s: float | None = None) -> None:
        """Drain a version (default: the settings' drain timeout) and forget it."""
        raise NotImplementedError

    def pids(self) -> tuple[int, ...]:
        """Process ids of all workers that exist now."""
        raise NotImplementedError
