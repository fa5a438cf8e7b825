"""What a release looked like from outside: the status over time, and who answered meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tests.load import Asked
from tests.up_command import condition


@dataclass(frozen=True, slots=True)
class Moment:
    """How the rollout of a deployment's first model stood, from this time on."""

    at: float  # on the loop's clock
    target: str
    phase: str
    weight: int  # percent of the requests that the target gets
    verdict: str  # of the analysis; empty before the first
    message: str  # the verdict's numbers in words
    requests: int  # that the analysis has counted of the target, in this step
    errors: int


def moments(heard: Iterable[tuple[float, Mapping[str, Any]]], since: float = 0.0) -> list[Moment]:
    """Return every status that was told since a time, as far as it speaks of a rollout."""
    told = ((at, deployment["status"].get("models")) for at, deployment in heard if at >= since)
    return [_moment(at, models[0]) for at, models in told if models]


def _moment(at: float, model: Mapping[str, Any]) -> Moment:
    analysis = model["rollout"].get("analysis") or {}
    new = analysis.get("new") or {}
    return Moment(
        at=at,
        target=model.get("targetVersion", ""),
        phase=model["phase"],
        weight=model.get("weight", 0),
        verdict=analysis.get("verdict", ""),
        message=analysis.get("message", ""),
        requests=new.get("requests", 0),
        errors=new.get("errors", 0),
    )


def weights(seen: Sequence[Moment], target: str) -> list[int]:
    """Return the weights that a version had on its way, in order, each once in a row."""
    return [weight for weight, _ in groupby(each.weight for each in seen if each.target == target)]


def is_rolled_back(deployment: Mapping[str, Any], version: str) -> bool:
    """Return whether this version was taken back, and is not tried again."""
    models = deployment["status"].get("models", ())
    return any(
        each["phase"] == "RolledBack" and each["targetVersion"] == version for each in models
    )


def is_promoted(deployment: Mapping[str, Any], version: str) -> bool:
    """Return whether this version answers in every pod; the previous one may still be loaded."""
    status = deployment["status"]
    return (
        condition(deployment, "RolledOut").get("status") == "True"
        and status.get("observedGeneration") == deployment["generation"]
        and all(each.get("activeVersion") == version for each in status.get("models", ()))
    )


def most_of(share: float, requests: int) -> float:
    """Return how many of so many requests get a share by chance, with three standard deviations."""
    return share * requests + 3 * math.sqrt(share * (1 - share) * requests)


def between(asked: Iterable[Asked], begin: float, end: float) -> Iterator[Asked]:
    """Yield the requests that were sent and answered within a time."""
    return (each for each in asked if begin <= each.sent_at and each.done_at <= end)
