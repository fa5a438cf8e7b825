"""`ts.handler_utils.timer`: how long the steps of a handler take, for those who ask."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from flambeau_runtime.worker.metrics import MetricTypes

P = ParamSpec("P")
R = TypeVar("R")


def timed(
    function: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, P], R]:
    """Measure a handler's method as `ts_handler_<method>` in ms.

    Only when model-config.yaml says `handler: {profile: true}`.
    """

    @functools.wraps(function)
    def measured(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:  # noqa: ANN401  any handler
        context: Any = getattr(self, "context", None)
        if not _wants_profile(context):
            return function(self, *args, **kwargs)
        begun = time.perf_counter()
        result = function(self, *args, **kwargs)
        context.metrics.add_metric(
            name=f"ts_handler_{function.__name__}",
            value=(time.perf_counter() - begun) * 1000,
            unit="ms",
            metric_type=MetricTypes.GAUGE,
        )
        return result

    return measured


def _wants_profile(context: object) -> bool:
    settings = (getattr(context, "model_yaml_config", None) or {}).get("handler")
    return isinstance(settings, dict) and bool(settings.get("profile", False))
