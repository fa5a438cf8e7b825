"""Which device a worker gets: pure choices from facts, nothing remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def permitted(devices: Sequence[int], config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the devices that a model's configuration allows; none means the CPU.

    `deviceIds` with one unknown index is dropped as a whole, as TorchServe does.
    """
    if config.get("deviceType") == "cpu":
        return ()
    chosen = config.get("deviceIds")
    if isinstance(chosen, list) and chosen and all(index in devices for index in chosen):
        return tuple(chosen)
    return tuple(devices)


def least_loaded(devices: Sequence[int], workers: Mapping[int, int]) -> int | None:
    """Return the device with the fewest workers, the lowest of them; None without devices."""
    return min(devices, key=lambda index: (workers.get(index, 0), index), default=None)
