"""How a new version comes in, and what makes it good enough."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool, StrictInt

from flambeau_operator.resources.comparison import Comparison
from flambeau_operator.resources.quantities import Percentage, Share
from flambeau_operator.resources.rules import Rule, rule
from flambeau_operator.resources.wish import NOT_FILLED_IN, Delay, Patience, Wish

MOST_STEPS = 20
ALL = 100
"""Percent."""


class Step(Wish):
    """One step of a canary."""

    weight: Annotated[StrictInt, Field(ge=0, le=100)]
    """Percent of the requests that the new version gets."""
    pause_s: Delay = Field(default=0.0, alias="pause")
    """How long the step lasts at least, once every pod has the weight."""
    shadow: Annotated[StrictInt, Field(ge=0, le=100)] = 0
    """Percent of the old version's requests that the new one gets copies of, besides."""


class ErrorRate(Wish):
    """Errors that the new version's workers cause: an exception, a death, a timeout."""

    max: Percentage | None = None
    """Of its requests."""
    max_increase: Percentage | None = None
    """Percentage points above the old version in the same time."""


class Latency(Wish):
    """A quantile of the time from request to answer."""

    max_s: Patience | None = Field(default=None, alias="max")
    """The new version's."""
    max_increase: Percentage | None = None
    """Above the old version's in the same time; `30%` allows 1.3 times as long."""


class WorkerRestarts(Wish):
    """Workers of the new version that were started again: a death, too much memory."""

    max: Annotated[StrictInt, Field(ge=0, le=10_000)] = 0
    """In one step, over all pods."""


class Answers(Comparison):
    """Answers of the new version to copied requests that differ from the old one's."""

    max_different: Percentage
    """Of the answers that were compared; needs steps with a shadow."""


class FailOn(Wish):
    """What fails the new version: any one of these."""

    error_rate: ErrorRate | None = None
    """Errors."""
    latency_p50: Latency | None = Field(default=None, alias="latencyP50")
    """The median."""
    latency_p95: Latency | None = Field(default=None, alias="latencyP95")
    """The 95th percentile."""
    latency_p99: Latency | None = Field(default=None, alias="latencyP99")
    """The 99th percentile."""
    worker_restarts: WorkerRestarts | None = None
    """Restarts of its workers."""
    answers: Answers | None = None
    """Differences of answers."""


class Analysis(Wish):
    """When a step has shown enough."""

    min_requests: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 200
    """Per step, of the new version, and of the old one where it is compared with that."""
    max_wait_s: Patience = Field(default=1800.0, alias="maxWait")
    """How long a step waits for as many, or for a clear result."""
    fail_on: FailOn = FailOn()
    """What fails the new version."""
    on_inconclusive: Literal["Pause", "Promote", "Rollback"] = "Pause"
    """What follows when `maxWait` has passed without a result."""


class Hot(Wish):
    """How a version changes inside the running pods."""

    mode: Literal["Auto", "SideBySide", "WorkerByWorker", "Recreate"] = "Auto"
    """Auto chooses by the memory that is free: both versions at once, worker by worker, or one
    after the other in pods that leave the Service meanwhile."""
    max_unavailable_pods: Share = 1
    """Pods that change at the same time: a number, or a percentage of the replicas."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MOST_STEPS)] | None = None
    """Weights of the new version, ascending to 100; absent means 100 once it is ready and warm in
    every pod."""
    drain_timeout_s: Delay = Field(default=60.0, alias="drainTimeout")
    """How long a leaving version may finish what it has."""
    keep_previous_s: Delay = Field(default=0.0, alias="keepPrevious")
    """How long the old version stays loaded and idle afterwards, for instant rollback, if both fit
    into the memory."""
    analysis: Analysis | None = None
    """Absent: steps end by their pauses alone, and only a version that fails altogether is taken
    back."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "!has(self.steps) || (self.steps.map(s, s.weight).isSorted() && "
            "self.steps.all(a, self.steps.exists_one(b, b.weight == a.weight)))",
            "must have ascending weights, each once",
            ".steps",
            lambda self: (
                self.steps is None
                or all(
                    a.weight < b.weight for a, b in zip(self.steps, self.steps[1:], strict=False)
                )
            ),
        ),
        rule(
            "!has(self.steps) || self.steps[size(self.steps) - 1].weight == 100",
            "must end with {weight: 100}",
            ".steps",
            lambda self: self.steps is None or self.steps[-1].weight == ALL,
        ),
        rule(
            "!has(self.analysis) || has(self.steps)",
            "needs steps to look at: add steps, like [{weight: 5, pause: 2m}, {weight: 100}]",
            ".analysis",
            lambda self: self.analysis is None or self.steps is not None,
        ),
    )


class Rollout(Wish):
    """How a new version comes in."""

    paused: StrictBool = False
    """Hold where it is; a failing candidate is still taken back."""
    strategy: Literal["Hot", "RollingPods"] = "Hot"
    """Hot changes the version inside the running pods, RollingPods by new pods."""
    hot: Annotated[Hot | None, Field(json_schema_extra=NOT_FILLED_IN)] = None
    """Inside the running pods."""
    progress_deadline_s: Patience = Field(default=3600.0, alias="progressDeadline")
    """A candidate that makes no progress for so long is taken back."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "self.strategy == 'Hot' || !has(self.hot)",
            "has no effect with strategy RollingPods: remove it, or set strategy to Hot",
            ".hot",
            lambda self: self.strategy == "Hot" or self.hot is None,
        ),
    )

    @property
    def in_pods(self) -> Hot:
        """Return how a version changes inside the pods, with the defaults."""
        return self.hot or Hot()
