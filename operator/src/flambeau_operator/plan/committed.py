"""The committed set: what a starting pod must load, and nothing that is being tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from flambeau_operator.plan.decision import Act, Decision
from flambeau_operator.plan.entries import (
    entry_hash,
    other_entries,
    shadow_entry,
    sticky_entry,
    target_entry,
)
from flambeau_operator.plan.fleet import Fleet
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.plan.way_back import kept_version
from flambeau_operator.resources.model_deployment import ModelDeployment
from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    SourceEntry,
    Swap,
    VersionEntry,
)
from flambeau_operator.resources.rollout import Hot


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long the version that was replaced stays."""

    hot: Hot
    now: datetime


def committed_before(
    committed: Document | None, fleet: Fleet, deployment: ModelDeployment
) -> tuple[ModelEntry, ...] | None:
    """Return what is committed, or what it must have been, told by the pods' documents.

    Where pods differ (one version at a time in each of them), the version that was active counts,
    also if no pod has it any more; then the newest document.
    """
    if committed and committed.owner.uid == deployment.metadata.uid:
        return committed.models
    told = [pod.desired for pod in fleet.reporters if pod.desired]
    if not told:
        return None
    newest = sorted(told, key=lambda document: document.sequence, reverse=True)
    return tuple(_as_told(model, newest, deployment) for model in newest[0].models if model.default)


def _as_told(
    model: ModelEntry, newest: Sequence[Document], deployment: ModelDeployment
) -> ModelEntry:
    active = deployment.status.model(model.name).active_version
    known = (found for document in newest if (found := document.model(model.name)))
    held = next((each for each in known if each.default == active), None)
    entry = held.version(active) if held else _remembered(model.name, active, deployment)
    entry = entry or model.version(model.default)
    versions = (entry,) if entry else ()
    return ModelEntry(model.name, entry.version if entry else None, versions, model.required)


def _remembered(name: str, active: str | None, deployment: ModelDeployment) -> VersionEntry | None:
    """Return the version that a candidate replaces in every pod, from where it came."""
    old = deployment.status.model(name).rollout.replaces
    wish = next((each for each in deployment.spec.models if each.name == name), None)
    if old is None or wish is None or old.version != active:
        return None
    source = SourceEntry(uri=old.uri, digest=old.digest, credentials=old.credentials)
    return replace(target_entry(wish), version=old.version, source=source)


def committed_after(
    standings: Sequence[Standing],
    rolling: Sequence[Decision],
    others: Sequence[Standing],
    keeping: Keeping,
) -> tuple[ModelEntry, ...]:
    """Return what a pod must load that starts from now on, in the spec's order.

    Args:
        standings: of each model's own version.
        rolling: what was decided in this pass.
        others: of the versions of splits and shadows.
        keeping: how long what is replaced stays.
    """
    models = (
        _committed_model(
            each,
            next((it for it in rolling if it.standing.name == each.name), None),
            [it for it in others if it.name == each.name],
            keeping,
        )
        for each in standings
    )
    return tuple(model for model in models if model)


def when_promoted(
    committed: Sequence[ModelEntry], standings: Sequence[Standing]
) -> tuple[ModelEntry, ...]:
    """Return what will be committed once every candidate has taken its predecessor's place."""
    coming = {each.name: each.target for each in standings if each.kind is Kind.CANDIDATE}
    known = {each.name for each in committed}
    new = (ModelEntry(name, None, (it,)) for name, it in coming.items() if name not in known)
    return (*(_promoted(each, coming.get(each.name)) for each in committed), *new)


def _promoted(model: ModelEntry, target: VersionEntry | None) -> ModelEntry:
    if target is None:
        return model
    others = [it for it in model.versions if it.version not in {model.default, target.version}]
    return replace(model, default=target.version, versions=(target, *others))


def _committed_model(
    standing: Standing,
    decision: Decision | None,
    others: Sequence[Standing],
    keeping: Keeping,
) -> ModelEntry | None:
    default = _default(standing, decision)
    if default is None:
        return None
    beside = _beside(standing, default, decision, others)
    known = {default.version, *(each.version for each in beside)}
    previous = [
        each for each in _previous(standing, decision, keeping) if each.version not in known
    ]
    shadow = shadow_entry(standing.model)
    return ModelEntry(
        standing.name,
        default.version,
        (default, *beside, *previous),
        standing.model.required,
        sticky=sticky_entry(standing.model),
        shadow=shadow if shadow and shadow.version in known - {default.version} else None,
        swap=_swap(standing, decision),
        drain_s=_drain_s(keeping.hot),
    )


def _default(standing: Standing, decision: Decision | None) -> VersionEntry | None:
    """Return the version that answers."""
    if decision and decision.act is Act.REVERT:
        name = kept_version(standing)
        kept = standing.committed.version(name) if standing.committed else None
        return replace(kept, weight=0) if kept else standing.target
    own = decision is not None and not decision.standing.beside
    promoted = own and decision is not None and decision.act in {Act.COMMIT, Act.ROLL_PODS}
    if standing.kind in {Kind.SETTLED, Kind.UNPROTECTED} or promoted:
        return standing.target
    if standing.active is None:
        return None
    # Workers are the model's capacity and follow the spec at once. Everything else was written for
    # the target: its environment or batch size could break the version that has to hold out.
    target = standing.target
    return replace(
        standing.active, workers=target.workers, max_workers=target.max_workers, weight=0
    )


def _beside(
    standing: Standing,
    default: VersionEntry,
    decision: Decision | None,
    others: Sequence[Standing],
) -> tuple[VersionEntry, ...]:
    """Return the versions of the split and the shadow that are proven, as the spec has them now."""
    if standing.kind is Kind.UNPROTECTED:
        refused = () if standing.orders.retry else standing.before.rollout.failed_others
        return tuple(
            it
            for it in other_entries(standing.model)
            if it.version != default.version and entry_hash(it) not in refused
        )
    committed = standing.committed.versions if standing.committed else ()
    proven = {(each.version, each.source) for each in committed}
    if decision and decision.standing.beside and decision.act is Act.COMMIT:
        proven.add((decision.standing.target.version, decision.standing.target.source))
    failed = {each.target.version for each in others if each.kind is Kind.REMEMBERED}
    return tuple(
        each
        for each in other_entries(standing.model)
        if (each.version, each.source) in proven
        and each.version != default.version
        and each.version not in failed
    )


def _previous(
    standing: Standing, decision: Decision | None, keeping: Keeping
) -> tuple[VersionEntry, ...]:
    """Return the version that was replaced, as long as it is kept for a way back."""
    kept_for = timedelta(seconds=keeping.hot.keep_previous_s)
    own = decision is not None and not decision.standing.beside
    if own and decision is not None and decision.act is Act.COMMIT:
        by_side = decision.mode is Swap.SIDE_BY_SIDE and standing.active is not None
        keeps = by_side and kept_for and not standing.is_kept and decision.act is Act.COMMIT
        return (replace(standing.active, weight=0),) if keeps and standing.active else ()
    name, since = kept_version(standing), standing.before.rollout.promoted_at
    if name is None or since is None or standing.committed is None:
        return ()
    stays = standing.kind is Kind.SETTLED and keeping.now - since < kept_for
    rolls_back = own and decision is not None and decision.act is Act.ROLL_BACK
    failed = rolls_back or standing.kind is Kind.REMEMBERED
    comes_back = name == standing.target.version and not failed
    entry = standing.committed.version(name)
    if entry is None or not (stays or comes_back):
        return ()
    return (replace(entry, weight=0),)  # also what had a share while a split named it


def _swap(standing: Standing, decision: Decision | None) -> Swap:
    """Return how pods change: as the last rollout did, so that its way back is no other."""
    if decision and not decision.standing.beside and decision.act is not Act.REVERT:
        begun = decision.members or decision.act in {Act.COMMIT, Act.ROLL_BACK}
        if begun:
            return decision.mode
    mode = standing.before.rollout.mode
    return Swap(mode) if mode in {Swap.WORKER_BY_WORKER, Swap.RECREATE} else Swap.SIDE_BY_SIDE


def _drain_s(hot: Hot) -> float | None:
    """Return how long a leaving version may finish; left out where it is as ever."""
    return None if hot.drain_timeout_s == Hot().drain_timeout_s else hot.drain_timeout_s
