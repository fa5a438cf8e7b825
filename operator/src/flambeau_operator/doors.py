"""The two doors to the world: a cluster that holds deployments and pods, and their runtimes.

Everything above (`reconcile`, `work_queue`) knows only these protocols; `kubernetes`, `local` and
`runtime_client` stand behind them, and `tests/fakes.py` does in memory. What
may go wrong behind them is `errors.DoorFault` and its kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from flambeau_operator.plan.children import Children
from flambeau_operator.plan.plan import Event
from flambeau_operator.resources.deployment_status import Status
from flambeau_operator.resources.observed import ChildrenFacts, Trouble
from flambeau_operator.resources.pod_state import Document, PodState


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names one ModelDeployment; what the work queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Ref:
    """One ModelDeployment as it was read: every write carries it, and a newer object refuses it."""

    key: Key
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod as the cluster sees it, without what its runtime says of itself."""

    name: str
    uid: str
    owner_uid: str  # the uid of the ModelDeployment it was made for
    template_hash: str
    address: str  # URL of its management API; empty while it has none
    running: bool
    terminating: bool
    restarts: int
    started_at: datetime | None
    ready: bool = False  # by the cluster's own probe
    trouble: Trouble | None = None  # why it does not run, in the cluster's words


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one action of a pass went."""

    action: str  # "apply pods", "put state", "commit", …
    target: str  # the name of what it was done to
    error: str | None = None  # None: it went well

    @property
    def failed(self) -> bool:
        """True when the action did not take effect."""
        return self.error is not None


@dataclass(frozen=True, slots=True)
class Watched:
    """A pod, and the last revision of its state that a pass has seen."""

    pod: Pod
    revision: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a pass leaves to the work queue: when to look again, and at whom to look meanwhile."""

    look_again_s: float
    watch: tuple[Watched, ...] = ()
    failures: tuple[Outcome, ...] = ()  # not empty: again, with back-off
    gone: bool = False  # the object is no more: drop the key


class Cluster(Protocol):
    """Where ModelDeployments and their pods live. Every method may raise Unavailable."""

    async def read_deployment(self, key: Key) -> Mapping[str, Any] | None:
        """Return the object as it is now, status included; None when there is none."""

    async def apply_children(self, ref: Ref, children: Children) -> tuple[Outcome, ...]:
        """Ask for the pods and the service; returns before they are there."""

    async def list_pods(self, ref: Ref) -> tuple[Pod, ...]:
        """Return the pods of this object's name, by name, those of an older uid included."""

    async def read_children(self, ref: Ref) -> ChildrenFacts:
        """Return what stands around the pods of this object now."""

    async def read_committed(self, ref: Ref) -> Document | None:
        """Return what a starting pod boots from."""

    async def commit(self, ref: Ref, document: Document) -> None:
        """Write what a starting pod boots from.

        Raises:
            Conflict: the object of this uid is gone.
        """

    async def write_status(self, ref: Ref, status: Status) -> str:
        """Replace the status and return the new resourceVersion.

        Raises:
            Conflict: uid or resourceVersion are not those of `ref` any more.
        """

    async def emit(self, ref: Ref, events: Sequence[Event]) -> None:
        """Tell people what happened; never fails a pass."""


class RuntimeClient(Protocol):
    """The management API of the runtimes."""

    async def get_state(self, pod: Pod, after: str | None = None, wait_s: float = 0) -> PodState:
        """Return what the runtime wants and sees; with `after`, once its revision is another one.

        Raises:
            Silent: no usable answer.
            Refused: an answer, but not a state.
        """

    async def put_state(self, pod: Pod, document: Document) -> None:
        """Hand over everything that is wanted of this pod.

        Raises:
            Silent: no usable answer; the document may have been accepted all the same.
            Refused: 409 with `current` (a fence), 422 (an invalid document), 401.
        """

    async def drain(self, pod: Pod) -> None:
        """Ask the runtime to stop being ready and to finish what it has.

        Raises:
            Silent: no usable answer.
            Refused: it will not.
        """

    async def is_ready(self, pod: Pod) -> bool:
        """Return whether the pod may be sent requests.

        Raises:
            Silent: no answer, after one try.
        """
