"""Which devices a worker gets: pure choices from facts, nothing remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flambeau_runtime.archive.model_config import ModelConfig


def permitted(devices: Sequence[int], config: ModelConfig) -> tuple[int, ...]:
    """Return the devices that a model's configuration allows; none means the CPU.

    `deviceIds` with one unknown index is dropped as a whole, as TorchServe does.
    """
    if config.device_type == "cpu":
        return ()
    if config.device_ids and all(index in devices for index in config.device_ids):
        return config.device_ids
    return tuple(devices)


def room_for_workers(devices: Sequence[int], config: ModelConfig) -> int | None:
    """Return how many workers of several devices each there is room for; None: no such bound."""
    allowed = permitted(devices, config)
    if not config.parallel_level or not allowed:
        return None
    return len(allowed) // config.parallel_level


def least_loaded(
    devices: Sequence[int], workers: Mapping[int, int], each: int = 1
) -> tuple[int, ...]:
    """Return the neighbours, `each` of them, with the fewest workers; the first such wins a tie.

    Fewer are left over at the end of the list: nobody gets those. Nothing without devices.
    """
    groups = [tuple(devices[at : at + each]) for at in range(0, len(devices) - each + 1, each)]
    return min(groups, key=lambda group: sum(workers.get(it, 0) for it in group), default=())
