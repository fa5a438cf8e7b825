"""What may never be, whatever happens: every plan of the real `make_plan`, and the pods.

A plan is judged by the facts that it was made from. An operator that slept since then cannot know
better; that what it writes then is refused is the doors' part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from flambeau_operator.plan.entries import entry_hash
from flambeau_operator.plan.plan import Plan, make_plan
from flambeau_operator.resources.deployment_status import ModelStatus
from flambeau_operator.resources.model_deployment import ModelDeployment
from flambeau_operator.resources.observed import PodFacts, Snapshot
from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    SourceEntry,
    Swap,
    VersionEntry,
    VersionPhase,
)
from flambeau_operator.resources.quantities import share_of
from tests.controlplane.simulated_pods import World

Served = tuple[str, str, SourceEntry]


class Judge:
    """Remembers what a judgement needs of the past, and no more."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ready: set[Served] = set()  # versions that some operator could see ready in a pod
        self.served: set[Served] = set()  # those of them that an operator can still know of
        self.failed: set[tuple[str, str]] = set()  # model and entry that must not come back
        self.plans = 0
        self._told: set[tuple[str, str]] = set()  # failures in the last status
        self._sequence = 0

    # what a user does

    def forgive(self, model: str, entry: str | None = None) -> None:
        """A user asked anew for an entry of a model, or said to retry whatever failed."""
        self.failed = {
            each for each in self.failed if each[0] != model or entry not in {None, each[1]}
        }

    # what an operator decides

    def plan(self, deployment: ModelDeployment, snapshot: Snapshot, now: datetime) -> Plan:
        """Plan as the product does, and judge it."""
        plan = make_plan(deployment, snapshot, now)
        self.plans += 1
        if self.plans % 8 == 0:
            assert make_plan(deployment, snapshot, now) == plan, "the same facts, another plan"
        facts = {pod.name: pod for pod in snapshot.pods}
        if snapshot.committed is None and not any(pod.state for pod in snapshot.pods):
            self.served.clear()  # nobody is left who could tell what once served
        for pod in snapshot.pods:
            self._see_who_serves(pod)
        _no_blind_writes(plan, facts, snapshot)
        _the_sequence_is_raised(plan, deployment, snapshot)
        _conditions_read_as_kstatus_wants(plan)
        _no_more_pods_change_than_allowed(plan, deployment, facts)
        _weights_are_those_of_the_step(plan, deployment, snapshot)
        self._only_proven_versions_are_committed(plan, snapshot, facts)
        self._only_ready_versions_get_weight(plan, snapshot)
        return plan

    def _see_who_serves(self, pod: PodFacts) -> None:
        """Take note of what a pod says, or else of what its probe does: something serves there."""
        truth = self.world.pods.get(pod.name)
        loaded = truth.loaded if truth else {}
        for (model, version), each in loaded.items():
            told = pod.state.version(model, version) if pod.state else None
            ready = told is not None and told.phase is VersionPhase.READY
            if ready or (pod.state is None and pod.ready and each.ready):
                self.ready.add((model, version, each.entry.source))
                self.served.add((model, version, each.entry.source))

    def _only_proven_versions_are_committed(
        self, plan: Plan, snapshot: Snapshot, facts: Mapping[str, PodFacts]
    ) -> None:
        if plan.commit is None or snapshot.committed is None:
            return
        for model in plan.commit.models:
            before = snapshot.committed.model(model.name)
            known = {each.source for each in before.versions} if before else set()
            worthless = before is not None and self._is_worthless(before, facts)
            for each in model.versions:
                proven = _is_ready_everywhere(facts, model.name, each)
                assert proven or worthless or each.source in known, (model.name, each.version)

    def _is_worthless(self, model: ModelEntry, facts: Mapping[str, PodFacts]) -> bool:
        """Tell whether the committed default never served, or has failed in every pod."""
        active = model.version(model.default)
        if active is None or (model.name, active.version, active.source) not in self.served:
            return True
        told = [pod.state for pod in facts.values() if pod.state]
        found = [each.version(model.name, active.version) for each in told]
        return bool(found) and all(each and each.phase is VersionPhase.FAILED for each in found)

    def _only_ready_versions_get_weight(self, plan: Plan, snapshot: Snapshot) -> None:
        """Hold weights against what was ready somewhere; a first set has nothing else to serve."""
        committed = plan.commit or snapshot.committed
        first = {(model.name, each.source) for model, each in _versions(committed)}
        for document in plan.documents.values():
            for model, entry in _versions(document):
                if entry.weight and entry.version != model.default:
                    known = (model.name, entry.version, entry.source) in self.ready
                    assert known or (model.name, entry.source) in first, entry.version

    # what is stored, and what the pods do

    def accepted(self, document: Document) -> None:
        """Look at what a pod has taken: what failed never comes back unasked."""
        for model, entry in _versions(document):
            asked = (model.name, entry_hash(entry))
            assert asked not in self.failed, f"{model.name}@{entry.version} again, unasked"

    def look_at_the_status(self) -> None:
        """Note what failed since the last look, and that the sequence only grows."""
        assert self.world.status.sequence >= self._sequence
        self._sequence = self.world.status.sequence
        told = set()
        for model in self.world.status.models:
            rollout = model.rollout
            hashes = [*rollout.failed_others, *filter(None, [rollout.failed_hash])]
            told |= {(model.name, each) for each in hashes}
        self.failed |= told - self._told
        self._told = told

    def look_at_the_pods(self) -> None:
        """See that requests go to versions that are ready."""
        for pod in self.world.pods.values():
            for model in pod.defaults:
                for version, share in pod.weights(model).items():
                    assert 0 <= share <= 100, (pod.name, model, version, share)
                    assert pod.loaded[model, version].phase is VersionPhase.READY

    def answering(self) -> set[tuple[str, int, str]]:
        """Return which pods, in which life, answer requests for which models."""
        return {
            (pod.name, pod.restarts, model)
            for pod in self.world.pods.values()
            for model in pod.defaults
            if pod.weights(model)
        }

    def nobody_stopped_answering(self, before: set[tuple[str, int, str]]) -> None:
        """Hold a pass against who answered before it: only what was asked for may stop."""
        for name, restarts, model in before - self.answering():
            pod = self.world.pods.get(name)
            if pod is None or pod.restarts != restarts or pod.desired is None:
                continue
            entry = pod.desired.model(model)
            assert entry is None or entry.swap is Swap.RECREATE, f"{model} stopped in {name}"


def _versions(document: Document | None) -> Iterator[tuple[ModelEntry, VersionEntry]]:
    for model in document.models if document else ():
        for entry in model.versions:
            yield model, entry


def _is_ready_everywhere(facts: Mapping[str, PodFacts], model: str, entry: VersionEntry) -> bool:
    present = [pod for pod in facts.values() if _is_present(pod)]
    seen = [pod.state.version(model, entry.version) if pod.state else None for pod in present]
    return bool(seen) and all(each and each.phase is VersionPhase.READY for each in seen)


def _no_blind_writes(plan: Plan, facts: Mapping[str, PodFacts], snapshot: Snapshot) -> None:
    if facts and not any(pod.state for pod in facts.values()) and snapshot.committed:
        assert not plan.documents
        assert plan.commit is None
    assert all(facts[name].state for name in plan.documents)


def _the_sequence_is_raised(plan: Plan, deployment: ModelDeployment, snapshot: Snapshot) -> None:
    before = deployment.status.sequence
    assert plan.status.sequence >= before
    for document in plan.documents.values():
        assert document.sequence == plan.status.sequence > before
        if plan.commit:
            assert plan.commit.sequence < document.sequence
    for pod in snapshot.pods:
        if pod.name in plan.documents and pod.state and pod.state.desired:
            assert plan.documents[pod.name].sequence > pod.state.desired.sequence


def _conditions_read_as_kstatus_wants(plan: Plan) -> None:
    types = [each.type for each in plan.status.conditions]
    assert len(types) == len(set(types))
    assert not {"Reconciling", "Stalled"} <= set(types)
    rolled_out = plan.status.condition("RolledOut")
    if plan.documents or plan.commit:
        assert rolled_out is None or rolled_out.status == "False"


def _no_more_pods_change_than_allowed(
    plan: Plan, deployment: ModelDeployment, facts: Mapping[str, PodFacts]
) -> None:
    rules = deployment.spec.rollout.in_pods
    allowed = share_of(rules.max_unavailable_pods, plan.children.replicas)
    for model in plan.status.models:
        joining = [
            name
            for name, document in plan.documents.items()
            if _joins(facts[name], document, model)
        ]
        if not joining:
            continue
        others = [pod for name, pod in facts.items() if name not in joining and _is_present(pod)]
        changing = [pod for pod in others if pod.state is None or _is_changing(pod, model)]
        assert len(joining) + len(changing) <= allowed, (model.name, joining)
        leaving = [name for name in joining if _recreates(plan.documents[name], model)]
        if any(facts[name].ready for name in leaving):
            unready = [pod for pod in others if not pod.ready]
            assert len(leaving) + len(unready) <= allowed, (model.name, leaving)
        proven = any(_has_ready(pod, model) for pod in others)
        assert proven or len(joining) == 1, "the first pod proves it alone"


def _is_present(pod: PodFacts) -> bool:
    return pod.running and not pod.terminating


def _candidate(model: ModelStatus) -> str | None:
    """Return the version that comes in: the model's own one, or one beside it."""
    return model.rollout.candidate or model.target_version


def _joins(pod: PodFacts, document: Document, model: ModelStatus) -> bool:
    """Tell whether a document asks a pod for the target that it did not have to have before."""
    wanted, held = document.model(model.name), pod.state and pod.state.desired
    entry = wanted.version(_candidate(model)) if wanted else None
    if not model.rollout.spec_hash or entry is None:
        return False
    before = held.model(model.name) if held else None
    known = before.version(_candidate(model)) if before else None
    return known is None or known.source != entry.source


def _is_changing(pod: PodFacts, model: ModelStatus) -> bool:
    held = pod.state and pod.state.desired and pod.state.desired.model(model.name)
    asked = held is not None and held.version(_candidate(model)) is not None
    return asked and not _has_ready(pod, model)


def _has_ready(pod: PodFacts, model: ModelStatus) -> bool:
    seen = pod.state.version(model.name, _candidate(model)) if pod.state else None
    return seen is not None and seen.phase is VersionPhase.READY


def _recreates(document: Document, model: ModelStatus) -> bool:
    entry = document.model(model.name)
    return entry is not None and entry.swap is Swap.RECREATE


def _weights_are_those_of_the_step(
    plan: Plan, deployment: ModelDeployment, snapshot: Snapshot
) -> None:
    """Hold every weight of a document against the step that the status says, and the split.

    A version of a split that becomes the model's own keeps the share that it had.
    """
    steps = deployment.spec.rollout.in_pods.steps or ()
    for document in plan.documents.values():
        for model, entry in _versions(document):
            if entry.version == model.default or not entry.weight:
                continue
            spec = next(each for each in deployment.spec.models if each.name == model.name)
            lasting = (
                {each.version: each.weight for each in spec.split.versions} if spec.split else {}
            )
            rollout = plan.status.model(model.name).rollout
            at = min(rollout.step, len(steps) - 1) if rollout.step is not None and steps else None
            step = steps[at].weight if at is not None else 0
            before = snapshot.committed and snapshot.committed.model(model.name)
            known = before.version(entry.version) if before else None
            own = max(step, known.weight if known else 0)
            most = lasting.get(entry.version, own if entry.version == spec.version else 0)
            assert entry.weight <= most, f"{entry.version} gets {entry.weight} % of at most {most}"
