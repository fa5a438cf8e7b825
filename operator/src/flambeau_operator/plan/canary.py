"""The steps of a canary: what each asks of the pods, and what it has shown so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from flambeau_operator.plan.analysis import (
    Judgement,
    Sample,
    Verdict,
    add_up,
    analyse,
    quantile_ms,
)
from flambeau_operator.plan.entries import shadow_of
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.standing import Standing
from flambeau_operator.resources.deployment_status import AnalysisStatus, Measured
from flambeau_operator.resources.pod_state import ShadowEntry, Swap, Window
from flambeau_operator.resources.rollout import ALL, Analysis, FailOn, Hot, Step

NUMBERS_EVERY_S = 10.0
"""How often a verdict that stays the same gets new numbers in the status."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One step, as the pods are asked for it."""

    index: int
    step: Step
    window: str  # the word by which pods know it
    weight: int  # percent of all requests that name no version
    shadow: ShadowEntry | None
    steps: int = 1  # how many there are
    started_at: datetime | None = None  # since when every pod has it
    analysis: AnalysisStatus | None = None


def steps_of(hot: Hot, standing: Standing) -> tuple[Step, ...]:
    """Return the steps that this candidate takes; none: straight to all of the requests.

    Back to the version that is still kept is no canary: it has served before.
    """
    if hot.steps is None or standing.beside or standing.active is None or standing.is_kept:
        return ()
    last = hot.steps[-1]
    # What lasts no time and is looked at by nobody is the promotion itself.
    return hot.steps if last.pause_s or last.shadow else hot.steps[:-1]


def enter(standing: Standing, steps: Sequence[Step], index: int, hot: Hot) -> Canary:
    """Return a step that begins now."""
    step = steps[index]
    answers = hot.analysis.fail_on.answers if hot.analysis else None
    return Canary(
        index=index,
        step=step,
        window=f"{standing.hash}.{index}",
        weight=_weight(standing, step.weight),
        shadow=shadow_of(standing.target.version, step.shadow, answers) if step.shadow else None,
        steps=len(steps),
    )


def _weight(standing: Standing, weight: int) -> int:
    """Return the candidate's share of all requests: a split's other versions keep theirs.

    It has no less than it had as one of them.
    """
    split = standing.model.split
    others = sum(each.weight for each in split.versions) if split else 0
    own = ALL - others
    before = standing.held.weight if standing.held else 0
    share = max(weight * own // ALL, 1) if weight else 0
    return min(max(share, before), own)


def pods_of_step(canary: Canary | None, pods: int) -> int:
    """Return how many pods have the candidate where a pod has one version at a time."""
    return pods if canary is None else min(max(ceil(canary.step.weight * pods / ALL), 1), pods)


def workers_of_step(canary: Canary | None, workers: int) -> int:
    """Return how many of a pod's workers are the candidate's where their number may not grow.

    One of each stays until the promotion: the candidate must be there, and the way back too.
    """
    share = 0 if canary is None else round(canary.step.weight * workers / ALL)
    return min(max(share, 1), workers - 1)


def has_step(pod: Reporter, standing: Standing, canary: Canary) -> bool:
    """Tell whether a pod counts in this step's window, and gives the weight that it asks for."""
    seen = pod.seen(standing.name, standing.target.version)
    return seen is not None and seen.window is not None and seen.window.id == canary.window


def judge(
    standing: Standing, fleet: Fleet, canary: Canary, rules: Analysis, mode: Swap, now: datetime
) -> AnalysisStatus:
    """Look at what both versions did since the step began."""
    new = _sample(standing.target.version, standing, fleet, canary)
    compared = standing.active is not None and _leaves_some(canary, len(fleet.present), mode)
    old = (
        _sample(standing.active.version, standing, fleet, canary)
        if standing.active and compared
        else None
    )
    if canary.step.weight == 0:
        new, old, rules = _of_copies(new, standing, fleet, canary), None, _of_answers(rules)
    found = analyse(rules, old, new, step=canary.step, steps=canary.steps)
    found = _in_time(found, canary, rules, now)
    status = AnalysisStatus(
        verdict=found.verdict.value,
        message=found.message,
        old=_measured(old),
        new=_measured(new),
        time=now,
    )
    return _unless_hardly_new(standing.before.rollout.analysis, status, canary, standing)


def _leaves_some(canary: Canary, pods: int, mode: Swap) -> bool:
    """Tell whether a step leaves requests to the old version, so that there is a comparison."""
    if mode is Swap.RECREATE:
        return pods_of_step(canary, pods) < pods
    return canary.step.weight < ALL


def _in_time(found: Judgement, canary: Canary, rules: Analysis, now: datetime) -> Judgement:
    if found.verdict is not Verdict.WAITING or canary.started_at is None:
        return found
    if (now - canary.started_at).total_seconds() < rules.max_wait_s:
        return found
    return Judgement(Verdict.INCONCLUSIVE, f"no clear result in time: {found.message}")


def _windows(version: str, standing: Standing, fleet: Fleet, canary: Canary) -> Iterator[Window]:
    for pod in fleet.reporters:
        seen = pod.seen(standing.name, version)
        if seen and seen.window and seen.window.id == canary.window:
            yield seen.window


def _sample(version: str, standing: Standing, fleet: Fleet, canary: Canary) -> Sample:
    return add_up(version, _windows(version, standing, fleet, canary))


def _of_copies(new: Sample, standing: Standing, fleet: Fleet, canary: Canary) -> Sample:
    """Return a sample of copied requests: a version without weight has no others."""
    windows = tuple(_windows(new.version, standing, fleet, canary))
    return Sample(
        version=new.version,
        requests=sum(each.copies for each in windows),
        errors=sum(each.copy_errors for each in windows),
        restarts=new.restarts,
        latency=new.latency,
        compared=new.compared,
        different=new.different,
        difference=new.difference,
    )


def _of_answers(rules: Analysis) -> Analysis:
    """Return the rules for copied requests: nobody waited for their answers."""
    failing = rules.fail_on
    kept = FailOn.model_construct(
        error_rate=failing.error_rate,
        latency_p50=None,
        latency_p95=None,
        latency_p99=None,
        worker_restarts=failing.worker_restarts,
        answers=failing.answers,
    )
    return rules.model_copy(update={"fail_on": kept})


def _measured(sample: Sample | None) -> Measured | None:
    if sample is None:
        return None
    return Measured(
        version=sample.version,
        requests=sample.requests,
        errors=sample.errors,
        restarts=sample.restarts,
        p50_ms=_rounded(quantile_ms(sample.latency, 0.5)),
        p95_ms=_rounded(quantile_ms(sample.latency, 0.95)),
        p99_ms=_rounded(quantile_ms(sample.latency, 0.99)),
    )


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 2)


def _unless_hardly_new(
    before: AnalysisStatus | None, now: AnalysisStatus, canary: Canary, standing: Standing
) -> AnalysisStatus:
    """Keep the numbers of a moment ago: each look that writes the status costs the API server."""
    same_step = standing.before.rollout.step == canary.index
    if before is None or not same_step or before.verdict != now.verdict:
        return now
    if before.time is None or now.time is None or before.new is None or now.new is None:
        return now
    if now.new.requests == before.new.requests:
        return before
    aged = (now.time - before.time).total_seconds() >= NUMBERS_EVERY_S
    return now if aged or before.new.requests == 0 else before
