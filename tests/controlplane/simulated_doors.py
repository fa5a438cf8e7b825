"""Both doors of the real `Reconciler` to a simulated world, and operators that stop anywhere.

The store keeps what the API server promises: a status is refused unless the object is as it was
read, and so is a committed set. The pods keep the fence. Every call passes a gate before and after
its effect, and that is where an operator can be made to sleep or die.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flambeau_operator.doors import Key, Outcome, Pod, Ref, Result
from flambeau_operator.errors import Conflict, Refused, Silent
from flambeau_operator.plan.children import Children
from flambeau_operator.plan.events import Event
from flambeau_operator.reconcile import Reconciler
from flambeau_operator.resources.deployment_status import Status, status_from_json
from flambeau_operator.resources.observed import ChildrenFacts
from flambeau_operator.resources.pod_state import Document, PodState
from flambeau_operator.resources.pod_state_json import document_from_json, document_to_json
from tests.builders import UID
from tests.controlplane.simulated_pods import SimulatedPod, World

KEY: Final = Key("default", "vision")


class Gate:
    """Lets so many calls through, and holds the next ones until it is opened."""

    def __init__(self) -> None:
        self.calls_left: int | None = None  # None: it stands open
        self.holds = asyncio.Event()
        self._opened = asyncio.Event()

    async def passes(self) -> None:
        if self.calls_left is None:
            return
        if self.calls_left == 0:
            self.holds.set()
            await self._opened.wait()
        else:
            self.calls_left -= 1

    def open(self) -> None:
        self.calls_left = None
        self._opened.set()


@dataclass
class Store:
    """What the API server has besides the object: versions of it and of the committed set."""

    world: World
    resource_version: int = 1
    committed_version: int = 1
    events: list[Event] = field(default_factory=list)
    accepted: Callable[[Document], None] = lambda _: None  # told what a pod has taken

    def touched(self) -> None:
        """The object or its status is another one now."""
        self.resource_version += 1

    def lose_the_committed_set(self) -> None:
        self.world.committed = None
        self.committed_version += 1


class SimulatedCluster:
    """`doors.Cluster` of one operator."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store, self._gate = store, gate
        self._seen_committed = 0

    async def read_deployment(self, key: Key) -> Mapping[str, Any] | None:
        assert key == KEY
        await self._gate.passes()
        body, version = self._store.world.body, str(self._store.resource_version)
        metadata = {**body["metadata"], "resourceVersion": version, "namespace": key.namespace}
        status = self._store.world.status.to_json()
        await self._gate.passes()
        return {**body, "metadata": metadata, "status": status}

    async def list_pods(self, ref: Ref) -> tuple[Pod, ...]:
        assert ref.uid == UID
        await self._gate.passes()
        return tuple(_as_listed(pod) for _, pod in sorted(self._store.world.pods.items()))

    async def read_committed(self, ref: Ref) -> Document | None:
        assert ref.uid == UID
        await self._gate.passes()
        self._seen_committed = self._store.committed_version
        return self._store.world.committed

    async def read_children(self, ref: Ref) -> ChildrenFacts:
        assert ref.uid == UID
        await self._gate.passes()
        return self._store.world.children

    async def write_status(self, ref: Ref, status: Status) -> str:
        await self._gate.passes()
        if ref.uid != UID or ref.resource_version != str(self._store.resource_version):
            raise Conflict("read again")
        self._store.world.status = status_from_json(status.to_json())
        self._store.touched()
        version = str(self._store.resource_version)
        await self._gate.passes()
        return version

    async def commit(self, ref: Ref, document: Document) -> None:
        assert ref.uid == UID
        await self._gate.passes()
        if self._seen_committed != self._store.committed_version:
            raise Conflict("the committed set is another one")
        self._store.world.commit(document_from_json(document_to_json(document)))
        self._store.committed_version += 1
        self._seen_committed = self._store.committed_version
        await self._gate.passes()

    async def apply_children(self, ref: Ref, children: Children) -> tuple[Outcome, ...]:
        assert ref.uid == UID
        await self._gate.passes()
        self._store.world.scale(children)
        await self._gate.passes()
        return ()

    async def emit(self, ref: Ref, events: Sequence[Event]) -> None:
        assert ref.uid == UID
        await self._gate.passes()
        self._store.events.extend(events)


class SimulatedRuntimes:
    """`doors.RuntimeClient` of one operator.

    Args:
        refused: told the pod and the document when the fence kept one out.
    """

    def __init__(
        self, store: Store, gate: Gate, refused: Callable[[SimulatedPod, Document], None]
    ) -> None:
        self._store, self._gate, self._refused = store, gate, refused

    async def get_state(self, pod: Pod, after: str | None = None, wait_s: float = 0) -> PodState:
        assert (after, wait_s) == (None, 0), "a pass does not wait"
        await self._gate.passes()
        return self._find(pod).state(self._store.world.conduct_of)

    async def put_state(self, pod: Pod, document: Document) -> None:
        await self._gate.passes()
        found = self._find(pod)
        if found.refuses(document):
            self._refused(found, document)
            raise Refused(409, {"code": 409, "type": "StaleDocument"})
        if document != found.desired:
            found.put(document)
            self._store.accepted(document)
        await self._gate.passes()

    async def drain(self, pod: Pod) -> None:
        raise AssertionError(f"no pass drains {pod.name}")

    async def is_ready(self, pod: Pod) -> bool:
        return self._find(pod).ready()

    def _find(self, pod: Pod) -> SimulatedPod:
        found = self._store.world.pods.get(pod.name)
        if found is None or found.silent or not found.running:
            raise Silent(f"{pod.name} does not answer")
        return found


class Operator:
    """One operator process: whole passes, and passes that sleep or die at a call."""

    def __init__(self, store: Store, refused: Callable[[SimulatedPod, Document], None]) -> None:
        self._store, self._told_refused = store, refused
        self.gate = Gate()
        self.asleep: asyncio.Task[Result] | None = None
        self.start_anew()

    def start_anew(self) -> None:
        """Forget everything that a process keeps in its memory."""
        self.gate = Gate()
        cluster = SimulatedCluster(self._store, self.gate)
        runtimes = SimulatedRuntimes(self._store, self.gate, self._told_refused)
        self._reconciler = Reconciler(cluster, runtimes, lambda: self._store.world.now)

    async def make_pass(self) -> Result:
        """Make one whole pass."""
        assert self.asleep is None
        return await self._reconciler.reconcile(KEY)

    async def begin_pass(self, calls: int) -> bool:
        """Make a pass that sleeps after so many calls; False if it ended before."""
        assert self.asleep is None
        self.gate.calls_left = calls
        task = asyncio.create_task(self._reconciler.reconcile(KEY))
        held = asyncio.create_task(self.gate.holds.wait())
        await asyncio.wait({task, held}, return_when=asyncio.FIRST_COMPLETED)
        held.cancel()
        if task.done():
            task.result()
            self.start_anew()
            return False
        self.asleep = task
        return True

    async def wake_up(self) -> None:
        """Go on with the pass that sleeps."""
        assert self.asleep is not None
        self.gate.open()
        await self.asleep
        self.asleep = None
        self.start_anew()

    async def die(self) -> None:
        """Be killed where it stands; a new process takes its place."""
        if self.asleep is not None:
            self.asleep.cancel()
            await asyncio.wait({self.asleep})
            self.asleep = None
        self.start_anew()


def _as_listed(pod: SimulatedPod) -> Pod:
    return Pod(
        name=pod.name,
        uid=pod.name,
        owner_uid=UID,
        template_hash=pod.template_hash,
        address=f"http://{pod.name}",
        running=pod.running,
        terminating=pod.terminating,
        restarts=pod.restarts,
        started_at=pod.started_at,
        ready=pod.running and pod.ready(),
        trouble=pod.trouble,
    )
