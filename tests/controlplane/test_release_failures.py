"""Failures that can meet a release, and what must happen: each row of the design's table.

A test names its row; the last test holds the rows and the tests together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from flambeau_operator.errors import Conflict, Unavailable
from flambeau_operator.resources.deployment_status import ModelPhase as P, status_from_json
from flambeau_operator.resources.observed import Trouble
from flambeau_operator.resources.pod_state import Failure, VersionPhase
from tests.builders import archive, deployment_body
from tests.controlplane.release_worlds import (
    at_rest,
    classifier,
    go_on,
    in_phase,
    release,
    rollout,
    serving,
    told_of,
    until,
)
from tests.controlplane.simulated_doors import Operator, Store
from tests.controlplane.simulated_pods import Conduct, World
from tests.controlplane.simulated_runtime import MIB

ROWS: Final = (
    "a pod dies in the middle of a swap, or the autoscaler adds one",
    "the management API of one pod is silent",
    "the management API of all pods is silent",
    "a bad archive or a failing warm-up",
    "a candidate brings its pod down",
    "not enough memory",
    "pods cannot be scheduled",
    "a crash loop after promotion",
    "the operator is down during a rollout",
    "two operators",
    "the committed set is deleted",
    "clocks differ",
    "a conflict, or an API server that is down",
    "a set that is too large",
)
TESTED: dict[str, list[str]] = {row: [] for row in ROWS}


def row(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say which row of the table a test is about."""

    def note(test: Callable[..., Any]) -> Callable[..., Any]:
        TESTED[name].append(test.__name__)
        return test

    return note


def canary(step: int = 0, **options: Any) -> World:
    """Return a world whose release to 2.0 counts in a step."""
    world = serving(**options)
    release(world)
    until(world, lambda w: in_phase(P.CANARY, step)(w) and classifier(w).rollout.step_started_at)
    return world


def share_of_candidate(world: World) -> list[int]:
    return [pod.weights("classifier").get("2.0", 0) for pod in world.pods.values()]


# ------------------------------------------------------------------------------------------- pods


@row("a pod dies in the middle of a swap, or the autoscaler adds one")
@pytest.mark.parametrize("happens", ["its container dies", "it is replaced", "one is added"])
def test_a_new_pod_boots_the_committed_set_then_joins_at_the_step_and_the_release_goes_on(happens):
    world = canary(1)
    if happens == "its container dies":
        world.restart("pod-01")
    elif happens == "it is replaced":
        world.replace("pod-01")
    else:
        world.edit(replicas=4)
        world.reconcile()
    newest = max(world.pods) if happens != "its container dies" else "pod-01"
    world.advance()
    assert world.pods[newest].weights("classifier").get("2.0", 0) == 0
    until(world, lambda w: set(share_of_candidate(w)) == {50}, passes=40)
    until(world, in_phase(P.SERVING))
    assert set(world.defaults()) == {"2.0"}


@row("a pod dies in the middle of a swap, or the autoscaler adds one")
def test_what_a_pod_had_counted_is_lost_with_it_and_the_step_waits_for_as_much_again():
    world = serving(1, rate=10)
    release(world)
    until(world, lambda w: (a := classifier(w).rollout.analysis) and a.new and a.new.requests > 5)
    world.restart("pod-01")
    go_on(world, 20)
    analysis = classifier(world).rollout.analysis
    assert analysis.verdict == "Waiting"
    until(world, in_phase(P.CANARY, 1))


@row("the management API of one pod is silent")
def test_a_silent_pod_holds_the_step_is_never_killed_and_keeps_its_weight():
    world = canary()
    world.pods["pod-02"].silent = True
    go_on(world, 60)
    assert in_phase(P.CANARY, 0)(world)
    assert share_of_candidate(world) == [5] * 3
    assert list(world.pods) == ["pod-01", "pod-02", "pod-03"]
    assert classifier(world).rollout.failed_hash is None
    world.pods["pod-02"].silent = False
    until(world, in_phase(P.SERVING))


@row("the management API of one pod is silent")
@pytest.mark.parametrize("probed", [True, False])
def test_what_only_a_silent_pod_serves_is_protected_where_its_probe_says_so(probed):
    world = World(deployment_body(replicas=2))
    world.reconcile()
    world.pods["pod-01"].silent, world.pods["pod-01"].probed = True, probed
    world.advance(times=9)
    world.pods["pod-02"].give_up("classifier", "1.0")
    release(world)
    world.reconcile()
    assert world.committed_versions() == {"classifier": "1.0" if probed else "2.0"}


@row("the management API of one pod is silent")
def test_a_bad_version_is_taken_back_where_pods_speak_and_in_the_silent_one_when_it_does():
    world = serving()
    release(world, conduct=Conduct(errs=0.5))
    until(world, lambda w: set(share_of_candidate(w)) == {5})
    world.pods["pod-02"].silent = True
    until(world, lambda w: classifier(w).rollout.failed_hash)
    go_on(world, 3)
    assert share_of_candidate(world) == [0, 5, 0]
    world.pods["pod-02"].silent = False
    until(world, lambda w: share_of_candidate(w) == [0, 0, 0], passes=5)


@row("the management API of all pods is silent")
def test_nothing_is_written_blindly_and_it_goes_on_where_it_was():
    world = canary()
    for pod in world.pods.values():
        pod.silent = True
    for _ in range(10):
        plan = world.reconcile()
        assert not plan.documents
        assert plan.commit is None
        world.wait(600)
    assert world.condition("Reconciling") == ("True", "ManagementUnreachable")
    assert share_of_candidate(world) == [5] * 3
    for pod in world.pods.values():
        pod.silent = False
    until(world, in_phase(P.SERVING))


# ------------------------------------------------------------------------------------- candidates


@row("a bad archive or a failing warm-up")
@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        pytest.param("DigestMismatch", VersionPhase.VERIFYING, id="another digest"),
        pytest.param("ArchiveInvalid", VersionPhase.VERIFYING, id="truncated or dangerous"),
        pytest.param("HandlerImportFailed", VersionPhase.LOADING, id="a failing import"),
        pytest.param("WarmupFailed", VersionPhase.WARMING, id="a failing warm-up"),
    ],
)
def test_it_fails_in_the_first_pod_only_and_is_remembered_with_its_last_words(reason, phase):
    world = serving()
    failure = Failure(reason, "what is wrong", "the last log lines")
    release(world, conduct=Conduct(fails_in=phase, failure=failure))
    told = set()
    for _ in range(30):
        told |= told_of(world.reconcile(), "2.0")
        world.wait(2)
        world.advance()
    assert told == {"pod-01"}
    last = classifier(world).rollout.last_failure
    assert (last.reason, last.message, last.log_tail) == (
        reason,
        "what is wrong",
        "the last log lines",
    )
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.condition("Stalled") == ("True", "RolledBack")


@row("a candidate brings its pod down")
def test_it_gets_no_weight_by_itself_after_the_boot_and_is_blamed_when_it_happens_again():
    world = serving(2, rate=100)
    release(world, conduct=Conduct(kills_pod=True))
    until(world, lambda w: classifier(w).rollout.failed_hash, passes=100)
    assert classifier(world).rollout.last_failure.reason == "BroughtPodDown"
    restarts = sum(pod.restarts for pod in world.pods.values())
    world.conduct.clear()
    go_on(world, 20)
    assert sum(pod.restarts for pod in world.pods.values()) == restarts
    assert restarts <= 8
    assert world.defaults() == ["1.0"] * 2


@row("not enough memory")
def test_side_by_side_by_name_is_stalled_while_there_is_no_room_and_the_old_one_serves_on():
    world = World(deployment_body(replicas=2), limit_bytes=190 * MIB, rate=50)
    world.edit(rollout=rollout(mode="SideBySide"))
    at_rest(world)
    release(world)
    go_on(world, 30)
    assert world.condition("Stalled") == ("True", "InsufficientMemory")
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.defaults() == ["1.0"] * 2
    assert world.phases("2.0") == [None] * 2
    for pod in world.pods.values():
        pod.limit_bytes = 400 * MIB
    until(world, in_phase(P.SERVING))


@row("not enough memory")
def test_by_itself_it_takes_a_smaller_way_without_a_lost_request():
    world = World(deployment_body(replicas=2), limit_bytes=190 * MIB, rate=50)
    world.edit(rollout=rollout())
    at_rest(world)
    release(world)
    until(world, in_phase(P.SERVING))
    assert classifier(world).history[0].mode == "Recreate"
    assert world.lost == 0


@row("not enough memory")
def test_what_fits_in_no_way_is_taken_back():
    world = World(deployment_body(replicas=2), limit_bytes=190 * MIB, rate=50)
    world.edit(rollout=rollout())
    at_rest(world)
    release(world, conduct=Conduct(worker_bytes=500 * MIB))
    until(world, in_phase(P.ROLLED_BACK))
    go_on(world, 20)
    assert classifier(world).rollout.last_failure.reason == "OutOfMemory"
    assert world.defaults() == ["1.0"] * 2
    assert world.lost == 0


@row("pods cannot be scheduled")
def test_a_pod_that_cannot_run_is_named_and_the_release_goes_on_in_the_others():
    world = serving()
    pod = world.pods["pod-03"]
    pod.running, pod.trouble = False, Trouble("Unschedulable", "0/3 nodes are available")
    release(world)
    until(world, lambda w: w.defaults()[:2] == ["2.0"] * 2)
    assert world.condition("PodsAvailable") == ("False", "Unschedulable")
    pod.running, pod.trouble = True, None
    pod.boot(world.committed)
    until(world, in_phase(P.SERVING))
    assert world.defaults() == ["2.0"] * 3


@row("a crash loop after promotion")
def test_while_the_version_before_is_kept_it_is_taken_back_by_itself():
    world = serving(keepPrevious="10m")
    release(world)
    until(world, in_phase(P.SERVING))
    world.pods["pod-02"].give_up("classifier", "2.0")
    until(world, lambda w: w.defaults() == ["1.0"] * 3, passes=5)
    assert classifier(world).rollout.last_failure.reason == "FailedAfterPromotion"
    for _ in range(5):
        world.wait(10_000)
        plan = world.reconcile()
        assert not any(m.default == "2.0" for d in plan.documents.values() for m in d.models)
        world.advance()
    assert world.condition("Stalled") is not None


@row("a crash loop after promotion")
def test_what_was_gone_back_to_is_not_given_up_for_an_edit_while_it_comes_up_again():
    world = serving(1, keepPrevious="10m")
    release(world)
    until(world, in_phase(P.SERVING))
    while world.committed_versions() == {"classifier": "2.0"}:
        world.restart("pod-01")
        world.reconcile()
    assert classifier(world).active_version == "1.0"
    release(world, "3.0")
    world.reconcile()
    assert world.committed_versions() == {"classifier": "1.0"}
    until(world, in_phase(P.SERVING))
    assert world.committed_versions() == {"classifier": "3.0"}


@row("a crash loop after promotion")
def test_later_the_model_is_not_ready_in_that_pod_and_nothing_is_killed():
    world = serving()
    release(world)
    until(world, in_phase(P.SERVING))
    world.pods["pod-02"].give_up("classifier", "2.0")
    go_on(world, 30)
    assert world.condition("ModelsReady") == ("False", "ModelsNotReady")
    assert list(world.pods) == ["pod-01", "pod-02", "pod-03"]
    assert [pod.restarts for pod in world.pods.values()] == [0] * 3
    assert world.committed_versions() == {"classifier": "2.0"}


# -------------------------------------------------------------------------------------- operators


@row("the operator is down during a rollout")
def test_what_was_promoted_and_not_committed_is_committed_and_takes_no_step_once_more():
    world = canary()
    while not (plan := world.plan()).commit:
        world.reconcile()
        world.wait(2)
        world.advance()
    world.status = status_from_json(plan.status.to_json())  # and there it died
    assert world.committed_versions() == {"classifier": "1.0"}
    weights = share_of_candidate(world)
    world.wait(2)
    assert world.reconcile().commit is not None
    assert share_of_candidate(world) >= weights
    assert [each.outcome for each in classifier(world).history] == ["Promoted"]


@row("the operator is down during a rollout")
def test_a_promotion_that_was_not_committed_lets_nothing_else_in_unproven():
    world = serving(2, mode="Recreate", steps=None, analysis=None)
    source = {"uri": archive("classifier", "3.0")}
    split = {"versions": [{"version": "3.0", "weight": 20, "source": source}]}
    release(world, split=split)
    while (plan := world.plan()).status.model("classifier").phase is not P.PROMOTING:
        world.reconcile()
        world.wait(2)
        world.advance()
    world.status = status_from_json(plan.status.to_json())  # and there it died
    world.wait(2)
    world.reconcile()
    (committed,) = world.committed.models
    assert [each.version for each in committed.versions] == ["2.0"]


@row("the operator is down during a rollout")
@pytest.mark.parametrize("step", [0, 1])
def test_pods_keep_weights_and_serve_and_it_continues_where_it_was(step):
    world = canary(step)
    before, weights = classifier(world).rollout, share_of_candidate(world)
    for _ in range(20):
        world.wait(30)
        world.advance()
    assert share_of_candidate(world) == weights
    assert world.lost == 0
    world.reconcile()
    assert classifier(world).rollout.spec_hash in {before.spec_hash, None}
    until(world, in_phase(P.SERVING))


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Two:
    """Two operators on one world."""

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.world, self.loop, self.store = world, loop, Store(world)
        self.refused: list[str] = []
        self.one, self.other = (
            Operator(self.store, lambda pod, _: self.refused.append(pod.name)) for _ in range(2)
        )

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def go_on(self, passes: int = 1) -> None:
        for _ in range(passes):
            self.world.wait(2)
            self.do(self.other.make_pass())
            self.world.advance()


CALLS_OF_A_PASS: Final = 26


@row("two operators")
@pytest.mark.parametrize("at", range(CALLS_OF_A_PASS))
def test_one_that_slept_anywhere_in_its_pass_while_the_other_went_on_changes_nothing(loop, at):
    world = serving()
    two = Two(world, loop)
    release(world)
    two.store.touched()
    two.go_on(3)
    slept = two.do(two.one.begin_pass(at))
    two.go_on(120)
    assert classifier(world).phase is P.SERVING
    rest = (world.committed, [pod.desired for pod in world.pods.values()])
    if slept:
        two.do(two.one.wake_up())
    two.go_on(5)
    assert (world.committed, [pod.desired for pod in world.pods.values()]) == rest
    assert world.defaults() == ["2.0"] * 3


@row("two operators")
@pytest.mark.parametrize("passes", [1, 6])  # before the first pod, before the others
@pytest.mark.parametrize("at", range(CALLS_OF_A_PASS))
def test_one_that_slept_until_the_release_was_aborted_brings_it_into_no_pod(loop, at, passes):
    world = serving(maxUnavailablePods="100%")
    two = Two(world, loop)
    release(world)
    two.store.touched()
    two.go_on(passes)
    slept = two.do(two.one.begin_pass(at))
    world.annotate(abort=classifier(world).rollout.spec_hash)
    two.store.touched()
    two.go_on(5)
    assert classifier(world).phase is P.ROLLED_BACK
    if slept:
        two.do(two.one.wake_up())
    held = [pod.desired.model("classifier").version("2.0") for pod in world.pods.values()]
    assert held == [None] * 3


@row("two operators")
@pytest.mark.parametrize("at", range(CALLS_OF_A_PASS))
def test_one_that_slept_through_a_rollback_does_not_bring_the_bad_version_back(loop, at):
    world = serving()
    two = Two(world, loop)
    release(world, conduct=Conduct(errs=0.5))
    two.store.touched()
    while not in_phase(P.CANARY)(world):
        two.go_on()
    slept = two.do(two.one.begin_pass(at))
    two.go_on(40)
    assert classifier(world).phase is P.ROLLED_BACK
    if slept:
        two.do(two.one.wake_up())
    assert world.phases("2.0") == [None] * 3
    two.go_on(5)
    assert world.phases("2.0") == [None] * 3
    assert classifier(world).rollout.failed_hash is not None


@row("the committed set is deleted")
@pytest.mark.parametrize("phase", [P.LOADING, P.CANARY], ids=str)
def test_it_is_rebuilt_from_the_pods_with_the_version_that_serves_and_the_release_goes_on(phase):
    world = serving()
    release(world)
    until(world, in_phase(phase))
    world.committed = None
    go_on(world)
    assert world.committed_versions() == {"classifier": "1.0"}
    until(world, in_phase(P.SERVING))
    assert world.committed_versions() == {"classifier": "2.0"}


@row("the committed set is deleted")
def test_one_version_at_a_time_in_each_pod_it_is_still_the_one_that_was_active():
    world = serving(4, mode="Recreate")
    release(world)
    until(world, in_phase(P.CANARY, 1))
    world.committed = None
    go_on(world)
    assert world.committed_versions() == {"classifier": "1.0"}


@row("clocks differ")
def test_an_operator_whose_clock_runs_behind_holds_a_step_longer_and_never_goes_back():
    world = canary()
    step = classifier(world).rollout.step
    world.now = world.now.replace(hour=3)
    go_on(world, 5)
    assert classifier(world).rollout.step == step
    assert classifier(world).rollout.failed_hash is None
    world.now = world.now.replace(hour=13)
    until(world, in_phase(P.SERVING))


@row("a conflict, or an API server that is down")
@pytest.mark.parametrize(
    ("fault", "methods"),
    [
        pytest.param(Conflict("changed"), ["write_status"], id="a conflict"),
        pytest.param(Unavailable("down"), ["write_status"], id="no status can be written"),
        pytest.param(Unavailable("down"), ["commit"], id="no set can be committed"),
        pytest.param(Unavailable("down"), ["read_deployment", "list_pods"], id="nothing is read"),
    ],
)
def test_pods_keep_what_they_have_and_it_goes_on_when_it_is_over(loop, monkeypatch, fault, methods):
    world = serving()
    two = Two(world, loop)
    release(world)
    two.store.touched()
    while not in_phase(P.CANARY)(world):
        two.go_on()

    async def fails(*_: object) -> None:
        raise fault

    cluster = two.other._reconciler._cluster
    for method in methods:
        monkeypatch.setattr(cluster, method, fails)
    for _ in range(40):
        world.wait(2)
        failures = two.do(two.other.make_pass()).failures
        world.advance()
        assert world.committed_versions() == {"classifier": "1.0"}
    assert failures
    assert world.lost == 0
    monkeypatch.undo()
    two.go_on(40)
    assert world.defaults() == ["2.0"] * 3


@row("a set that is too large")
def test_it_is_refused_and_what_serves_serves_on():
    world = serving()
    release(world, warmup={"requests": [{"body": "x" * 100_000}] * 10})
    go_on(world, 5)
    assert world.condition("Stalled") == ("True", "TooLarge")
    assert world.defaults() == ["1.0"] * 3
    assert not told_of(world.reconcile(), "2.0")


def test_every_row_of_the_table_has_a_test():
    assert tuple(TESTED) == ROWS
    assert not [each for each, tests in TESTED.items() if not tests]
