"""Where each model of the spec stands against what is committed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flambeau_operator.names import RETRY
from flambeau_operator.plan.entries import entry_hash, same_content, spec_hash, target_entry
from flambeau_operator.plan.fleet import Fleet
from flambeau_operator.resources.deployment_status import ModelStatus
from flambeau_operator.resources.model_deployment import Model, ModelDeployment
from flambeau_operator.resources.pod_state import ModelEntry, VersionEntry


class Kind(StrEnum):
    """What the next step of a model can be."""

    SETTLED = "settled"  # the target is committed; settings may change live
    UNPROTECTED = "unprotected"  # nothing works that could be lost: commit the target at once
    CANDIDATE = "candidate"  # the target must prove itself in the pods
    REMEMBERED = "remembered"  # this very entry failed before
    REUSED = "reused"  # the version is active with another content


@dataclass(frozen=True, slots=True)
class Standing:
    """One model: the wish, what is committed, and what was remembered."""

    kind: Kind
    model: Model
    target: VersionEntry
    active: VersionEntry | None  # committed, before this pass
    before: ModelStatus  # as the last pass left it
    retry: str | None  # the retry annotation's value, once it has been acted upon

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def hash(self) -> str:
        """The candidate's identity."""
        return spec_hash(self.target)


def stand(
    deployment: ModelDeployment, committed: tuple[ModelEntry, ...] | None, fleet: Fleet
) -> tuple[Standing, ...]:
    """Judge every model of the spec.

    Args:
        deployment: the wish and the last status.
        committed: what a starting pod loads; None if nothing ever was committed.
        fleet: the pods.
    """
    asked_for = deployment.metadata.annotations.get(RETRY)
    standings = []
    for model in deployment.spec.models:
        before = deployment.status.model(model.name)
        target = target_entry(model)
        active = _active(model.name, committed or ())
        failed = before.rollout.failed_hash
        retried = asked_for is not None and asked_for != before.rollout.handled.retry
        forgiven = retried and asked_for in {failed, spec_hash(target)}
        kind = _judge(target, active, before, fleet, first=committed is None)
        if kind not in {Kind.SETTLED, Kind.REUSED} and failed == entry_hash(target):
            kind = kind if forgiven else Kind.REMEMBERED
        handled = asked_for if forgiven else before.rollout.handled.retry if asked_for else None
        standings.append(Standing(kind, model, target, active, before, handled))
    return tuple(standings)


def _active(name: str, committed: tuple[ModelEntry, ...]) -> VersionEntry | None:
    entry = next((each for each in committed if each.name == name), None)
    return entry.version(entry.default) if entry else None


def _judge(
    target: VersionEntry,
    active: VersionEntry | None,
    before: ModelStatus,
    fleet: Fleet,
    *,
    first: bool,
) -> Kind:
    if active is None:
        return Kind.UNPROTECTED if first else Kind.CANDIDATE
    if active.version == target.version and _same(active, target, before, fleet):
        return Kind.SETTLED
    if not _worth_protecting(active, before, fleet):
        return Kind.UNPROTECTED
    return Kind.REUSED if active.version == target.version else Kind.CANDIDATE


def _same(active: VersionEntry, target: VersionEntry, before: ModelStatus, fleet: Fleet) -> bool:
    digests = (
        seen.digest
        for pod in fleet.reporters
        if (seen := pod.seen(before.name, active.version)) and pod.asked(before.name, active)
    )
    remembered = before.resolved.digest if before.resolved else None
    resolved = next((digest for digest in digests if digest), remembered)
    if before.active_version != active.version and active.source != target.source:
        resolved = None  # it never served: what was found there proves nothing
    return same_content(active.source, resolved, target.source)


def _worth_protecting(active: VersionEntry, before: ModelStatus, fleet: Fleet) -> bool:
    """Tell whether the active version has served, and not since failed in every single pod."""
    if any(pod.serves(before.name, active) for pod in fleet.reporters):
        return True
    failed_everywhere = fleet.settled and all(
        pod.failed(before.name, active) for pod in fleet.reporters
    )
    return before.active_version == active.version and not failed_everywhere
