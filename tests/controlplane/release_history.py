"""Everything that can happen to a release, as rules that hypothesis plays in any order.

Two real `Reconciler`s work on one simulated world; either can be put to sleep or killed at any of
its calls. Run it by hand for as long as you like, with other seeds:

    python -m tests.controlplane.release_history SEED EXAMPLES [shrink]
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flambeau_operator import reconcile
from flambeau_operator.plan.entries import entry_hash, other_entries, target_entry
from flambeau_operator.plan.plan import Plan
from flambeau_operator.resources.deployment_status import ModelPhase, ModelStatus
from flambeau_operator.resources.model_deployment import ModelDeployment, parse
from flambeau_operator.resources.observed import ChildrenFacts, Snapshot
from flambeau_operator.resources.pod_state import VersionPhase
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.release_judge import Judge
from tests.controlplane.simulated_doors import Operator, Store
from tests.controlplane.simulated_pods import SimulatedPod, World
from tests.controlplane.simulated_runtime import MIB, Conduct

T = TypeVar("T")

MODELS = ("classifier", "detector")
GOOD = ("1.0", "2.0", "2.1")
BAD = {
    "3.0-fails": Conduct(fails_in=VersionPhase.LOADING),
    "3.1-cold": Conduct(fails_in=VersionPhase.WARMING),
    "3.2-stuck": Conduct(stays_in=VersionPhase.LOADING),
    "3.3-errs": Conduct(errs=0.3),
    "3.4-slow": Conduct(latency_ms=80.0),
    "3.5-kills": Conduct(kills_worker=0.05),
    "3.6-fat": Conduct(worker_bytes=900 * MIB),
    "3.7-takes-pods-down": Conduct(kills_pod=True),
}
VERSIONS = (*GOOD, *BAD)
ANALYSIS = {
    "minRequests": 20,
    "maxWait": "2m",
    "failOn": {
        "errorRate": {"max": "10%", "maxIncrease": "5%"},
        "latencyP95": {"maxIncrease": "100%"},
        "workerRestarts": {"max": 0},
    },
}
STEPS = (
    None,
    [{"weight": 100}],
    [{"weight": 10}, {"weight": 100}],
    [{"weight": 5, "pause": "10s"}, {"weight": 50, "pause": "1m"}, {"weight": 100}],
    [{"weight": 20, "pause": "5m"}, {"weight": 100, "pause": "20s"}],
)
NO_WAY_IN = {"InsufficientMemory", "InsufficientAcceleratorMemory"}
MODES = ("Auto", "SideBySide", "WorkerByWorker", "Recreate")
DEADLINE = timedelta(minutes=20)
LONGEST_PATIENCE = 400  # passes that a run may take to its end once nothing happens to it any more

STARTS = st.fixed_dictionaries(
    {
        "replicas": st.integers(1, 4),
        "to": st.sampled_from(VERSIONS),
        "steps": st.sampled_from(STEPS),
        "analysed": st.booleans(),
        "workers": st.integers(1, 3),
        "hot": st.fixed_dictionaries(
            {
                "maxUnavailablePods": st.sampled_from([1, 2, "50%", "100%"]),
                "keepPrevious": st.sampled_from(["0s", "0s", "5m"]),
                "mode": st.sampled_from(MODES),
            }
        ),
        "world": st.fixed_dictionaries(
            {
                "limit_bytes": st.sampled_from([None, None, 450 * MIB, 1_000 * MIB]),
                "eager": st.booleans(),
                "drain_steps": st.integers(0, 2),
                "rate": st.sampled_from([0.0, 2.0, 30.0]),
            }
        ),
    }
)
pods = st.integers(0, 7)
calls = st.integers(0, 24)


def happening(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Make a rule of something that happens, after which an operator works, or does not yet.

    Hypothesis leaves whole rules out of a history, so work must not be a rule alone.
    """

    def as_rule(happens: Callable[..., None]) -> Any:
        def and_then(self: Releases, passes_after: int, **known: Any) -> None:
            happens(self, **known)
            self.work(passes_after)

        and_then.__name__, and_then.__doc__ = happens.__name__, happens.__doc__
        return rule(passes_after=st.sampled_from([0, 0, 1, 2, 5]), **drawn)(and_then)

    return as_rule


class Releases(RuleBasedStateMachine):
    """One ModelDeployment, its pods, two operators, a user, an autoscaler, and bad luck."""

    steps_taken: ClassVar[int] = 0
    endings: ClassVar[Counter[str]] = Counter()
    seen: ClassVar[Counter[str]] = Counter()  # after how many steps a model was in a phase, a mode
    current: ClassVar[Releases]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.steps = 0
        Releases.current = self

    @initialize(start=STARTS)
    def begin(self, start: dict[str, Any]) -> None:
        """Let the first versions come to serve, and a release begin."""
        workers = {"min": start["workers"]}
        self.models: dict[str, dict[str, Any]] = {
            "classifier": {"version": "1.0", "workers": workers}
        }
        self.hot: dict[str, Any] = start["hot"]
        self.rollout: dict[str, Any] = {"progressDeadline": "20m"}
        self._take_steps(start["steps"], start["analysed"])
        self.world = World(
            deployment_body(autoscaling={"hpa": {"min": 1, "max": 5}}),
            children=ChildrenFacts(replicas=start["replicas"]),
            **start["world"],
        )
        for name in MODELS:
            self.world.conduct |= {archive(name, each): how for each, how in BAD.items()}
        self.judge = Judge(self.world)
        self.store = Store(self.world, accepted=self.judge.accepted)
        self.operators = [Operator(self.store, self._refused) for _ in range(2)]
        self._refusals_allowed = False
        self._write_spec()
        self.work(8)
        self._want("classifier", start["to"])

    # --- the operators ----------------------------------------------------------------------------

    @rule(passes=st.integers(1, 8))
    def work(self, passes: int) -> None:
        """An operator makes passes, and the pods do what they are told meanwhile."""
        for _ in range(passes):
            self._wait(1)
            self._pass(self._awake())
            self.world.advance()

    @rule(passes=st.integers(3, 10), seconds=st.sampled_from([2, 10, 30]))
    def work_for_longer(self, passes: int, seconds: int) -> None:
        """The same, with more time between the passes."""
        self._work(passes, seconds)

    @rule(passes=st.integers(10, 25), seconds=st.sampled_from([5, 10]))
    def a_release_has_its_time(self, passes: int, seconds: int) -> None:
        """As long as it takes to come through its steps."""
        self._work(passes, seconds)

    @happening(at=calls, after=st.booleans())
    def an_operator_dies_in_a_pass(self, at: int, after: bool) -> None:
        """Between two calls: the status written and no PUT, some PUTs, a commit and no PUT."""
        operator = self._awake()
        self._doing(operator.begin_pass(at))
        self._doing(operator.die())
        if after:
            self._pass(operator)

    @precondition(lambda self: not any(each.asleep for each in self.operators))
    @happening(at=calls, which=st.integers(0, 1))
    def an_operator_falls_asleep_in_a_pass(self, at: int, which: int) -> None:
        """What it has read grows old while another one works."""
        self._doing(self.operators[which].begin_pass(at))

    @precondition(lambda self: any(each.asleep for each in self.operators))
    @rule()
    def the_sleeping_operator_goes_on(self) -> None:
        """It does not know how long it slept; store and pods must refuse what is too late."""
        for operator in self.operators:
            if operator.asleep:
                self._refusals_allowed = True
                self._doing(operator.wake_up())
                self._refusals_allowed = False

    @happening()
    def the_operators_are_restarted(self) -> None:
        """They forget what they had in memory."""
        for operator in self.operators:
            self._doing(operator.die())

    # --- time, pods, nodes ------------------------------------------------------------------------

    @happening(seconds=st.sampled_from([1, 10, 60, 400]))
    def time_passes(self, seconds: int) -> None:
        """Requests come; nobody decides anything."""
        self._wait(seconds)

    @happening(number=pods, times=st.integers(1, 4))
    def a_pod_is_faster_than_the_others(self, number: int, times: int) -> None:
        """Its versions go through their phases."""
        if pod := self._pod(number):
            self.world.advance(pod.name, times=times)

    @happening(number=pods)
    def a_container_dies(self, number: int) -> None:
        """And comes back with what is on its disk; its counts are lost."""
        if pod := self._pod(number):
            self.world.restart(pod.name)

    @happening(number=pods)
    def a_pod_is_deleted(self, number: int) -> None:
        """Another one takes its place, with nothing."""
        if pod := self._pod(number):
            self.world.replace(pod.name)

    @happening(number=pods)
    def a_pod_falls_silent(self, number: int) -> None:
        """Its management API does not answer; it serves on."""
        if pod := self._pod(number):
            pod.silent = True

    @happening(number=pods)
    def a_pod_speaks_again(self, number: int) -> None:
        """It never knew that it was silent."""
        if pod := self._pod(number):
            pod.silent = False

    @happening(number=pods, which=st.integers(0, 3))
    def a_worker_dies(self, number: int, which: int) -> None:
        """Any version's; it is replaced."""
        if (pod := self._pod(number)) and pod.loaded:
            pod.lose_a_worker(*sorted(pod.loaded)[which % len(pod.loaded)])

    @happening(number=pods)
    def the_candidate_gives_up_in_a_pod(self, number: int) -> None:
        """Its workers die until the runtime stops trying."""
        pod, status = self._pod(number), self._rolling()
        if pod and status and status.target_version:
            pod.give_up(status.name, status.target_version)

    @happening(wanted=st.integers(1, 4))
    def the_autoscaler_wants(self, wanted: int) -> None:
        """Another number of pods."""
        self.world.children = replace(self.world.children, replicas=wanted)

    @happening(size=st.integers(1, 3))
    def the_template_changes(self, size: int) -> None:
        """Pods are replaced one by one."""
        self._edit(runtime={"config": {"job_queue_size": str(size)}})

    @happening()
    def the_committed_set_is_deleted(self) -> None:
        """By somebody who cleans up."""
        self.store.lose_the_committed_set()

    # --- the user ---------------------------------------------------------------------------------

    @happening(version=st.sampled_from(VERSIONS), model=st.sampled_from(MODELS))
    def another_version_is_wanted(self, version: str, model: str) -> None:
        """Forward, back, or in the middle of another one."""
        self._want(model, version)

    @happening(version=st.sampled_from(GOOD))
    def a_good_version_is_wanted(self, version: str) -> None:
        """So that some rollouts come to their end."""
        self._want("classifier", version)

    @precondition(lambda self: len(self.models) > 1)
    @happening()
    def a_model_is_removed(self) -> None:
        """Nobody wants it any more."""
        del self.models["detector"]
        self._write_spec()

    @happening(steps=st.sampled_from(STEPS), analysed=st.booleans())
    def the_steps_change(self, steps: list[dict[str, Any]] | None, analysed: bool) -> None:
        """Also in the middle of them."""
        self._take_steps(steps, analysed)
        self._write_spec()

    @happening(what=st.sampled_from(["Pause", "Promote", "Rollback"]))
    def what_follows_without_a_result_changes(self, what: str) -> None:
        """`onInconclusive`."""
        if "analysis" in self.hot:
            self.hot = {**self.hot, "analysis": {**ANALYSIS, "onInconclusive": what}}
            self._write_spec()

    @happening(mode=st.sampled_from(MODES), keep=st.sampled_from(["0s", "5m"]))
    def the_mode_changes(self, mode: str, keep: str) -> None:
        """A rollout that runs keeps the one that it began in."""
        self.hot = {**self.hot, "mode": mode, "keepPrevious": keep}
        self._write_spec()

    @happening(paused=st.sampled_from([False, False, True]))
    def it_is_paused_or_resumed(self, paused: bool) -> None:
        """`spec.rollout.paused`."""
        self.rollout = {**self.rollout, "paused": paused}
        self._write_spec()

    @happening(workers=st.integers(1, 3))
    def workers_change(self, workers: int) -> None:
        """Live, also in the middle."""
        self.models["classifier"] = {**self.models["classifier"], "workers": {"min": workers}}
        self._write_spec()

    @happening(others=st.lists(st.sampled_from(VERSIONS), max_size=2, unique=True))
    def a_split_is_wanted(self, others: list[str]) -> None:
        """A lasting one, or none."""
        classifier = {**self.models["classifier"]}
        versions = [
            {"version": each, "weight": 20, "source": {"uri": archive("classifier", each)}}
            for each in others
            if each != classifier["version"]
        ]
        classifier.pop("split", None)
        split = {"split": {"stickyHeader": "x-user", "versions": versions}} if versions else {}
        self.models["classifier"] = {**classifier, **split}
        self._write_spec()

    @happening(version=st.sampled_from([None, *VERSIONS]))
    def a_shadow_is_wanted(self, version: str | None) -> None:
        """A version that only listens, or none."""
        classifier = {**self.models["classifier"]}
        classifier.pop("shadow", None)
        if version and version != classifier["version"]:
            source = {"uri": archive("classifier", version)}
            classifier["shadow"] = {"version": version, "percent": 50, "source": source}
        self.models["classifier"] = classifier
        self._write_spec()

    @happening(wanted=st.sampled_from([False, False, True]))
    def it_is_suspended_or_not(self, wanted: bool) -> None:
        """Nothing runs, for a while."""
        self._edit(suspend=wanted)

    @happening(
        what=st.sampled_from(["promote", "abort", "retry"]),
        right=st.sampled_from([True, True, False]),
        only_the_step=st.booleans(),
    )
    def an_annotation_is_set(self, what: str, right: bool, only_the_step: bool) -> None:
        """With the hash that the status names, or with one of yesterday."""
        status = self._rolling() or self.world.status.model("classifier")
        rollout = status.rollout
        hash_ = (rollout.failed_hash if what == "retry" else rollout.spec_hash) or "0" * 12
        hash_ = hash_ if right else "f" * 12
        if what == "promote" and only_the_step:
            hash_ = f"{hash_}/{rollout.step or 0}"
        if what == "retry":
            self.judge.forgive(status.name)
        self.world.annotate(**{what: hash_})
        self.store.touched()

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def the_pods_and_the_status_are_as_they_may_be(self) -> None:
        """After every rule."""
        self.steps += 1
        if hasattr(self, "judge"):
            self.judge.look_at_the_pods()
            self.judge.look_at_the_status()
            for model in self.world.status.models:
                Releases.seen.update(filter(None, [str(model.phase), model.rollout.mode]))

    def teardown(self) -> None:
        """Let all that is bad end and the work go on: it must come to an end that says itself."""
        try:
            if hasattr(self, "judge") and sys.exc_info()[0] is None:
                self._come_to_an_end()
        finally:
            for operator in getattr(self, "operators", ()):
                self._doing(operator.die())
            self.loop.close()

    def _come_to_an_end(self) -> None:
        for pod in self.world.pods.values():
            pod.silent = False
        for operator in self.operators:
            self._doing(operator.die())
        self.world.rate = max(self.world.rate, 10.0)
        self.world.conduct = {
            uri: replace(how, kills_pod=False) for uri, how in self.world.conduct.items()
        }
        self._edit(suspend=False)
        self.calm_since = self.world.now
        for _ in range(LONGEST_PATIENCE):
            before = self._facts()
            self._pass(self.operators[0])
            self.world.advance()
            resting = self._facts() == before
            if resting and self._is_at_an_end():
                break
            self._wait(60 if resting else 3)
        else:
            raise AssertionError(f"it does not end: {self.world.status.to_json()}")
        self._the_end_is_what_it_says()

    def _facts(self) -> object:
        """Return all that work would change: phases and documents, not counts of requests."""
        return (
            [(pod.desired, pod.defaults, pod.ready()) for pod in self.world.pods.values()],
            [(pod.name, pod.phases()) for pod in self.world.pods.values()],
            self.world.committed,
            [(each.phase, each.rollout.step) for each in self.world.status.models],
        )

    def _is_at_an_end(self) -> bool:
        at_rest = {ModelPhase.SERVING, ModelPhase.ROLLED_BACK, ModelPhase.FAILED}
        resting = all(self.world.status.model(name).phase in at_rest for name in self.models)
        return resting or self._waits_for_a_person() or self._reason("Stalled") in NO_WAY_IN

    def _waits_for_a_person(self) -> bool:
        held = any(self.world.status.model(name).rollout.held for name in self.models)
        paused = self.rollout.get("paused") and self._reason("Stalled")  # the worse of the two
        return bool(held or paused or self._reason("Reconciling") == "RolloutPaused")

    def _the_end_is_what_it_says(self) -> None:
        Releases.steps_taken += self.steps  # hypothesis gives some histories up before their end
        for name in self.models:
            status, world = self.world.status.model(name), self.world
            Releases.endings[str(status.phase)] += 1
            if status.phase is ModelPhase.SERVING:
                assert world.defaults(name) == [status.target_version] * len(world.pods)
                assert (
                    status.active_version == status.target_version == self.models[name]["version"]
                )
            elif status.phase is ModelPhase.ROLLED_BACK:
                failure = status.rollout.last_failure
                assert failure is not None
                waited = failure.time - self.calm_since
                in_vain = failure.reason == "ProgressDeadlineExceeded" and waited > DEADLINE
                # The last failure may be of a version beside it, which came to its end later.
                in_vain = in_vain and f"@{status.target_version} " in failure.message
                assert status.target_version not in GOOD or not in_vain, "nothing kept it"
                assert self._reason("Stalled") or self._waits_for_a_person(), (
                    f"a rollback must be seen: {world.status.to_json()}"
                )
                if status.active_version:
                    assert world.defaults(name) == [status.active_version] * len(world.pods)

    @classmethod
    def told(cls) -> str:
        """Say what was played."""
        seen = ", ".join(f"{each} {times}" for each, times in sorted(cls.seen.items()))
        ends = ", ".join(f"{each} {times}" for each, times in sorted(cls.endings.items()))
        return f"{cls.steps_taken} steps; seen: {seen}; ends: {ends}"

    # --- inside -----------------------------------------------------------------------------------

    def _doing(self, work: Coroutine[Any, Any, T]) -> T:
        answering = self.judge.answering()
        done = self.loop.run_until_complete(work)
        self.judge.nobody_stopped_answering(answering)
        self.judge.look_at_the_status()
        return done

    def _work(self, passes: int, seconds: float) -> None:
        for _ in range(passes):
            self._wait(seconds)
            self._pass(self._awake())
            self.world.advance(times=2)

    def _pass(self, operator: Operator) -> None:
        result = self._doing(operator.make_pass())
        assert not [each for each in result.failures if each.action == "pass"], result.failures

    def _awake(self) -> Operator:
        return next(each for each in self.operators if each.asleep is None)

    def _refused(self, pod: SimulatedPod, document: object) -> None:
        assert self._refusals_allowed, f"{pod.name} refused {document}: nobody else was at work"

    def _wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.judge.look_at_the_pods()

    def _pod(self, number: int) -> SimulatedPod | None:
        found = list(self.world.pods.values())
        return found[number % len(found)] if found else None

    def _rolling(self) -> ModelStatus | None:
        return next((each for each in self.world.status.models if each.rollout.spec_hash), None)

    def _reason(self, condition: str) -> str:
        found = self.world.status.condition(condition)
        return found.reason if found else ""

    def _take_steps(self, steps: list[dict[str, Any]] | None, analysed: bool) -> None:
        kept = {key: each for key, each in self.hot.items() if key not in {"steps", "analysis"}}
        said = {"steps": steps} if steps else {}
        self.hot = {**kept, **said, **({"analysis": ANALYSIS} if steps and analysed else {})}

    def _want(self, model: str, version: str) -> None:
        """Name a version; nothing else may stand beside it under the same name."""
        entry = {**self.models.get(model, {}), "version": version}
        if entry.get("shadow", {}).get("version") == version:
            del entry["shadow"]
        others = [each for each in _others(entry) if each["version"] != version]
        entry.pop("split", None)
        self.models[model] = entry | ({"split": {"versions": others}} if others else {})
        self._write_spec()

    def _write_spec(self) -> None:
        self._edit(
            models=[model_body(name, **each) for name, each in sorted(self.models.items())],
            rollout={**self.rollout, "hot": self.hot},
        )

    def _edit(self, **spec: Any) -> None:
        before = self._entries()
        self.world.edit(**spec)
        self.store.touched()
        for model, entry, _ in self._entries() - before:
            self.judge.forgive(model, entry)

    def _entries(self) -> set[tuple[str, str, bool]]:
        """Return every version that the spec names now, and whether it is the model's own."""
        return {
            (model.name, entry_hash(each), each == target_entry(model))
            for model in parse(self.world.body).spec.models
            for each in (target_entry(model), *other_entries(model))
        }


def _others(entry: dict[str, Any]) -> list[dict[str, Any]]:
    split: dict[str, Any] = entry.get("split", {})
    return list(split.get("versions", ()))


def play(how: settings) -> None:
    """Play histories against the real code; raises what the judge says."""
    make_plan = reconcile.make_plan

    def judged(deployment: ModelDeployment, snapshot: Snapshot, now: datetime) -> Plan:
        return Releases.current.judge.plan(deployment, snapshot, now)

    reconcile.make_plan = judged
    try:
        run_state_machine_as_test(Releases, settings=how)
    finally:
        reconcile.make_plan = make_plan


def histories(
    examples: int, steps: int, *, derandomize: bool = False, shrink: bool = False
) -> settings:
    """Return how many histories of how many steps to play."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=derandomize,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
    )


if __name__ == "__main__":
    seed(int(sys.argv[1]))(Releases)
    play(histories(int(sys.argv[2]), 40, shrink="shrink" in sys.argv))
    sys.stdout.write(f"{Releases.told()}\n")
