"""Who says how many pods run: us or an autoscaler, and how the word passes between them.

A field that its only manager stops applying falls back to its default. So before `replicas` leaves
our manifest another manager must hold the number that runs, or the pods drop to one.
"""

from __future__ import annotations

from dataclasses import dataclass

from flambeau_operator.plan.children import Children
from flambeau_operator.plan.site import Live


@dataclass(frozen=True, slots=True)
class ReplicaSteps:
    """What to do about `replicas`, in this order; what is not due yet comes in a later pass."""

    delete_autoscaler: bool  # and look again until it is gone
    hand_over: int | None  # first apply {spec: {replicas: N}} as `names.HANDOVER_MANAGER`, forced
    replicas: int | None  # in our Deployment manifest; None: not named there
    apply_autoscaler: bool


def replica_steps(children: Children, live: Live) -> ReplicaSteps:
    """Choose the next steps; the order of the lines is the policy."""
    autoscaled = children.autoscaled
    if children.spec.suspend:
        # An autoscaler rests while its target is at 0, so it may stay and need not be made.
        return ReplicaSteps(not autoscaled and live.hpa_exists, None, 0, apply_autoscaler=False)
    if not live.exists:
        return ReplicaSteps(
            not autoscaled and live.hpa_exists,
            None,
            children.replicas or (1 if autoscaled else 0),
            apply_autoscaler=autoscaled,
        )
    if not autoscaled:
        return _without_autoscaler(children, live)
    return _with_autoscaler(children, live)


def _without_autoscaler(children: Children, live: Live) -> ReplicaSteps:
    if live.hpa_exists:
        # It would still scale: our number comes once it is gone, and none that we hold may drop.
        held = live.replicas if live.owns_replicas else None
        return ReplicaSteps(True, None, held, apply_autoscaler=False)
    return ReplicaSteps(False, None, children.replicas, apply_autoscaler=False)


def _with_autoscaler(children: Children, live: Live) -> ReplicaSteps:
    if not live.owns_replicas:
        return ReplicaSteps(False, None, None, apply_autoscaler=True)
    if not live.replicas:
        # Back from a suspension: an autoscaler never starts from 0 by itself.
        return ReplicaSteps(False, None, children.fewest, apply_autoscaler=True)
    return ReplicaSteps(False, live.replicas, None, apply_autoscaler=True)
