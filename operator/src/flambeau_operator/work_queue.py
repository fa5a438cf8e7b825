"""Which keys are due: each once, never two passes of one key at a time, back-off per key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau_operator.doors import Key, Result, Watched

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon a key may come again."""

    gap_s: float = 0.02  # between two passes of one key, however many reasons there are
    first_retry_s: float = 0.1  # after a failed pass, doubled for each further one
    last_retry_s: float = 300.0
    jitter: float = 0.2  # look-again times are spread by this share

    def retry_s(self, failures: int) -> float:
        """Return the wait after so many failed passes in a row (1 or more)."""
        return float(min(self.first_retry_s * 2 ** min(failures - 1, 30), self.last_retry_s))


class WorkQueue:
    """Runs one pass after another for each key that is due.

    Args:
        work: one pass; what it raises is logged and retried.
        wait_for_change: returns when one of these pods has something new to say.
        pace: how soon a key may come again.
        parallel: passes of different keys at the same time.
        dice: 0..1, spreads the look-again times.
    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[Result]],
        wait_for_change: Callable[[Sequence[Watched]], Awaitable[None]],
        *,
        pace: Pace | None = None,
        parallel: int = 8,
        dice: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self._work = work
        self._wait_for_change = wait_for_change
        self._pace = pace or Pace()
        self._slots = asyncio.Semaphore(parallel)
        self._dice = dice
        self._due: dict[Key, asyncio.Event] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def keys(self) -> int:
        """How many keys are attended to."""
        return len(self._due)

    @property
    def due(self) -> int:
        """How many of them wait for a pass."""
        return sum(each.is_set() for each in self._due.values())

    def add(self, key: Key) -> None:
        """Make a key due now; a pass that runs already is followed by another one."""
        due = self._due.get(key)
        if due is None:
            due = self._due[key] = asyncio.Event()
            if self._tasks is not None:
                self._tasks.create_task(self._attend(key, due), name=f"passes of {key}")
        due.set()

    async def run(self) -> None:
        """Work until cancelled; a pass in flight is cancelled with it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for key, due in self._due.items():
                    tasks.create_task(self._attend(key, due), name=f"passes of {key}")
                await asyncio.Event().wait()
        finally:
            self._tasks = None

    async def _attend(self, key: Key, due: asyncio.Event) -> None:
        """Give one key its passes for as long as its object lives."""
        failures = 0
        watch: tuple[Watched, ...] = ()
        wait_s: float | None = None  # None: until it is added
        while True:
            await self._until_due(due, watch, wait_s)
            due.clear()
            result = await self._pass(key)
            if result is not None and result.gone and not due.is_set():
                self._due.pop(key, None)
                return
            if result is None or result.failures:
                failures += 1
                watch, wait_s = (), self._pace.retry_s(failures)
            else:
                failures = 0
                watch, wait_s = result.watch, self._spread(result.look_again_s)
            await asyncio.sleep(self._pace.gap_s)

    async def _pass(self, key: Key) -> Result | None:
        """Run one pass; None when it raised."""
        async with self._slots:
            try:
                return await self._work(key)
            except Exception:
                log.exception("pass failed", extra={"key": str(key)})
                return None

    async def _until_due(
        self, due: asyncio.Event, watch: tuple[Watched, ...], wait_s: float | None
    ) -> None:
        """Wait for whichever comes first: an `add`, news from a pod, or the look-again time."""
        if due.is_set():
            return
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(due.wait())]
        if watch:
            waits.append(asyncio.create_task(_quietly(self._wait_for_change(watch))))
        try:
            await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _spread(self, seconds: float) -> float:
        return seconds * (1 + self._pace.jitter * (2 * self._dice() - 1))


async def _quietly(wait: Awaitable[None]) -> None:
    """A watch that fails is the same as no news; the look-again time remains."""
    try:
        await wait
    except Exception:
        log.exception("watch failed")
        await asyncio.Event().wait()
