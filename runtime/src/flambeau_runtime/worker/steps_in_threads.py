"""A batch in parts through preprocess, inference and postprocess, each in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeAlias

STEPS = ("preprocess", "inference", "postprocess")

Part: TypeAlias = Any
"""What one step of a handler hands to the next."""


class Steps:
    """Runs a handler's three steps; while one part is in one step, others are in the others."""

    def __init__(self, handler: object, threads: Mapping[str, Any]) -> None:
        self._handler = handler
        self._threads = dict.fromkeys(STEPS, 1)
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._here = threading.local()
        self.use(threads)

    def use(self, threads: Mapping[str, Any]) -> None:
        """Give the named steps so many threads from the next batch on.

        Raises:
            ValueError: no such step, or no whole number above 0.
        """
        for step, count in threads.items():
            if step not in STEPS:
                raise ValueError(f"parallelism: {step!r} is none of {', '.join(STEPS)}")
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"parallelism: {step} needs 1 thread or more, not {count!r}")
        self.close()
        self._threads.update(threads)

    def run(self, parts: Sequence[Part]) -> list[Any]:
        """Return the results of all parts, joined in their order.

        Raises:
            Exception: what a step raised on the first part that failed, when all are done.
        """
        if not self._pools:  # not before: a process may fork between making and using a handler
            self._pools = {
                step: ThreadPoolExecutor(self._threads[step], thread_name_prefix=step)
                for step in STEPS
            }
        ends: list[Future[Any]] = [Future() for _ in parts]
        for index, (part, end) in enumerate(zip(parts, ends, strict=True)):
            self._enter(0, index, part, end)
        for end in ends:
            end.exception()  # nothing of this batch runs on when its answer is given
        return list(chain.from_iterable(end.result() for end in ends))

    def close(self) -> None:
        """End all threads; the next batch makes new ones."""
        for pool in self._pools.values():
            pool.shutdown()
        self._pools = {}

    def here(self) -> int | None:
        """Return the index of the part that the calling thread works on."""
        return getattr(self._here, "index", None)

    def _enter(self, at: int, index: int, part: Part, end: Future[Any]) -> None:
        self._pools[STEPS[at]].submit(self._go_through, at, index, part, end)

    def _go_through(self, at: int, index: int, part: Part, end: Future[Any]) -> None:
        self._here.index = index
        try:
            done = getattr(self._handler, STEPS[at])(part)
        except BaseException as error:  # noqa: BLE001  raised again where the batch is awaited
            end.set_exception(error)
            return
        if at + 1 < len(STEPS):
            self._enter(at + 1, index, done, end)
        else:
            end.set_result(done)
