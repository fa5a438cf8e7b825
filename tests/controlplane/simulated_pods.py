"""A small pure world of runtimes: documents go in, phases advance when told, pods come and go.

It does what the runtime promises (the fence, the boot file, one effective default that is always
ready) and nothing else, so that thousands of histories run in a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from flambeau_operator.plan.plan import Plan, make_plan
from flambeau_operator.resources.deployment_status import Status, status_from_json
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.observed import ChildrenFacts, PodFacts, Snapshot, Trouble
from flambeau_operator.resources.pod_state import (
    Document,
    Failure,
    ModelEntry,
    ModelState,
    PodState,
    SourceEntry,
    VersionEntry,
    VersionPhase,
    VersionState,
    WorkerCounts,
)
from flambeau_operator.resources.pod_state_json import document_from_json, document_to_json
from tests.builders import NOON, UID

NEXT = {
    VersionPhase.PENDING: VersionPhase.FETCHING,
    VersionPhase.FETCHING: VersionPhase.VERIFYING,
    VersionPhase.VERIFYING: VersionPhase.LOADING,
    VersionPhase.LOADING: VersionPhase.WARMING,
    VersionPhase.WARMING: VersionPhase.READY,
}
DONE = {VersionPhase.READY, VersionPhase.FAILED}


BOOM = Failure("InitializeFailed", "boom", "last line")


class FenceBroken(AssertionError):
    """The operator sent a document that a pod must refuse."""


@dataclass
class Loaded:
    """One version inside a simulated pod."""

    entry: VersionEntry
    phase: VersionPhase = VersionPhase.PENDING

    def advance(self, bad: Iterable[str]) -> None:
        if self.phase is VersionPhase.LOADING and self.entry.source.uri in bad:
            self.phase = VersionPhase.FAILED
        self.phase = NEXT.get(self.phase, self.phase)


@dataclass
class SimulatedPod:
    """One runtime."""

    name: str
    template_hash: str
    desired: Document | None = None
    silent: bool = False
    silent_passes: int = 0
    started_at: datetime = NOON - timedelta(hours=1)
    restarts: int = 0
    terminating: bool = False
    running: bool = True
    workers_to_come: int = 0  # of each version that is ready
    trouble: Trouble | None = None  # why it does not run
    failure: Failure = BOOM  # of versions that fail
    loaded: dict[tuple[str, str], Loaded] = field(default_factory=dict)
    defaults: dict[str, str | None] = field(default_factory=dict)

    def boot(self, committed: Document | None) -> None:
        """Start (again): the newer of the kept document and the mounted file."""
        self.see(committed)
        self.loaded, self.defaults = {}, {}

    def see(self, committed: Document | None) -> None:
        """Adopt the mounted file if it is newer."""
        kept = self.desired
        if committed and (kept is None or committed.sequence > kept.sequence):
            self.desired = committed

    def put(self, document: Document) -> None:
        """Take a document, or refuse it as the fence demands."""
        document = document_from_json(document_to_json(document))
        if self.desired and document.sequence <= self.desired.sequence:
            raise FenceBroken(f"{self.name}: {document.sequence} <= {self.desired.sequence}")
        self.desired = document

    def advance(self, bad: Iterable[str]) -> None:
        """Let every version take one step: defaults first, then candidates."""
        wanted = {
            (model.name, entry.version): (model, entry)
            for model in (self.desired.models if self.desired else ())
            for entry in model.versions
        }
        self._switch_defaults()
        for key, loaded in list(self.loaded.items()):
            leaves = key not in wanted or wanted[key][1].source != loaded.entry.source
            if leaves and self.defaults.get(key[0]) != key[1]:
                del self.loaded[key]
            elif leaves and key[0] not in {name for name, _ in wanted}:
                del self.loaded[key], self.defaults[key[0]]
        settled = self._defaults_settled()
        for key, (model, entry) in wanted.items():
            if key not in self.loaded:
                self.loaded[key] = Loaded(entry)
            elif model.default == entry.version or settled:
                loaded = self.loaded[key]
                if loaded.phase is VersionPhase.FAILED and loaded.entry != entry:
                    loaded.phase = VersionPhase.PENDING
                loaded.entry = entry
                loaded.advance(bad)
        self._switch_defaults()

    def _switch_defaults(self) -> None:
        for model in self.desired.models if self.desired else ():
            loaded = self.loaded.get((model.name, model.default or ""))
            if loaded and loaded.phase is VersionPhase.READY:
                self.defaults[model.name] = model.default

    def _defaults_settled(self) -> bool:
        models = self.desired.models if self.desired else ()
        found = [self.loaded.get((m.name, m.default)) for m in models if m.default]
        return all(each is not None and each.phase in DONE for each in found)

    def ready(self) -> bool:
        """Whether every required model has its wanted default, or still an earlier one."""
        models = self.desired.models if self.desired else ()
        return self.desired is not None and all(
            self.defaults.get(model.name) for model in models if model.required
        )

    def phase(self, model: str, version: str) -> VersionPhase | None:
        loaded = self.loaded.get((model, version))
        return loaded.phase if loaded else None

    def facts(self) -> PodFacts:
        """What a pass sees of it."""
        told = None if self.silent or not self.running else self.state()
        return PodFacts(
            name=self.name,
            uid=self.name,
            owner_uid=UID,
            template_hash=self.template_hash,
            running=self.running,
            terminating=self.terminating,
            restarts=self.restarts,
            started_at=self.started_at,
            state=told,
            silent_passes=self.silent_passes,
            trouble=self.trouble,
        )

    def state(self) -> PodState:
        names = sorted({model for model, _ in self.loaded})
        return PodState(
            desired=self.desired,
            ready=self.ready(),
            models=tuple(self._model_state(name) for name in names),
        )

    def _model_state(self, name: str) -> ModelState:
        return ModelState(
            name=name,
            default=self.defaults.get(name),
            ready=self.defaults.get(name) is not None,
            versions=tuple(
                self._version_state(loaded, self.defaults.get(name) == version)
                for (model, version), loaded in sorted(self.loaded.items())
                if model == name
            ),
        )

    def _version_state(self, loaded: Loaded, default: bool) -> VersionState:
        failed = loaded.phase is VersionPhase.FAILED
        ready = loaded.phase is VersionPhase.READY
        return VersionState(
            version=loaded.entry.version,
            phase=loaded.phase,
            weight=100 if default else 0,
            workers=WorkerCounts(
                wanted=loaded.entry.workers,
                ready=loaded.entry.workers - self.workers_to_come if ready else 0,
                starting=self.workers_to_come,
            ),
            digest=f"sha256:{loaded.entry.version}",
            bytes=1000,
            failure=self.failure if failed else None,
        )


@dataclass
class World:
    """The object as it is stored, the committed set, and the pods."""

    body: dict[str, Any]
    bad: set[str] = field(default_factory=set)
    status: Status = field(default_factory=Status)
    committed: Document | None = None
    pods: dict[str, SimulatedPod] = field(default_factory=dict)
    now: datetime = NOON
    born: int = 0
    last: Plan | None = None
    eager: bool = False  # pods see the committed set before the documents reach them
    children: ChildrenFacts = field(default_factory=ChildrenFacts)  # what stands around the pods

    # what happens to it

    def edit(self, **spec: Any) -> None:
        """Change the spec, as a user does."""
        self.body = {**self.body, "spec": {**self.body["spec"], **spec}}
        metadata = self.body["metadata"]
        self.body["metadata"] = {**metadata, "generation": metadata["generation"] + 1}

    def annotate(self, **annotations: str) -> None:
        named = {f"serving.flambeau.dev/{key}": value for key, value in annotations.items()}
        self.body["metadata"] = {**self.body["metadata"], "annotations": named}

    def advance(self, *names: str, times: int = 1) -> None:
        """Let pods (all of them, if none is named) take steps."""
        for _ in range(times):
            for name in names or list(self.pods):
                if name in self.pods and self.pods[name].running:
                    self.pods[name].advance(self.bad)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def restart(self, name: str) -> None:
        """The container dies and comes back with what is on its disk."""
        self.pods[name].restarts += 1
        self.pods[name].boot(self.committed)

    def replace(self, name: str) -> None:
        """The pod dies; another takes its place."""
        template = self.pods.pop(name).template_hash
        self._start(template)

    def _start(self, template_hash: str) -> None:
        self.born += 1
        pod = SimulatedPod(name=f"pod-{self.born:02}", template_hash=template_hash)
        pod.boot(self.committed)
        self.pods[pod.name] = pod

    # what the operator does

    def snapshot(self) -> Snapshot:
        facts = tuple(pod.facts() for pod in self.pods.values())
        return Snapshot(pods=facts, committed=self.committed, children=self.children)

    def plan(self) -> Plan:
        """Plan from what is stored, as an operator does that has just been started."""
        deployment = parse({**self.body, "status": self.status.to_json()})
        return make_plan(deployment, self.snapshot(), self.now)

    def reconcile(self) -> Plan:
        """One whole pass."""
        for pod in self.pods.values():
            pod.silent_passes = pod.silent_passes + 1 if pod.silent else 0
        plan = self.plan()
        self.carry_out(plan)
        self.last = plan
        return plan

    def carry_out(self, plan: Plan) -> None:
        self.status = status_from_json(plan.status.to_json())
        if plan.commit:
            self.committed = document_from_json(document_to_json(plan.commit))
            if self.eager:
                self._show_committed()
        for name, document in plan.documents.items():
            if not self.pods[name].silent:
                self.pods[name].put(document)
        if plan.applies:
            self._scale(plan)

    def _show_committed(self) -> None:
        for pod in self.pods.values():
            pod.see(self.committed)

    def _scale(self, plan: Plan) -> None:
        wanted, template = plan.children.replicas, plan.children.template.template_hash
        outdated = [pod for pod in self.pods.values() if pod.template_hash != template]
        for pod in outdated[:1]:
            if all(p.ready() for p in self.pods.values()):
                self.replace(pod.name)
                list(self.pods.values())[-1].template_hash = template
        while len(self.pods) < wanted:
            self._start(template)
        for name in sorted(self.pods)[wanted:]:
            del self.pods[name]

    def settle(self, passes: int = 60) -> Plan:
        """Let everybody do what they do until nothing is left to do."""
        for _ in range(passes):
            before = self._facts()
            self.wait(1)
            plan = self.reconcile()
            self.advance()
            if self._facts() == before and not plan.documents and not plan.commit:
                return plan
        raise AssertionError(f"not at rest after {passes} passes: {self.status.to_json()}")

    def _facts(self) -> tuple[object, ...]:
        return (self.snapshot(), self.status)

    # what can be asked

    def defaults(self, model: str = "classifier") -> list[str | None]:
        """The version that answers in each pod."""
        return [pod.defaults.get(model) for pod in self.pods.values()]

    def phases(self, version: str, model: str = "classifier") -> list[str | None]:
        """How far each pod has come with a version."""
        found = (pod.phase(model, version) for pod in self.pods.values())
        return [str(phase) if phase else None for phase in found]

    def condition(self, type_: str) -> tuple[str, str] | None:
        """Status and reason of a condition."""
        found = self.status.condition(type_)
        return (found.status, found.reason) if found else None

    def committed_versions(self) -> dict[str, str | None]:
        """What a pod that starts now must load."""
        models = self.committed.models if self.committed else ()
        return {model.name: model.default for model in models}


def entry(version: str = "1.0", model: str = "classifier", **changes: Any) -> VersionEntry:
    """Return a version's entry with the source that the builders use."""
    source = SourceEntry(f"file:///models/{model}-{version}.mar")
    return replace(VersionEntry(version, source), **changes)


def model_entry(
    name: str = "classifier", default: str | None = "1.0", *versions: VersionEntry
) -> ModelEntry:
    """Return a model's entry; without versions, just its default."""
    return ModelEntry(name, default, versions or (entry(default or "1.0", name),))
