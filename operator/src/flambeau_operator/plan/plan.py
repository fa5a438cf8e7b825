"""One pass's decision: from facts to intentions, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from flambeau_operator.plan.children import Children
from flambeau_operator.resources.deployment_status import Status
from flambeau_operator.resources.model_deployment import ModelDeployment
from flambeau_operator.resources.observed import Snapshot
from flambeau_operator.resources.pod_state import Document


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, told once."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass shall do: write the status, then commit, then PUT, then tell."""

    children: Children
    documents: Mapping[
        str, Document
    ]  # pod name → its new document; only pods whose document changes
    commit: Document | None  # the new committed set, written before any document is PUT
    status: Status  # complete, its sequence raised if a document changes
    events: tuple[Event, ...]
    look_again_s: float
    watch_pods: bool  # wait on the pods' long polls: rolling, or not at the goal


def make_plan(deployment: ModelDeployment, snapshot: Snapshot, now: datetime) -> Plan:
    """Decide what one pass shall do.

    Args:
        deployment: the wish, with the status that was read together with it.
        snapshot: the facts, gathered after that.
        now: the wall clock, with a timezone.
    """
    raise NotImplementedError
