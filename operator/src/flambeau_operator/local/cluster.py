"""A cluster on one machine: pods are processes, a Service is a balancer, objects are files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from flambeau_operator.doors import Key, Outcome, Pod, Ref, RuntimeClient
from flambeau_operator.errors import Conflict, FieldProblem, InvalidSpec, Unavailable
from flambeau_operator.local.balancer import Balancer
from flambeau_operator.local.objects import ObjectFiles, write_file
from flambeau_operator.local.pod import LocalPod, Surroundings, Wards
from flambeau_operator.local.pod_log import log_tail
from flambeau_operator.local.pod_set import Place, PodSet
from flambeau_operator.plan.children import Children
from flambeau_operator.plan.plan import Event
from flambeau_operator.plan.without_effect import on_one_machine
from flambeau_operator.resources.deployment_status import Status
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.observed import Autoscaler, ChildrenFacts
from flambeau_operator.resources.pod_state import Document
from flambeau_operator.resources.pod_state_json import document_from_json, document_to_json

RUNTIME: Final = (sys.executable, "-m", "flambeau_runtime")
CLOSE_GRACE_S: Final = 30.0  # at most, when all of it ends
EVENTS_KEPT: Final = 100
NO_AUTOSCALER: Final = Autoscaler(
    active=False, reason="Unsupported", message="pods of one machine are not autoscaled"
)
NAMESPACE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and when it was told."""

    at: datetime
    event: Event


class LocalCluster:
    """The door `Cluster` for processes of this machine; they live as long as the block.

    Args:
        folder: where objects, boot files, logs and the runtimes' state lie.
        runtimes: asks pods whether they are ready, and drains them.
        public_key: of whoever signs the calls to the pods; pods accept no other.
        clock: the wall clock.
        wards: ends process groups should this process be killed.
        changed: called with a key when a pod of it has changed.
        host: where the deployments' addresses are bound.
        command: how to start a runtime, without flags.
    """

    def __init__(  # noqa: PLR0913  a composition: every part is handed in, and named at the call
        self,
        folder: Path,
        *,
        runtimes: RuntimeClient,
        public_key: str,
        clock: Callable[[], datetime],
        wards: Wards,
        changed: Callable[[Key], None],
        host: str = "127.0.0.1",
        command: Sequence[str] = RUNTIME,
    ) -> None:
        self._objects = ObjectFiles(folder, clock)
        self._runtimes = runtimes
        self._public_key = public_key
        self._clock = clock
        self._wards = wards
        self._changed = changed
        self._host = host
        self._command = tuple(command)
        self._sets: dict[Key, PodSet] = {}
        self._events: dict[Key, list[Told]] = {}
        self._tasks = asyncio.TaskGroup()
        self._running: dict[Key, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        """Be ready to start pods."""
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop every pod in order, all at the same time."""
        for pods in self._sets.values():
            await pods.balancer.stop_listening()
            pods.ask_to_close(CLOSE_GRACE_S)
        try:
            # Whatever ended the block, the pods get their orderly end; it is raised all the same.
            await self._tasks.__aexit__(None, None, None)
        finally:
            for pods in self._sets.values():
                await pods.balancer.close()

    # --- what a user does -----------------------------------------------------------------------

    async def apply(self, body: Mapping[str, Any], port: int) -> Key:
        """Create or update an object; its address is bound before it exists.

        Args:
            body: the manifest; a status in it is not looked at.
            port: of its address when it is new; 0 takes a free one.

        Raises:
            InvalidSpec: as an API server would refuse it, and nothing has changed.
            PortInUse: the address cannot be bound.
            Unavailable: the folder cannot be written.
        """
        wish = {name: value for name, value in body.items() if name != "status"}
        key = admit(wish)
        pods = self._sets.get(key)
        balancer = pods.balancer if pods else Balancer(self._host, port)
        if pods is None:
            await balancer.listen()
        try:
            if pods is None:
                self._renew_keys(key)
            changed = self._objects.apply(key, wish, balancer.url)
        except Unavailable:
            if pods is None:
                await balancer.close()
            raise
        if pods is None:
            self._begin(key, balancer)
        if changed:
            self._changed(key)
        return key

    async def delete(self, key: Key) -> None:
        """Stop the pods of an object in order and forget it."""
        pods = self._sets.get(key)
        if pods is None:
            return
        await pods.balancer.stop_listening()
        pods.ask_to_close(CLOSE_GRACE_S)
        await asyncio.wait([self._running[key]])
        await pods.balancer.close()
        self._sets.pop(key, None)
        self._running.pop(key, None)
        self._events.pop(key, None)
        self._objects.delete(key)
        self._changed(key)

    def patch(
        self, ref: Ref, annotations: Mapping[str, str | None], paused: bool | None
    ) -> Mapping[str, Any]:
        """Set annotations and whether rollouts pause, beside the file; return the new object.

        Raises:
            Conflict: the object of this uid is gone.
            Unavailable: the folder cannot be written.
        """
        held = self._objects.patch(ref, annotations, paused)
        self._changed(ref.key)
        return held

    def applied(self) -> tuple[Key, ...]:
        """Return what was applied, in that order."""
        return self._objects.keys()

    def read_now(self, key: Key) -> Mapping[str, Any]:
        """Return an object that was applied, status included."""
        return self._objects.read(key) or {}

    def pods(self, key: Key) -> tuple[LocalPod, ...]:
        """Return the pods of an object, oldest first."""
        pods = self._sets.get(key)
        return pods.pods if pods else ()

    def url(self, key: Key) -> str:
        """Return the address of an object's predictions."""
        return self._sets[key].balancer.url

    def events(self, key: Key) -> tuple[Told, ...]:
        """Return the last events of an object, oldest first."""
        return tuple(self._events.get(key, ()))

    # --- the door -------------------------------------------------------------------------------

    async def read_deployment(self, key: Key) -> Mapping[str, Any] | None:
        """See `doors.Cluster`."""
        return self._objects.read(key)

    async def apply_children(self, ref: Ref, children: Children) -> tuple[Outcome, ...]:
        """See `doors.Cluster`."""
        self._objects.fenced(ref)
        self._sets[ref.key].want(children)
        return (Outcome("apply pods", ref.key.name),)

    async def list_pods(self, ref: Ref) -> tuple[Pod, ...]:
        """See `doors.Cluster`."""
        pods = self._sets.get(ref.key)
        return pods.facts() if pods else ()

    async def read_children(self, ref: Ref) -> ChildrenFacts:
        """See `doors.Cluster`."""
        pods, held = self._sets.get(ref.key), self._objects.read(ref.key)
        if pods is None or held is None:
            return ChildrenFacts()
        spec = parse(held).spec
        autoscaled = spec.autoscaling is not None
        return ChildrenFacts(
            url=pods.balancer.url,
            unsupported=on_one_machine(spec),
            autoscaler=NO_AUTOSCALER if autoscaled else None,
        )

    async def read_committed(self, ref: Ref) -> Document | None:
        """See `doors.Cluster`."""
        try:
            content = json.loads(self._boot_file(ref.key).read_bytes())
            return document_from_json(content["document"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # missing or broken: it is made anew from the pods

    async def commit(self, ref: Ref, document: Document) -> None:
        """See `doors.Cluster`."""
        self._objects.fenced(ref)
        self._write_boot_file(ref.key, document)
        self._sets[ref.key].look()

    async def write_status(self, ref: Ref, status: Status) -> str:
        """See `doors.Cluster`."""
        # No self._changed: the writer knows, and a pass that wakes itself never rests.
        return self._objects.write_status(ref, status.to_json())

    async def emit(self, ref: Ref, events: Sequence[Event]) -> None:
        """See `doors.Cluster`."""
        with contextlib.suppress(Conflict):
            self._objects.fenced(ref)
            for event in events:
                self._tell(ref.key, event)

    # --- inside ---------------------------------------------------------------------------------

    def _begin(self, key: Key, balancer: Balancer) -> None:
        """Give a new object its pods' keeper."""
        folder = self._objects.folder(key)
        surroundings = Surroundings(
            runtimes=self._runtimes,
            wards=self._wards,
            clock=self._clock,
            changed=lambda: self._changed(key),
            died=lambda pod: self._mourn(key, pod),
            until_free=balancer.until_free,
        )
        place = Place(key.name, folder, self._command, self._boot_file(key))
        pods = PodSet(place, balancer, surroundings)
        self._sets[key] = pods
        self._running[key] = self._tasks.create_task(pods.run(), name=f"pods of {key}")

    def _boot_file(self, key: Key) -> Path:
        return self._objects.folder(key) / "models.json"

    def _renew_keys(self, key: Key) -> None:
        """Let pods that boot from an earlier session's file accept this session's calls."""
        try:
            content = json.loads(self._boot_file(key).read_bytes())
            document = document_from_json(content["document"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._boot_file(key).unlink(missing_ok=True)
            return
        self._write_boot_file(key, document)

    def _write_boot_file(self, key: Key, document: Document) -> None:
        content = {"document": document_to_json(document), "publicKeys": [self._public_key]}
        write_file(self._boot_file(key), json.dumps(content, ensure_ascii=False))

    def _mourn(self, key: Key, pod: LocalPod) -> None:
        tail = log_tail(pod.log_file, 512)
        message = f"{pod.name}: {pod.last_exit}" + (f"; its last words:\n{tail}" if tail else "")
        self._tell(key, Event("Warning", "PodDied", message))

    def _tell(self, key: Key, event: Event) -> None:
        told = self._events.setdefault(key, [])
        told.append(Told(self._clock(), event))
        del told[:-EVENTS_KEPT]


def admit(wish: Mapping[str, Any]) -> Key:
    """Return the key of an object that may be stored; raise InvalidSpec for any other."""
    metadata = parse(wish).metadata
    if not metadata.namespace or not NAMESPACE_CHARACTERS.issuperset(metadata.namespace):
        raise InvalidSpec([FieldProblem("metadata.namespace", "is not a DNS label")])
    return Key(metadata.namespace, metadata.name)
