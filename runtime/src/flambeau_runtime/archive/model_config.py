"""The server's part of model-config.yaml: each key read with TorchServe's tolerance.

A value of another type counts as not said, and so does one out of range; each leaves a sentence.
Everything else in the file is the handler's (`context.model_yaml_config`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

LARGEST_INT = 2**31 - 1
"""TorchServe reads whole numbers as Java's `Integer`; a larger one is of another type to it."""

PARALLEL_TYPES = ("", "pp", "tp", "pptp", "custom")
DEVICE_TYPES = ("", "cpu", "gpu")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a model-config.yaml says to the server; None: nothing.

    `is_there` also for a file that says nothing to the server: TorchServe gives such a model other
    timeouts than one without a file. `oddities` are sentences about values that were not taken.
    """

    is_there: bool = False
    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    max_retry_timeout_s: int = 300
    client_timeout_ms: int = 0
    job_queue_size: int | None = None
    device_type: str = ""
    device_ids: tuple[int, ...] = ()
    parallel_type: str = ""
    parallel_level: int = 0
    use_job_ticket: bool = False
    use_venv: bool = False
    oddities: tuple[str, ...] = ()

    @property
    def worker_bounds(self) -> tuple[int, int] | None:
        """Workers at least and at most; None unless both are there and make sense together."""
        least, most = self.min_workers, self.max_workers
        return None if least is None or most is None or most < least else (least, most)

    @property
    def devices_per_worker(self) -> int:
        """How many devices each worker gets where there are any."""
        return self.parallel_level or 1


NO_CONFIG = ModelConfig()


class _NotTaken(Exception):
    """The value has the right type, but cannot be."""


def _at_least(bound: int) -> Callable[[int], int]:
    def take(number: int) -> int:
        if number < bound:
            raise _NotTaken
        return number

    return take


def _raised_to(bound: int) -> Callable[[int], int]:
    return lambda number: max(number, bound)


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def take(word: str) -> str:
        if word not in words:
            raise _NotTaken
        return word

    return take


def _indices(items: list[object]) -> tuple[int, ...]:
    if not all(_is(item, int) for item in items):
        raise _NotTaken
    return tuple(item for item in items if isinstance(item, int))


def _as_it_is(value: bool) -> bool:
    return value


@dataclass(frozen=True, slots=True)
class _Key:
    """One key: the field it fills, its type, that type in words, and what becomes of a value."""

    field: str
    type: type
    words: str
    take: Callable[[Any], object]


_KEYS: Mapping[str, _Key] = {
    "minWorkers": _Key("min_workers", int, "integer", _raised_to(1)),
    "maxWorkers": _Key("max_workers", int, "integer", _at_least(0)),
    "batchSize": _Key("batch_size", int, "integer", _raised_to(1)),
    "maxBatchDelay": _Key("max_batch_delay_ms", int, "integer", _at_least(0)),
    "responseTimeout": _Key("response_timeout_s", int, "integer", _at_least(1)),
    "startupTimeout": _Key("startup_timeout_s", int, "integer", _at_least(1)),
    "maxRetryTimeoutInSec": _Key("max_retry_timeout_s", int, "integer", _raised_to(0)),
    "clientTimeoutInMills": _Key("client_timeout_ms", int, "positive long", _raised_to(0)),
    "jobQueueSize": _Key("job_queue_size", int, "positive int", _raised_to(0)),
    "deviceType": _Key("device_type", str, "cpu, or gpu", _one_of(DEVICE_TYPES)),
    "deviceIds": _Key("device_ids", list, "list of integer", _indices),
    "parallelType": _Key("parallel_type", str, "pp, tp,or pptp", _one_of(PARALLEL_TYPES)),
    "parallelLevel": _Key("parallel_level", int, "integer", _at_least(0)),
    "useJobTicket": _Key("use_job_ticket", bool, "true or false", _as_it_is),
    "useVenv": _Key("use_venv", bool, "true or false", _as_it_is),
}


def read_model_config(content: Mapping[str, Any]) -> ModelConfig:
    """Return what a model-config.yaml says to the server; empty content is no file."""
    found: dict[str, Any] = {}
    oddities = []
    for name, key in _KEYS.items():
        if name not in content:
            continue
        value = content[name]
        if not _is(value, key.type):
            oddities.append(f"Invalid {name}: {value}, should be {key.words}")
            continue
        try:
            found[key.field] = key.take(value)
        except _NotTaken:
            oddities.append(f"Invalid {name}:{value}")
    config = ModelConfig(is_there=bool(content), oddities=tuple(oddities), **found)
    return _whole(config, content)


def _whole(config: ModelConfig, content: Mapping[str, Any]) -> ModelConfig:
    """Return the config with what one key says through another."""
    config = replace(
        config,
        max_batch_delay_ms=config.max_batch_delay_ms or None,  # 0 is "not said" in a file
        job_queue_size=config.job_queue_size or None,
    )
    torchrun = content.get("torchrun")
    level = torchrun.get("nproc-per-node") if isinstance(torchrun, dict) else None
    if isinstance(level, int) and not isinstance(level, bool):
        config = replace(config, parallel_level=level)
    if not config.parallel_level or not config.parallel_type:
        return replace(config, parallel_level=0, parallel_type="")
    return config


def _is(value: object, wanted: type) -> bool:
    """Whether a value is of that very type: true and false are no numbers here."""
    if wanted is int:
        return type(value) is int and -LARGEST_INT - 1 <= value <= LARGEST_INT
    return isinstance(value, wanted)
