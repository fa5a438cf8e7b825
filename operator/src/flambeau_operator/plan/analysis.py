"""Is the new version worse than the rules of its rollout allow?

Pure, and without memory: the counts of one step in, a verdict in words out. It may be asked as
often as one likes; docs/decisions/0012 says why, and which errors it makes how often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import log

from flambeau_operator.plan import measures
from flambeau_operator.plan.evidence import Count
from flambeau_operator.plan.latency import MOST, Histogram, add_latencies, quantile_ms
from flambeau_operator.plan.measures import FALSE_ALARMS, Finding, Side, join, plural
from flambeau_operator.resources.pod_state import LatencyCounts, Window
from flambeau_operator.resources.rollout import Analysis, FailOn, Step

__all__ = ["Judgement", "Sample", "Verdict", "add_up", "analyse", "quantile_ms"]


class Verdict(StrEnum):
    """What the numbers of a step say."""

    WAITING = "Waiting"
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"  # given by the caller, after `maxWait`


@dataclass(frozen=True, slots=True)
class Sample:
    """What one version did in one step, over all pods."""

    version: str
    requests: int
    errors: int
    restarts: int
    latency: LatencyCounts
    compared: int = 0
    different: int = 0
    difference: str = ""
    left_out: int = 0  # pods whose latency has other buckets than most, and is missing


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and the numbers it comes from, in words."""

    verdict: Verdict
    message: str  # at most 300 characters


def add_up(version: str, windows: Iterable[Window]) -> Sample:
    """Return what all pods counted of a version together, in whatever order they come."""
    windows = list(windows)
    latency, left_out = add_latencies(each.latency for each in windows)

    def total(read: Callable[[Window], int]) -> int:
        return sum(max(0, read(each)) for each in windows)

    return Sample(
        version=version,
        requests=total(lambda it: it.requests),
        errors=total(lambda it: it.errors),
        restarts=total(lambda it: it.restarts),
        latency=latency,
        compared=total(lambda it: it.compared),
        different=total(lambda it: it.different),
        difference=min((each.difference for each in windows if each.difference), default=""),
        left_out=left_out,
    )


def analyse(
    rules: Analysis,
    old: Sample | None,
    new: Sample,
    *,
    step: Step | None = None,
    steps: int = 4,
) -> Judgement:
    """Return what the counts of one step say about the new version.

    Args:
        rules: the limits, and how many requests a result needs.
        old: the replaced version in the same time; None if there is nothing to compare with.
        new: the new version.
        step: which one it is. Without weight and shadow no requests are waited for, with a shadow
            compared answers are. None: one with a weight.
        steps: how many the rollout has; they share the false alarms.

    Returns:
        FAILED as soon as that is certain, PASSED from `minRequests` on if all limits are kept as
        measured, otherwise WAITING.
    """
    old_side, new_side = _side(old) if old else None, _side(new)
    findings = list(_findings(rules, old_side, new, new_side, steps))
    left_out = _left_out(old, new)
    failed = [each for each in findings if each.failed]
    if failed:
        others = (each.facts for each in findings if not each.failed)
        words = (each.in_words() for each in failed)
        return Judgement(Verdict.FAILED, join([*words, *others]))
    missing = _missing(rules, old_side, new, new_side, step)
    if missing:
        facts = (each.facts for each in findings)
        return Judgement(Verdict.WAITING, join([*missing, *left_out, *facts]))
    kept = [each.facts for each in findings if not each.complaints]
    broken = [each.in_words() for each in findings if each.complaints]
    if broken:
        first = f"no clear result yet: {broken[0]}"
        return Judgement(Verdict.WAITING, join([first, *broken[1:], *kept, *left_out]))
    return Judgement(Verdict.PASSED, join([*kept, *left_out]))


def _side(sample: Sample) -> Side:
    requests = _read(sample.requests)
    return Side(
        requests=requests,
        errors=min(_read(sample.errors), requests),
        restarts=_read(sample.restarts),
        latency=Histogram(sample.latency),
    )


def _compared(sample: Sample) -> Count:
    compared = _read(sample.compared)
    return Count(min(_read(sample.different), compared), compared)


def _read(count: int) -> int:
    return min(max(0, count), MOST)  # what a pod says is no reason to fall over


def _findings(
    rules: Analysis, old: Side | None, sample: Sample, new: Side, steps: int
) -> Iterator[Finding]:
    limits = rules.fail_on
    needed = log(max(1, measures.limits(limits)) * max(1, steps) / FALSE_ALARMS)
    yield measures.errors(limits.error_rate, old, new, needed)
    yield from measures.latencies(limits, old, new, needed)
    if limits.answers is not None and sample.compared > 0:
        most, example = limits.answers.max_different, sample.difference
        yield measures.answers(most, _compared(sample), example, needed)
    if limits.worker_restarts is not None:
        yield measures.restarts(limits.worker_restarts.max, old, new)


def _missing(
    rules: Analysis, old: Side | None, sample: Sample, new: Side, step: Step | None
) -> list[str]:
    counted: list[tuple[int, str]] = []
    if step is None or step.weight > 0 or step.shadow > 0:
        counted += _requests(rules.fail_on, old, new)
    shadowed = step.shadow > 0 if step else sample.compared > 0
    if rules.fail_on.answers is not None and shadowed:
        counted.append((_read(sample.compared), "compared answers"))
    least = rules.min_requests
    return [f"{count:,} of {least:,} {what}" for count, what in counted if count < least]


def _requests(limits: FailOn, old: Side | None, new: Side) -> Iterator[tuple[int, str]]:
    yield new.requests, "requests"
    if measures.judges_latency(limits):
        yield new.latency.total, "measured latencies"
    if old is not None and measures.compares(limits):
        yield old.requests, "requests of the old version"
    if old is not None and measures.compares_latency(limits):
        yield old.latency.total, "measured latencies of the old version"


def _left_out(*samples: Sample | None) -> list[str]:
    pods = max((each.left_out for each in samples if each), default=0)
    return [f"without the latency of {plural(pods, 'pod')} with other buckets"] if pods else []
