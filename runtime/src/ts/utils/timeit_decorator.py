"""`ts.utils.timeit_decorator`: print how long a call took."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def timeit(function: Callable[P, R]) -> Callable[P, R]:
    """Print the seconds, and the seconds of CPU, that each call of the function took."""

    @functools.wraps(function)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        result = function(*args, **kwargs)
        spent, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
        print(f"{function.__name__} took {spent:.4f} s, {cpu:.4f} s of CPU")  # noqa: T201  its purpose
        return result

    return timed
