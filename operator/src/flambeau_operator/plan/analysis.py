"""Is the new version worse than the rules of its rollout allow?

Pure, and without memory: the counts of one step in, a verdict in words out. It may be asked as
often as one likes; docs/decisions/0012 says why, and which errors it makes how often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import log

from flambeau_operator.plan import measures
from flambeau_operator.plan.evidence import Count
from flambeau_operator.plan.latency import Histogram, add_latencies, quantile_ms
from flambeau_operator.plan.measures import FALSE_ALARMS, Finding, Side
from flambeau_operator.resources.pod_state import LatencyCounts, Window
from flambeau_operator.resources.rollout import Analysis, Step

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
    return Sample(
        version=version,
        requests=sum(each.requests for each in windows),
        errors=sum(each.errors for each in windows),
        restarts=sum(each.restarts for each in windows),
        latency=latency,
        compared=sum(each.compared for each in windows),
        different=sum(each.different for each in windows),
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
        step: which one it is: at weight 0 no requests are waited for, with a shadow compared
            answers are. None: answers are waited for once there is one.
        steps: how many the rollout has; they share the false alarms.

    Returns:
        FAILED as soon as that is certain, PASSED from `minRequests` on if all limits are kept as
        measured, otherwise WAITING.
    """
    old_side, new_side = _side(old) if old else None, _side(new)
    findings = list(_findings(rules, old_side, new, new_side, steps))
    failed = [each for each in findings if each.failed]
    if failed:
        others = (each.facts for each in findings if not each.failed)
        words = (each.in_words() for each in failed)
        return Judgement(Verdict.FAILED, _message(*words, *others))
    missing = _missing(rules, old_side, new, new_side, step)
    left_out = _left_out(old, new)
    if missing:
        facts = (each.facts for each in findings)
        return Judgement(Verdict.WAITING, _message(*missing, *left_out, *facts))
    broken = [each.in_words() for each in findings if each.complaints]
    kept = [each.facts for each in findings if not each.complaints]
    if broken:
        first = f"no clear result yet: {broken[0]}"
        return Judgement(Verdict.WAITING, _message(first, *broken[1:], *kept, *left_out))
    return Judgement(Verdict.PASSED, _message(*kept, *left_out))


def _side(sample: Sample) -> Side:
    requests = max(0, sample.requests)
    return Side(
        requests=requests,
        errors=min(max(0, sample.errors), requests),
        restarts=max(0, sample.restarts),
        latency=Histogram(sample.latency),
    )


def _compared(sample: Sample) -> Count:
    compared = max(0, sample.compared)
    return Count(min(max(0, sample.different), compared), compared)


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
    least, limits = rules.min_requests, rules.fail_on
    counted: list[tuple[int, str]] = []
    if step is None or step.weight > 0:
        counted.append((new.requests, "requests"))
        if measures.judges_latency(limits):
            counted.append((new.latency.total, "measured latencies"))
        if old is not None and measures.compares(limits):
            counted.append((old.requests, "requests of the old version"))
        if old is not None and measures.compares_latency(limits):
            counted.append((old.latency.total, "measured latencies of the old version"))
    shadowed = step.shadow > 0 if step else sample.compared > 0
    if limits.answers is not None and shadowed:
        counted.append((max(0, sample.compared), "compared answers"))
    return [f"{count:,} of {least:,} {what}" for count, what in counted if count < least]


def _left_out(*samples: Sample | None) -> list[str]:
    pods = max((each.left_out for each in samples if each), default=0)
    return [f"latency of {pods} pods left out: other buckets"] if pods else []


def _message(*findings: str) -> str:
    return measures.join(findings)
