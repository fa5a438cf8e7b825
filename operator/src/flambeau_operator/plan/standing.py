"""Where each model of the spec stands against what is committed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from flambeau_operator.plan.entries import (
    entry_hash,
    other_entries,
    same_content,
    spec_hash,
    target_entry,
)
from flambeau_operator.plan.fleet import Fleet
from flambeau_operator.plan.orders import Orders, read_orders
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
    """One model and one version of it that shall come in: the wish, and what is committed.

    `beside` is true for a version of a split or a shadow: it is proven and committed beside the
    active one, and takes nobody's place.
    """

    kind: Kind
    model: Model
    target: VersionEntry
    active: VersionEntry | None  # committed, before this pass
    committed: ModelEntry | None  # the whole of it
    before: ModelStatus  # as the last pass left it
    orders: Orders = field(default_factory=Orders)
    beside: bool = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def hash(self) -> str:
        """The candidate's identity."""
        return spec_hash(self.target)

    @property
    def held(self) -> VersionEntry | None:
        """The committed entry of the target's version and source, in whatever role."""
        known = self.committed.version(self.target.version) if self.committed else None
        return known if known and known.source == self.target.source else None

    @property
    def is_kept(self) -> bool:
        """Whether the target is the version that was replaced last and is still loaded."""
        rollout = self.before.rollout
        replaced = rollout.promoted_at is not None and rollout.previous_version
        return self.held is not None and replaced == self.target.version


def stand(
    deployment: ModelDeployment, committed: tuple[ModelEntry, ...] | None, fleet: Fleet
) -> tuple[Standing, ...]:
    """Judge every model of the spec.

    Args:
        deployment: the wish and the last status.
        committed: what a starting pod loads; None if nothing ever was committed.
        fleet: the pods.
    """
    annotations, standings = deployment.metadata.annotations, []
    for model in deployment.spec.models:
        before = deployment.status.model(model.name)
        target = target_entry(model)
        known = _known(model.name, committed or ())
        active = known.version(known.default) if known else None
        if deployment.spec.rollout.strategy == "RollingPods":
            active = _still_replaced(target, known, fleet) or active
        failed = before.rollout.failed_hash
        orders = read_orders(
            annotations,
            before.rollout,
            spec_hash(target),
            {failed, spec_hash(target), *before.rollout.failed_others},
        )
        kind = _judge(target, active, before, fleet, first=committed is None)
        if kind not in {Kind.SETTLED, Kind.REUSED} and failed == entry_hash(target):
            kind = kind if orders.retry else Kind.REMEMBERED
        standings.append(Standing(kind, model, target, active, known, before, orders))
    return tuple(standings)


def beside(standing: Standing) -> tuple[Standing, ...]:
    """Judge the versions of a split and a shadow of one model, once its own version is settled."""
    if standing.kind not in {Kind.SETTLED, Kind.REMEMBERED} or standing.active is None:
        return ()
    return tuple(
        replace(standing, kind=_kind_beside(standing, entry), target=entry, beside=True)
        for entry in other_entries(standing.model)
        if entry.version != standing.active.version
    )


def _still_replaced(
    target: VersionEntry, known: ModelEntry | None, fleet: Fleet
) -> VersionEntry | None:
    """Return the version of the pods that are being replaced by pods with the target."""
    if known is None or known.default != target.version:
        return None
    leaving = {pod.name for pod in fleet.replaced}
    held = (
        pod.desired.model(known.name)
        for pod in fleet.reporters
        if pod.name in leaving and pod.desired
    )
    older = (model.version(model.default) for model in held if model)
    return next((each for each in older if each and each.version != target.version), None)


def _kind_beside(standing: Standing, entry: VersionEntry) -> Kind:
    if replace(standing, target=entry).held:
        return Kind.SETTLED
    forgotten = standing.orders.retry or entry_hash(entry) not in (
        standing.before.rollout.failed_others
    )
    return Kind.CANDIDATE if forgotten else Kind.REMEMBERED


def _known(name: str, committed: tuple[ModelEntry, ...]) -> ModelEntry | None:
    return next((each for each in committed if each.name == name), None)


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
    # What the status calls active already was promoted, and its commit did not come through.
    promoted = before.active_version == target.version != active.version
    if not promoted and not _worth_protecting(active, before, fleet):
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
    """Tell whether the active version has served, and not since failed in every single pod.

    What is ready by its probe, and tells nothing, serves what it began with.
    """
    if any(pod.serves(before.name, active) for pod in fleet.reporters):
        return True
    if any(pod.ready for pod in fleet.silent):
        return True
    failed_everywhere = fleet.settled and all(
        pod.failed(before.name, active) for pod in fleet.reporters
    )
    return before.active_version == active.version and not failed_everywhere
