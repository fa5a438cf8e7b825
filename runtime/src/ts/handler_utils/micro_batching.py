"""`ts.handler_utils.micro_batching`: a handler's steps at work on parts of a batch at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

from flambeau_runtime.worker.steps_in_threads import STEPS, Steps

__all__ = ["HANDLER_METHODS", "MicroBatching"]

HANDLER_METHODS = list(STEPS)

Anything: TypeAlias = Any


class MicroBatching:
    """Takes the place of a handler's `handle`: `self.handle = MicroBatching(self)`.

    A batch is cut into parts of `micro_batch_size` rows; each step works on its parts in threads of
    its own, `parallelism` of them (1 unless said), so one part is prepared while another is in the
    model. Explanations and descriptions go through whole.
    """

    def __init__(
        self,
        parent_handler: Anything,
        micro_batch_size: int = 1,
        parallelism: Mapping[str, int] | None = None,
    ) -> None:
        self.handler = parent_handler
        self.micro_batch_size = micro_batch_size
        self._parallelism = dict(parallelism or {})
        self._steps = Steps(parent_handler, self._parallelism)

    @property
    def parallelism(self) -> dict[str, int]:
        """Threads per step, as far as they were said."""
        return dict(self._parallelism)

    @parallelism.setter
    def parallelism(self, parallelism: Mapping[str, int]) -> None:
        self._steps.use(parallelism)
        self._parallelism.update(parallelism)

    def shutdown(self) -> None:
        """End all threads."""
        self._steps.close()

    def get_micro_batch_idx(self) -> int | None:
        """Return, inside a step, which part of the batch it works on."""
        return self._steps.here()

    def handle(self, data: list[Any]) -> list[Any]:
        """Run the three steps on all parts; return the results in the rows' order."""
        size = self.micro_batch_size
        return self._steps.run([data[at : at + size] for at in range(0, len(data), size)])

    def __call__(self, data: list[Any], context: Anything) -> Anything:
        """Answer one batch, as a handler's `handle`."""
        begun = time.perf_counter()
        handler = self.handler
        handler.context = context
        if os.environ.get("ENABLE_TORCH_PROFILER"):
            results, _ = handler._infer_with_profiler(data=data)  # noqa: SLF001  its own handler's
        elif handler._is_describe():  # noqa: SLF001
            results = [handler.describe_handle()]
        elif handler._is_explain():  # noqa: SLF001
            results = handler.explain_handle(handler.preprocess(data), data)
        else:
            results = self.handle(data)
        spent_ms = (time.perf_counter() - begun) * 1000
        context.metrics.add_time("HandlerTime", round(spent_ms, 2), None, "ms")
        return results
