"""A small pure world: an object, its committed set, and pods that are simulated runtimes.

Documents go in, phases advance when told, pods come and go, requests flow while time passes; and
nothing else, so that thousands of histories run in a minute.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from flambeau_operator.plan.children import Children
from flambeau_operator.plan.plan import Plan, make_plan
from flambeau_operator.resources.deployment_status import Status, status_from_json
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.observed import ChildrenFacts, Snapshot
from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    SourceEntry,
    VersionEntry,
    VersionPhase,
)
from flambeau_operator.resources.pod_state_json import document_from_json, document_to_json
from tests.builders import NOON
from tests.controlplane.simulated_runtime import (
    WELL_BEHAVED,
    Conduct,
    FenceBroken,
    SimulatedPod,
)

__all__ = ["Conduct", "FenceBroken", "SimulatedPod", "World", "entry", "model_entry"]

CANNOT_LOAD = Conduct(fails_in=VersionPhase.LOADING)


@dataclass
class World:
    """The object as it is stored, the committed set, and the pods."""

    body: dict[str, Any]
    bad: set[str] = field(default_factory=set)  # archives that cannot be loaded
    conduct: dict[str, Conduct] = field(default_factory=dict)  # of archives, if not the best
    status: Status = field(default_factory=Status)
    committed: Document | None = None
    pods: dict[str, SimulatedPod] = field(default_factory=dict)
    now: datetime = NOON
    born: int = 0
    last: Plan | None = None
    eager: bool = False  # pods see the committed set before the documents reach them
    children: ChildrenFacts = field(default_factory=ChildrenFacts)  # what stands around the pods
    rate: float = 0.0  # requests per second and model
    drain_steps: int = 0  # see SimulatedPod
    limit_bytes: int | None = None
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)  # by model and version
    lost: int = 0  # requests that found no ready pod

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
                    self.pods[name].advance(self.conduct_of)

    def wait(self, seconds: float) -> None:
        """Let time pass, in which requests come."""
        self.now += timedelta(seconds=seconds)
        if self.rate:
            for model in self.body["spec"]["models"]:
                self.flow(round(self.rate * seconds), model["name"])

    def flow(self, requests: int, model: str = "classifier") -> None:
        """Send requests that name no version to the ready pods, as a Service does."""
        serving = [pod for pod in self.pods.values() if pod.running and pod.ready()]
        asked = [pod for pod in serving if pod.weights(model)]
        if not asked:
            self.lost += requests
            return
        for number, pod in enumerate(asked):
            share = (requests + number) // len(asked)
            answers = pod.serve(model, share, self.conduct_of)
            self.answered.update({(model, version): got for version, got in answers.items()})
            asked_for = [version for version, got in answers.items() if got]
            sources = [pod.loaded[model, version].entry.source.uri for version in asked_for]
            if any(self.conduct_of(uri).kills_pod for uri in sources):
                self.restart(pod.name)

    def conduct_of(self, uri: str) -> Conduct:
        """Return how the version of an archive behaves."""
        return CANNOT_LOAD if uri in self.bad else self.conduct.get(uri, WELL_BEHAVED)

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
        pod = SimulatedPod(
            name=f"pod-{self.born:02}",
            template_hash=template_hash,
            drain_steps=self.drain_steps,
            limit_bytes=self.limit_bytes,
        )
        pod.boot(self.committed)
        self.pods[pod.name] = pod

    # what the operator does

    def snapshot(self) -> Snapshot:
        facts = tuple(pod.facts(self.conduct_of) for pod in self.pods.values())
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
            self.commit(document_from_json(document_to_json(plan.commit)))
        for name, document in plan.documents.items():
            if not self.pods[name].silent:
                self.pods[name].put(document)
        if plan.applies:
            self.scale(plan.children)

    def commit(self, document: Document) -> None:
        """Write what a starting pod boots from."""
        self.committed = document
        for pod in self.pods.values() if self.eager else ():
            pod.see(document)

    def scale(self, children: Children) -> None:
        """Start and stop pods as asked; those of an older template one by one."""
        wanted, template = children.replicas, children.template.template_hash
        outdated = [pod for pod in self.pods.values() if pod.template_hash != template]
        for pod in sorted(outdated, key=lambda pod: pod.ready())[:1]:
            if not pod.ready() or all(p.ready() for p in self.pods.values()):
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
