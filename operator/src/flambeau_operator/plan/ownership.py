"""Whose an object with a child's name is, and what may be applied when it is not ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from flambeau_operator.names import (
    API_VERSION,
    KIND,
    MANAGED_BY,
    MANAGER,
    NAME_LABEL,
    models_config_map,
)

Manifest = Mapping[str, Any]


class Verdict(StrEnum):
    """What an existing object is to us."""

    OURS = "ours"  # controlled by this very ModelDeployment: apply
    FREE = "free"  # not there, or left behind and given to us: apply
    OLDER_UID = "older_uid"  # of a namesake that is gone: the garbage collector takes it, wait
    FOREIGN = "foreign"  # never touch it: a forced apply would hijack it


NEEDS: Final[Mapping[str, frozenset[str]]] = {
    # Pods mount the ConfigMap and run as the ServiceAccount: somebody else's would decide what
    # they serve and may do. An autoscaler follows whatever Deployment has the name.
    "Deployment": frozenset({"ConfigMap", "ServiceAccount"}),
    "HorizontalPodAutoscaler": frozenset({"ConfigMap", "ServiceAccount", "Deployment"}),
}
"""Kinds that must not be applied while an object that they rely on is not ours."""


def may_take(live_metadata: Mapping[str, Any] | None, owner_uid: str, *, adopt: bool) -> Verdict:
    """Judge an object by its metadata.

    Args:
        live_metadata: as read just now; None when there is no object of that kind and name.
        owner_uid: the ModelDeployment's.
        adopt: whether it carries the annotation `names.ADOPT` with the value "true".
    """
    if live_metadata is None:
        return Verdict.FREE
    controller = _controller(live_metadata)
    if controller is None:
        return Verdict.FREE if adopt and _was_a_child(live_metadata) else Verdict.FOREIGN
    if controller.get("uid") == owner_uid:
        return Verdict.OURS
    if controller.get("kind") == KIND and controller.get("apiVersion") == API_VERSION:
        # Even for an adopter: an object has one controller, and this one's end is on its way.
        return Verdict.OLDER_UID
    return Verdict.FOREIGN


def applicable(manifests: Sequence[Manifest], withheld: Collection[str]) -> tuple[Manifest, ...]:
    """Return those that may be applied while objects of these kinds are not ours to touch.

    Args:
        manifests: every child that should exist.
        withheld: kinds whose object is foreign or of an older uid, `ConfigMap` included.
    """
    return tuple(
        each
        for each in manifests
        if each["kind"] not in withheld and not NEEDS.get(each["kind"], frozenset()) & set(withheld)
    )


def conflict_name(kind: str, name: str) -> str:
    """Return how `ChildrenFacts.conflicts` names an object: `Service vision`."""
    return f"{kind} {name}"


def committed_set_is_foreign(conflicts: Collection[str], name: str) -> bool:
    """Tell whether somebody else's ConfigMap has the name of the one that pods boot from."""
    return conflict_name("ConfigMap", models_config_map(name)) in conflicts


def _was_a_child(metadata: Mapping[str, Any]) -> bool:
    """Tell whether our labels say that this object was made for a ModelDeployment of its name."""
    labels: Mapping[str, str] = metadata.get("labels") or {}
    owner = labels.get(NAME_LABEL, "")
    named = metadata.get("name") in {owner, models_config_map(owner)}
    return labels.get(MANAGED_BY) == MANAGER and named


def _controller(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    references: Sequence[Mapping[str, Any]] = metadata.get("ownerReferences") or ()
    return next((each for each in references if each.get("controller")), None)
