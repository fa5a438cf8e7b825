"""`ts.handler_utils.timer`: how long the steps of a handler take, for those who ask."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def timed(
    function: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, P], R]:
    """Measure a handler's method as `ts_handler_<method>` in ms.

    Only when model-config.yaml says `handler: {profile: true}`. On a GPU the work that the method
    left in the queue counts, too.
    """

    @functools.wraps(function)
    def measured(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:  # noqa: ANN401  any handler
        context: Any = getattr(self, "context", None)
        if not _wants_profile(context):
            return function(self, *args, **kwargs)
        _wait_for_gpu()
        begun = time.perf_counter()
        result = function(self, *args, **kwargs)
        _wait_for_gpu()
        spent_ms = (time.perf_counter() - begun) * 1000
        context.metrics.add_time(f"ts_handler_{function.__name__}", spent_ms)
        return result

    return measured


def _wants_profile(context: object) -> bool:
    settings = (getattr(context, "model_yaml_config", None) or {}).get("handler")
    return isinstance(settings, dict) and bool(settings.get("profile", False))


def _wait_for_gpu() -> None:
    torch: Any = sys.modules.get("torch")  # a handler of another library has none to wait for
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
