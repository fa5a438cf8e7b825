"""Both doors in memory, for tests of what goes through them.

They are held to the same contract as the real ones (`tests/contract/test_cluster.py`). Pods appear
at once and load whatever is asked of them until they are next looked at.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

from flambeau_operator.doors import Key, Outcome, Pod, Ref
from flambeau_operator.errors import Conflict, Refused, Silent
from flambeau_operator.resources.observed import ChildrenFacts
from flambeau_operator.resources.pod_state import (
    Document,
    Failure,
    ModelState,
    PodState,
    VersionPhase,
    VersionState,
    WorkerCounts,
)


class FakeRuntimes:
    """RuntimeClient: what each pod was told, and how far it is."""

    def __init__(self, failing=()):
        self.told: dict[str, Document] = {}  # by pod name
        self.defaults: dict[tuple[str, str], str] = {}
        self.silent: set[str] = set()
        self.failing = set(failing)  # versions that no pod can load
        self.accepted: list[tuple[str, Document]] = []
        self._loaded: set[tuple[str, str, str]] = set()

    def boot(self, pod: str, document: Document | None) -> None:
        if document is not None:
            self.told[pod] = document

    async def get_state(self, pod: Pod, after: str | None = None, wait_s: float = 0) -> PodState:
        del after, wait_s
        document = self._ask(pod)
        models = tuple(self._model(pod.name, model) for model in document.models)
        ready = all(model.ready for model in models if model.required)
        return PodState(
            revision=str(len(self.accepted)),
            process_id=pod.uid,
            desired=document,
            ready=ready,
            models=models,
        )

    async def put_state(self, pod: Pod, document: Document) -> None:
        held = self._ask(pod)
        stale = document.sequence < held.sequence or (
            document.sequence == held.sequence and document != held
        )
        if document.owner.uid != held.owner.uid or stale:
            current = {"uid": held.owner.uid, "sequence": held.sequence}
            raise Refused(409, {"code": 409, "type": "StaleDocument", "current": current})
        self.told[pod.name] = document
        self.accepted.append((pod.name, document))

    async def drain(self, pod: Pod) -> None:
        self._ask(pod)

    async def is_ready(self, pod: Pod) -> bool:
        return (await self.get_state(pod)).ready

    def _ask(self, pod: Pod) -> Document:
        if pod.name in self.silent or pod.name not in self.told:
            raise Silent(f"{pod.name} is silent")
        return self.told[pod.name]

    def _model(self, pod, model):
        default = self.defaults.get((pod, model.name))
        versions = tuple(self._version(pod, model, entry) for entry in model.versions)
        if model.default and model.default not in self.failing:
            default = self.defaults[pod, model.name] = model.default
        return ModelState(
            name=model.name,
            required=model.required,
            default=default,
            ready=default is not None,
            versions=tuple(
                replace(each, weight=100 if each.version == default else 0) for each in versions
            ),
        )

    def _version(self, pod, model, entry):
        which = pod, model.name, entry.version
        if entry.version in self.failing:
            failure = Failure("InitializeFailed", "no such layer", "last words")
            return VersionState(entry.version, VersionPhase.FAILED, failure=failure)
        if which not in self._loaded and model.default != entry.version:
            self._loaded.add(which)
            return VersionState(entry.version, VersionPhase.LOADING)
        workers = WorkerCounts(wanted=entry.workers, ready=entry.workers)
        return VersionState(entry.version, VersionPhase.READY, workers=workers)


@dataclass
class FakeCluster:
    """Cluster: objects in a dictionary, pods as soon as there is something to boot from."""

    runtimes: FakeRuntimes = field(default_factory=FakeRuntimes)
    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    committed: dict[str, Document] = field(default_factory=dict)  # by uid
    pods: dict[Key, list[Pod]] = field(default_factory=dict)
    events: list[tuple[Key, object]] = field(default_factory=list)
    status_writes: int = 0
    numbers: itertools.count = field(default_factory=lambda: itertools.count(1))

    # --- what a user does ---

    async def create(self, body) -> Key:
        key = Key(body["metadata"].get("namespace", "default"), body["metadata"]["name"])
        held = self.objects.get(key)
        metadata = dict(held["metadata"]) if held else {"uid": f"uid-{next(self.numbers)}"}
        changed = held is None or held["spec"] != body["spec"]
        generation = metadata.get("generation", 0) + changed
        metadata |= body["metadata"] | {"generation": generation, "namespace": key.namespace}
        self._store(key, {**body, "metadata": metadata, "status": held["status"] if held else {}})
        return key

    async def delete(self, key) -> None:
        held = self.objects.pop(key)
        self.committed.pop(held["metadata"]["uid"], None)
        self.pods.pop(key, None)

    def _store(self, key, body):
        body["metadata"]["resourceVersion"] = str(next(self.numbers))
        self.objects[key] = body

    # --- the door ---

    async def read_deployment(self, key: Key):
        return self.objects.get(key)

    async def read_children(self, ref: Ref) -> ChildrenFacts:
        return ChildrenFacts(url=f"http://{ref.key.name}")

    async def apply_children(self, ref: Ref, children) -> tuple[Outcome, ...]:
        self._fenced(ref)
        document = self.committed.get(ref.uid)
        template_hash = children.template.template_hash
        pods = [pod for pod in self.pods.get(ref.key, []) if pod.template_hash == template_hash]
        pods = pods[: children.replicas]
        while len(pods) < children.replicas and document is not None:
            pod = self._pod(ref, template_hash, len(pods))
            self.runtimes.boot(pod.name, document)
            pods.append(pod)
        self.pods[ref.key] = pods
        return (Outcome("apply pods", ref.key.name),)

    def _pod(self, ref, template_hash, number):
        return Pod(
            name=f"{ref.key.name}-{template_hash}-{number}",
            uid=f"pod-{next(self.numbers)}",
            owner_uid=ref.uid,
            template_hash=template_hash,
            address=f"http://pod-{number}",
            running=True,
            terminating=False,
            restarts=0,
            started_at=None,
            ready=True,
        )

    async def list_pods(self, ref: Ref) -> tuple[Pod, ...]:
        return tuple(self.pods.get(ref.key, ()))

    async def read_committed(self, ref: Ref) -> Document | None:
        return self.committed.get(ref.uid)

    async def commit(self, ref: Ref, document: Document) -> None:
        self._fenced(ref)
        self.committed[ref.uid] = document

    async def write_status(self, ref: Ref, status) -> str:
        held = self._fenced(ref)
        if held["metadata"]["resourceVersion"] != ref.resource_version:
            raise Conflict("read again")
        self._store(
            ref.key, {**held, "metadata": dict(held["metadata"]), "status": status.to_json()}
        )
        self.status_writes += 1
        return self.objects[ref.key]["metadata"]["resourceVersion"]

    async def emit(self, ref: Ref, events) -> None:
        self.events += [(ref.key, event) for event in events]

    def _fenced(self, ref):
        held = self.objects.get(ref.key)
        if held is None or held["metadata"]["uid"] != ref.uid:
            raise Conflict("gone")
        return held


class Crash(Exception):
    """The process dies here."""


class Crashing:
    """A door that dies at one of its calls: before it has an effect, or just after."""

    def __init__(self, door, calls, *, at=None, after=False):
        self._door = door
        self._calls = calls  # shared by both doors: the names, in order
        self._at = at
        self._after = after

    def __getattr__(self, name):
        method = getattr(self._door, name)

        async def call(*args, **options):
            self._calls.append(name)
            dies = len(self._calls) - 1 == self._at
            if dies and not self._after:
                raise Crash(name)
            answer = await method(*args, **options)
            if dies:
                raise Crash(name)
            return answer

        return call
