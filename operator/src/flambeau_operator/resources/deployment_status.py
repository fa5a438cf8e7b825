"""The status of a ModelDeployment: what cannot be observed again, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


class ModelPhase(StrEnum):
    """How far a model is on its way to the version that its entry names."""

    PENDING = "Pending"
    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    LOADING = "Loading"
    WARMING = "Warming"
    CANARY = "Canary"
    PROMOTING = "Promoting"
    DRAINING = "Draining"
    SERVING = "Serving"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    FAILED = "Failed"


class _Reported(BaseModel):
    """Read with tolerance: another release of this program may have written it."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )


class Condition(_Reported):
    """One condition, as Kubernetes' metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: datetime


class LastFailure(_Reported):
    """Why the last candidate did not make it."""

    reason: str
    message: str
    log_tail: str = ""
    pod: str = ""
    time: datetime


class ReplacedVersion(_Reported):
    """The version that is being replaced, and where it comes from."""

    version: str
    uri: str
    digest: str | None = None
    credentials: str | None = None


class Handled(_Reported):
    """The values of annotations that have been acted upon."""

    promote: str | None = None
    abort: str | None = None
    retry: str | None = None


class Measured(_Reported):
    """What one version did in a step."""

    version: str
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class AnalysisStatus(_Reported):
    """How the candidate does in the step that runs, or did in the last one."""

    verdict: Literal["Waiting", "Passed", "Failed", "Inconclusive"] = "Waiting"
    message: str = ""
    """The verdict and its numbers, in words."""
    old: Measured | None = None
    new: Measured | None = None
    time: datetime | None = None
    """When the numbers were taken."""


class RolloutStatus(_Reported):
    """What a rollout must remember because no pod can tell it."""

    spec_hash: str | None = None
    """Which candidate is on its way: version and source."""
    candidate: str | None = None
    """Its version: the target, or one of a split or a shadow."""
    failed_hash: str | None = None
    """Which entry failed and is not tried again by itself."""
    failed_others: tuple[str, ...] = ()
    """The same, of versions of a split or a shadow."""
    step: int | None = None
    """Which of the steps is being taken, counted from 0; absent before the first."""
    step_started_at: datetime | None = None
    """Since when every pod has the step's weight."""
    progressed_at: datetime | None = None
    """Since when the rollout has made no progress; absent while it is held."""
    started_at: datetime | None = None
    """When the candidate was first asked for."""
    previous_version: str | None = None
    """The version that the active one replaced."""
    promoted_at: datetime | None = None
    """Since when the active version is committed; kept while the previous one stays loaded."""
    mode: Literal["SideBySide", "WorkerByWorker", "Recreate", "RollingPods"] | None = None
    """How the candidate comes into the pods."""
    mode_reason: str = ""
    """Why in this way."""
    came_up: tuple[str, ...] = ()
    """Processes that came up again in pods which had the candidate."""
    held: str = ""
    """What it waits for a person to decide, if so."""
    analysis: AnalysisStatus | None = None
    last_failure: LastFailure | None = None
    """Why the model's own candidate was taken back."""
    beside_failure: LastFailure | None = None
    """Why a version of its split or its shadow was."""
    replaces: ReplacedVersion | None = None
    """What a candidate replaces where a pod has one version at a time: no pod may know it then."""
    handled: Handled = Handled()

    @model_validator(mode="before")
    @classmethod
    def _as_once_written(cls, data: object) -> object:
        """Read the status of a release that knew one annotation, so that it is not obeyed twice."""
        if isinstance(data, Mapping) and "handledRetry" in data and "handled" not in data:
            return {**data, "handled": {"retry": data["handledRetry"]}}
        return data


class Past(_Reported):
    """One rollout that has ended."""

    version: str
    from_version: str | None = None
    spec_hash: str = ""
    outcome: Literal["Promoted", "RolledBack", "Superseded"]
    mode: str | None = None
    started_at: datetime | None = None
    ended_at: datetime
    message: str = ""
    """Why it was taken back, or what the last analysis said."""


class Resolved(_Reported):
    """What the source turned out to be."""

    digest: str | None = None
    bytes: int = 0


class ModelStatus(_Reported):
    """One model as it is."""

    name: str
    active_version: str | None = None
    """The version that answers; absent until one has answered for the first time."""
    target_version: str | None = None
    phase: ModelPhase = ModelPhase.PENDING
    weight: int = 0
    """Percent of the requests that the target version gets."""
    ready_pods: int = 0
    """Pods in which the target version is ready; after a rollback, the active one."""
    ready_workers: int = 0
    resolved: Resolved | None = None
    rollout: RolloutStatus = RolloutStatus()
    history: tuple[Past, ...] = ()
    """The last rollouts, newest first, at most 10."""


class PodIssue(_Reported):
    """One pod that is not as it should be."""

    pod: str
    reason: str
    message: str
    since: datetime


class Status(_Reported):
    """The whole status."""

    observed_generation: int = -1
    sequence: int = 0
    conditions: tuple[Condition, ...] = ()
    url: str | None = None
    """Where predictions are asked for."""
    runtime_image: str | None = None
    """What the pods are started from."""
    selector: str = ""
    """The labels of the pods, for the scale subresource."""
    replicas: int = 0
    ready_replicas: int = 0
    summary: str = ""
    workers: str = ""
    models: tuple[ModelStatus, ...] = ()
    pod_issues: tuple[PodIssue, ...] = ()

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type, if there is one."""
        return next((each for each in self.conditions if each.type == type_), None)

    def model(self, name: str) -> ModelStatus:
        """Return what is known of a model, or an empty record."""
        found = (each for each in self.models if each.name == name)
        return next(found, ModelStatus(name=name))

    def to_json(self) -> dict[str, Any]:
        """Return the status as the object's `status` field."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def status_from_json(body: Mapping[str, Any] | None) -> Status:
    """Read a status; what is absent or unknown is left out."""
    return Status.model_validate(body or {})
