"""What holds in every history: whatever happens to the pods, the spec and the operator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flambeau_operator.plan.entries import entry_hash
from flambeau_operator.plan.plan import Plan
from flambeau_operator.resources.pod_state import (
    Document,
    SourceEntry,
    VersionEntry,
    VersionPhase,
)
from flambeau_operator.resources.quantities import share_of
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.simulated_pods import SimulatedPod, World

GOOD, BETTER, BROKEN = "1.0", "2.0", "3.0-broken"
MODELS = ("classifier", "detector")


def spec_models(versions: dict[str, str], workers: int) -> list[dict[str, Any]]:
    """Return spec.models with these versions."""
    return [
        model_body(name, version, workers={"min": workers})
        for name, version in sorted(versions.items())
    ]


def versions_of(document: Document) -> dict[tuple[str, str], VersionEntry]:
    """Return every version that a document names."""
    return {
        (model.name, each.version): each for model in document.models for each in model.versions
    }


class Watch:
    """Looks at every pass and says what may never be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.failed: dict[tuple[str, str], int] = {}  # model, entry hash → generation
        self.served: set[tuple[str, SourceEntry]] = set()

    def reconcile(self) -> Plan:
        """Make one pass and judge it."""
        world = self.world
        for pod in world.pods.values():
            pod.silent_passes = pod.silent_passes + 1 if pod.silent else 0
        plan = world.plan()
        again = world.plan()
        assert again == plan, "an operator that was just restarted must decide the same"
        self.no_blind_writes(plan)
        self.the_sequence_is_raised(plan)
        self.only_proven_versions_are_committed(plan)
        self.no_more_pods_change_than_allowed(plan)
        self.no_failed_entry_comes_back(plan)
        self.conditions_read_as_kstatus_wants(plan)
        if world.committed is None and all(pod.silent for pod in world.pods.values()):
            self.served.clear()  # nobody is left who could tell what once served
        world.carry_out(plan)
        world.last = plan
        self.pods_answer_with_ready_versions()
        return plan

    def pods_answer_with_ready_versions(self) -> None:
        for pod in self.world.pods.values():
            for model, version in pod.defaults.items():
                loaded = pod.loaded[model, version or ""]
                assert loaded.phase is VersionPhase.READY
                self.served.add((model, loaded.entry.source))
        # A model that left the committed set is a new one when it comes back.
        if self.world.committed is None:
            return
        kept = {model.name for model in self.world.committed.models}
        self.served = {each for each in self.served if each[0] in kept}

    def no_blind_writes(self, plan: Plan) -> None:
        talking = [pod for pod in self.world.pods.values() if not pod.silent]
        if self.world.pods and not talking and self.world.committed:
            assert not plan.documents
            assert plan.commit is None
        assert all(not self.world.pods[name].silent for name in plan.documents)

    def the_sequence_is_raised(self, plan: Plan) -> None:
        assert plan.status.sequence >= self.world.status.sequence
        for document in plan.documents.values():
            assert document.sequence == plan.status.sequence > self.world.status.sequence
            if plan.commit:
                assert plan.commit.sequence < document.sequence

    def only_proven_versions_are_committed(self, plan: Plan) -> None:
        if plan.commit is None or self.world.committed is None:
            return
        before = {model.name: model for model in self.world.committed.models}
        for model in plan.commit.models:
            new = model.versions[0]
            old = before[model.name].versions[0] if model.name in before else None
            if old and old.source == new.source:
                continue
            proven = self.world.pods and all(
                is_ready(pod, model.name, new) for pod in self.world.pods.values()
            )
            assert proven or (old and self.is_worthless(model.name, old)), (model.name, new.version)

    def is_worthless(self, model: str, old: VersionEntry) -> bool:
        pods = self.world.pods.values()
        everywhere = all(pod.phase(model, old.version) is VersionPhase.FAILED for pod in pods)
        return (model, old.source) not in self.served or (bool(pods) and everywhere)

    def no_more_pods_change_than_allowed(self, plan: Plan) -> None:
        rolling = [m for m in plan.status.models if m.rollout.spec_hash]
        assert len(rolling) <= 1, "one model at a time"
        committed = plan.commit or self.world.committed
        for model in rolling:
            key = (model.name, model.target_version or "")
            joining = [
                name
                for name, document in plan.documents.items()
                if key in versions_of(document) and not self.holds(name, key)
            ]
            held = [pod for pod in self.world.pods.values() if self.holds(pod.name, key)]
            proven = [pod for pod in held if pod.phase(*key) is VersionPhase.READY]
            silent = sum(pod.silent for pod in self.world.pods.values())
            spec = self.world.body["spec"]
            limit = spec.get("rollout", {}).get("hot", {}).get("maxUnavailablePods", 1)
            allowed = share_of(limit, spec.get("replicas", 1))
            changing = len({pod.name for pod in held if not pod.silent}) - len(
                [pod for pod in proven if not pod.silent]
            )
            if joining:
                assert changing + len(joining) + silent <= allowed
                assert [pod for pod in proven if not pod.silent] or len(joining) == 1
            assert committed is None or key not in versions_of(committed)

    def holds(self, pod: str, key: tuple[str, str]) -> bool:
        desired = self.world.pods[pod].desired
        held = versions_of(desired).get(key) if desired else None
        return held is not None and held.source.uri == archive(*key)

    def no_failed_entry_comes_back(self, plan: Plan) -> None:
        generation = self.world.body["metadata"]["generation"]
        for model in plan.status.models:
            if model.rollout.failed_hash:
                self.failed.setdefault((model.name, model.rollout.failed_hash), generation)
        for document in plan.documents.values():
            for (model_name, _), entry in versions_of(document).items():
                since = self.failed.get((model_name, entry_hash(entry)))
                assert since != generation, "tried again without anybody asking"

    def conditions_read_as_kstatus_wants(self, plan: Plan) -> None:
        types = [each.type for each in plan.status.conditions]
        assert len(types) == len(set(types))
        assert not {"Reconciling", "Stalled"} <= set(types)
        for each in plan.status.conditions:
            assert each.type not in {"Reconciling", "Stalled", "Suspended"} or each.status == "True"
            assert each.observed_generation == plan.status.observed_generation
        rolled_out = plan.status.condition("RolledOut")
        if plan.documents or plan.commit:
            assert rolled_out is None or rolled_out.status == "False"


def is_ready(pod: SimulatedPod, model: str, entry: VersionEntry) -> bool:
    """Tell whether a pod has this very version ready."""
    loaded = pod.loaded.get((model, entry.version))
    ready = loaded is not None and loaded.phase is VersionPhase.READY
    return ready and loaded is not None and loaded.entry.source == entry.source and not pod.silent


often = ["work"] * 8 + ["edit"] * 4
accidents = ["advance", "die", "be_replaced", "fall_silent", "speak_again", "wait"]
seldom = ["resize", "scale", "pause", "suspend", "configure", "lose_the_committed_set"]
actions = st.tuples(
    st.sampled_from(often + accidents + ["fall_silent"] + seldom), st.integers(0, 11)
)
limits = st.sampled_from([1, 2, 3, "25%", "50%", "100%"])


class History:
    """Plays actions on a world."""

    def __init__(self, replicas: int, limit: int | str, *, eager: bool) -> None:
        self.versions: dict[str, str] = {"classifier": GOOD}
        self.workers = 1
        self.limit = limit
        body = deployment_body(*spec_models(self.versions, 1), replicas=replicas)
        self.world = World(body, bad={archive(name, BROKEN) for name in MODELS})
        self.rollout: dict[str, Any] = {"hot": {"maxUnavailablePods": limit}}
        self.world.edit(rollout=self.rollout)
        self.world.eager = eager
        self.watch = Watch(self.world)

    def play(self, action: str, number: int) -> None:
        getattr(self, action)(number)

    def pod(self, number: int) -> SimulatedPod | None:
        found = list(self.world.pods.values())
        return found[number % len(found)] if found else None

    def work(self, number: int) -> None:
        for _ in range(number):
            self.world.wait(1)
            self.watch.reconcile()
            self.world.advance()

    def advance(self, number: int) -> None:
        if pod := self.pod(number):
            self.world.advance(pod.name)

    def die(self, number: int) -> None:
        if pod := self.pod(number):
            self.world.restart(pod.name)

    def be_replaced(self, number: int) -> None:
        if pod := self.pod(number):
            self.world.replace(pod.name)

    def fall_silent(self, number: int) -> None:
        if pod := self.pod(number):
            pod.silent = True

    def speak_again(self, number: int) -> None:
        if pod := self.pod(number):
            pod.silent = False

    def wait(self, number: int) -> None:
        self.world.wait(number * 600)

    def edit(self, number: int) -> None:
        model, version = MODELS[number % 2], [GOOD, BETTER, BROKEN, BETTER, GOOD, None][number // 2]
        wanted = {**self.versions, model: version}
        kept = {name: each for name, each in wanted.items() if each}
        if kept and kept != self.versions:
            self.versions = kept
            self.world.edit(models=spec_models(kept, self.workers))

    def resize(self, number: int) -> None:
        self.workers = 1 + number % 3
        self.world.edit(models=spec_models(self.versions, self.workers))

    def scale(self, number: int) -> None:
        self.world.edit(replicas=number % 5)

    def pause(self, number: int) -> None:
        self.world.edit(rollout={**self.rollout, "paused": number % 3 == 0})

    def suspend(self, number: int) -> None:
        self.world.edit(suspend=number % 3 == 0)

    def configure(self, number: int) -> None:
        self.world.edit(runtime={"config": {"job_queue_size": str(number)}})

    def lose_the_committed_set(self, number: int) -> None:
        del number
        self.world.committed = None

    def calm_down(self) -> Plan:
        """Nothing happens any more but the work itself."""
        for pod in self.world.pods.values():
            pod.silent = False
        self.world.edit(suspend=False, replicas=max(1, self.world.body["spec"]["replicas"]))
        self.world.edit(rollout=self.rollout)
        for _ in range(150):
            before = (self.world.snapshot(), self.world.status)
            self.world.wait(1)
            plan = self.watch.reconcile()
            self.world.advance()
            if (self.world.snapshot(), self.world.status) == before:
                return plan
        pytest.fail(f"no rest: {self.world.status.to_json()}")


stories = {
    "replicas": st.integers(1, 4),
    "limit": limits,
    "eager": st.booleans(),
    "story": st.lists(actions, min_size=6, max_size=30),
}


@pytest.mark.timeout(120)
@settings(max_examples=200)
@given(**stories)
def test_every_history_ends_at_the_goal_or_says_why_not(replicas, limit, eager, story):
    history = History(replicas, limit, eager=eager)
    history.work(8)
    for action in story:
        history.play(*action)
    plan = history.calm_down()
    world = history.world
    for name, version in history.versions.items():
        state = world.status.model(name)
        if failure := state.rollout.last_failure:
            assert version == BROKEN or failure.reason == "ProgressDeadlineExceeded"
            assert plan.status.condition("Stalled") is not None
            assert world.defaults(name) == [state.active_version] * len(world.pods)
        elif version == BROKEN:  # committed at once, as there was nothing to protect
            assert state.phase == "Failed"
        else:
            assert world.defaults(name) == [version] * len(world.pods)
            assert state.phase == "Serving"
    assert {name for pod in world.pods.values() for name, _ in pod.loaded} <= set(history.versions)
    reached = all(world.status.model(name).phase == "Serving" for name in history.versions)
    assert (world.condition("RolledOut") or ("?",))[0] == str(reached)
    assert (plan.status.condition("Stalled") is None) == reached
    at_the_goal_a_pass_plans_nothing(world)


def at_the_goal_a_pass_plans_nothing(world: World) -> None:
    written = world.status.model_dump_json()
    for _ in range(2):
        world.wait(10_000)
        plan = world.plan()
        assert not plan.documents
        assert plan.commit is None
        assert plan.events == ()
        assert plan.status.model_dump_json() == written, "the same bytes at rest"
