"""What people are told about a deployment, taken from its status and its pods."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from flambeau_operator.session import LocalDeployment, LocalEvent, LocalPod


@dataclass(frozen=True, slots=True)
class Shown:
    """One deployment and the manifest it was made from."""

    deployment: LocalDeployment
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model: which version answers, and how far the next one is."""

    name: str
    version: str  # "1.0", or "1.0→2.0" while a version is on its way
    phase: str
    ready_workers: int


@dataclass(frozen=True, slots=True)
class PodRow:
    """One runtime process."""

    name: str
    pid: str
    port: str
    state: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The last version that did not make it, and why."""

    model: str
    version: str
    reason: str
    message: str
    pod: str
    log_tail: str

    def __str__(self) -> str:
        where = f" in {self.pod}" if self.pod else ""
        return f"{self.model} {self.version}{where}: {self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """One deployment, ready to be drawn."""

    name: str
    ready: str  # True | False | Unknown, the condition's word
    reason: str
    message: str
    summary: str
    workers: str
    replicas: str
    url: str
    models: tuple[ModelRow, ...]
    pods: tuple[PodRow, ...]
    failures: tuple[Failure, ...]
    problems: tuple[str, ...]
    without_effect: str  # fields that do nothing here; empty: none
    try_next: tuple[str, ...]  # commands to paste

    @property
    def headline(self) -> str:
        """The deployment in one line."""
        parts = [f"ready={self.ready}", self.reason, self.summary]
        counts = [f"workers {self.workers}" * bool(self.workers), f"replicas {self.replicas}"]
        return " ".join([self.name, *(part for part in parts + counts if part), self.url])


def report(deployment: LocalDeployment, body: Mapping[str, Any]) -> Report:
    """Describe a deployment; `body` is the manifest that it was made from."""
    status: Mapping[str, Any] = deployment.status
    shown = _telling_condition(status)
    models: Sequence[Mapping[str, Any]] = status.get("models", ())
    return Report(
        name=_name(deployment),
        ready=_condition(status, "Ready").get("status", "Unknown"),
        reason=shown.get("reason", "Pending"),
        message=shown.get("message", ""),
        summary=status.get("summary", ""),
        workers=status.get("workers", ""),
        replicas=f"{status.get('readyReplicas', 0)}/{status.get('replicas', 0)}",
        url=deployment.url,
        models=tuple(_model_row(model) for model in models),
        pods=tuple(_pod_row(pod) for pod in deployment.pods),
        failures=tuple(_failures(models)),
        problems=deployment.problems,
        without_effect=_condition(status, "Unsupported").get("message", ""),
        try_next=tuple(_commands(deployment.url, body)),
    )


def _name(deployment: LocalDeployment) -> str:
    key = deployment.key
    return key.name if key.namespace == "default" else str(key)


def _telling_condition(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the condition that says most: what is stuck or under way, else whether it is ready."""
    for type_ in ("Stalled", "Reconciling", "Suspended"):
        if found := _condition(status, type_):
            return found
    return _condition(status, "Ready")


def _condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    conditions: Sequence[Mapping[str, Any]] = status.get("conditions", ())
    return next((each for each in conditions if each.get("type") == type_), {})


def _model_row(model: Mapping[str, Any]) -> ModelRow:
    active, target = model.get("activeVersion"), model.get("targetVersion")
    moving = active and target and active != target
    return ModelRow(
        name=model.get("name", ""),
        version=f"{active}→{target}" if moving else str(active or target or ""),
        phase=model.get("phase", ""),
        ready_workers=model.get("readyWorkers", 0),
    )


def _pod_row(pod: LocalPod) -> PodRow:
    port = urlsplit(pod.inference_url).port if pod.inference_url else None
    state = pod.phase if pod.last_exit is None or pod.pid else f"{pod.phase} ({pod.last_exit})"
    return PodRow(
        pod.name, str(pod.pid or "-"), str(port or "-"), state=state, restarts=pod.restarts
    )


def _failures(models: Sequence[Mapping[str, Any]]) -> Iterator[Failure]:
    for model in models:
        last = (model.get("rollout") or {}).get("lastFailure")
        if last:
            yield Failure(
                model=model.get("name", ""),
                version=model.get("targetVersion", ""),
                reason=last.get("reason", ""),
                message=last.get("message", ""),
                pod=last.get("pod", ""),
                log_tail=last.get("logTail", ""),
            )


def _commands(url: str, body: Mapping[str, Any]) -> Iterator[str]:
    """Yield a request per model: with the body of its warm-up, where it has one."""
    for model in body.get("spec", {}).get("models", ()):
        warm_up = (model.get("warmup") or {}).get("requests") or [{}]
        content_type = warm_up[0].get("contentType", "application/json")
        payload = warm_up[0].get("body", "@request.json")
        command = ["curl", "-H", f"content-type: {content_type}", "-d", payload]
        yield shlex.join([*command, f"{url}/predictions/{model.get('name', '')}"])


class NewEvents:
    """Passes each event on once."""

    def __init__(self) -> None:
        self._told: dict[str, datetime] = {}

    def of(self, deployment: LocalDeployment) -> tuple[LocalEvent, ...]:
        """Return the events of a deployment that were not returned before."""
        key = str(deployment.key)
        until = self._told.get(key, datetime.min.replace(tzinfo=UTC))
        new = tuple(event for event in deployment.events if event.at > until)
        if new:
            self._told[key] = new[-1].at
        return new
