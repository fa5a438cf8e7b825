"""The facts of one pass, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flambeau_operator.resources.pod_state import Document, PodState


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something is not as it should be, in the words of whoever found out."""

    reason: str  # "Unschedulable", "ImagePullBackOff", …
    message: str


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What the autoscaler of the pods says of itself."""

    active: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ChildrenFacts:
    """What stands around the pods, as their environment has it."""

    url: str | None = None  # where predictions are asked for
    selector: str = ""  # the labels of the pods, for the scale subresource
    runtime_image: str | None = None  # what the pods are started from
    replicas: int | None = None  # pods that are asked for now; None while nothing asks for any
    rolling: bool = False  # pods of an older template are there and will be replaced
    conflicts: tuple[str, ...] = ()  # "Service vision": there, not ours, and so left alone
    refusals: tuple[Trouble, ...] = ()  # children that the environment will not have as asked for
    unsupported: tuple[str, ...] = ()  # fields that have no effect here, and why
    autoscaler: Autoscaler | None = None


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod, as its environment and the pod itself describe it."""

    name: str
    uid: str
    owner_uid: str  # of the ModelDeployment it was started for
    template_hash: str
    running: bool = True
    terminating: bool = False
    restarts: int = 0
    started_at: datetime | None = None
    address: str = ""  # the management API's URL
    state: PodState | None = None  # None: the management API was silent
    silent_passes: int = 0  # how many passes in a row it has been
    probed_ready: bool | None = None  # the environment's own readiness probe, where there is one
    trouble: Trouble | None = None  # why it does not run

    @property
    def ready(self) -> bool:
        """Whether it serves every required model, by its own word or else by the probe's."""
        if self.state is None:
            return self.probed_ready is True
        return self.state.ready and not self.state.draining


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan may know of the world."""

    pods: tuple[PodFacts, ...] = ()
    committed: Document | None = None  # its owner's uid tells whose it is
    children: ChildrenFacts = ChildrenFacts()
