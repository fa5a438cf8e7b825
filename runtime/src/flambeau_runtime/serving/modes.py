"""How a model wants its requests taken together, as its model-config.yaml says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SequenceLimits:
    """How long sequences may live, and how many there may be; 0 s as a timeout: for ever."""

    max_idle_s: float = 0.0
    timeout_s: float = 0.0
    max_count: int = 1
    queue_size: int = 1  # jobs of one sequence that wait behind the one at work


@dataclass(frozen=True, slots=True)
class SequenceHeaders:
    """The headers that say which sequence a request belongs to, and where one begins and ends."""

    id: str = "ts_request_sequence_id"
    start: str = "ts_request_sequence_start"
    end: str = "ts_request_sequence_end"


USUAL_HEADERS = SequenceHeaders()


@dataclass(frozen=True, slots=True)
class Mode:
    """What is special about the requests of a model; nothing about nearly all."""

    continuous: bool = False
    """Rows join and leave a running batch between the calls of the handler."""

    sequences: SequenceLimits | None = None
    """Requests belong to sequences, each of which stays with one worker."""

    concurrent: bool = False
    """The handler is a coroutine, and has many batches at once."""

    job_ticket: bool = False
    """A request is taken only when a worker is idle."""

    client_timeout_s: float | None = None
    """A request that takes longer is of no use to any client; None: each may take its time."""


def read_mode(config: Mapping[str, Any]) -> Mode:
    """Return the mode that a model-config.yaml asks for; what has the wrong type is not said."""
    client_timeout_ms = _positive(config, "clientTimeoutInMills", 0)
    return Mode(
        continuous=config.get("continuousBatching") is True,
        sequences=_read_limits(config) if config.get("sequenceBatching") is True else None,
        concurrent=config.get("asyncCommunication") is True,
        job_ticket=config.get("useJobTicket") is True,
        client_timeout_s=client_timeout_ms / 1000 or None,
    )


def _read_limits(config: Mapping[str, Any]) -> SequenceLimits:
    return SequenceLimits(
        max_idle_s=_positive(config, "sequenceMaxIdleMSec", 0) / 1000,
        timeout_s=_positive(config, "sequenceTimeoutMSec", 0) / 1000,
        max_count=int(_positive(config, "maxNumSequence", 1)),
        queue_size=int(_positive(config, "maxSequenceJobQueueSize", 1)),
    )


def _positive(config: Mapping[str, Any], key: str, otherwise: float) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return otherwise
    return value
