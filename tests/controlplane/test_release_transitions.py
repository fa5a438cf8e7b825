"""Every transition of a release: what has to happen, from where to where."""

from __future__ import annotations

import pytest

from flambeau_operator.resources.deployment_status import ModelPhase as P
from flambeau_operator.resources.pod_state import Failure, VersionPhase
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.release_worlds import (
    ANALYSIS,
    ERRS,
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
from tests.controlplane.simulated_pods import Conduct, World
from tests.controlplane.simulated_runtime import MIB

COMING_IN = [P.FETCHING, P.VERIFYING, P.LOADING, P.WARMING]
PHASES = {
    P.FETCHING: VersionPhase.FETCHING,
    P.VERIFYING: VersionPhase.VERIFYING,
    P.LOADING: VersionPhase.LOADING,
    P.WARMING: VersionPhase.WARMING,
}


def at(phase: P, world: World | None = None, conduct: Conduct | None = None) -> World:
    """Return a world whose release to 2.0 is in this phase."""
    world = world or serving()
    stays = Conduct(stays_in=PHASES[phase]) if phase in PHASES else conduct
    release(world, conduct=stays)
    until(world, in_phase(phase))
    return world


# --------------------------------------------------------------------------- forward, step by step


def test_a_good_version_comes_through_every_phase_in_order():
    world = serving(1, keepPrevious=None)
    world.drain_steps = 1
    for pod in world.pods.values():
        pod.drain_steps = 1
    release(world)
    seen = until(world, in_phase(P.SERVING))
    assert seen == [P.PENDING, *COMING_IN, P.CANARY, P.PROMOTING, P.DRAINING, P.SERVING]


def test_from_serving_a_changed_hash_begins_a_rollout_in_one_pod():
    world = serving()
    release(world)
    plan = world.reconcile()
    assert list(plan.documents) == ["pod-01"]
    assert classifier(world).rollout.spec_hash is not None


def test_from_warming_no_pod_gives_it_a_weight_before_every_pod_has_it():
    world = serving()
    release(world)
    until(world, in_phase(P.CANARY))
    assert world.phases("2.0") == ["Ready"] * 3
    assert world.answered["classifier", "2.0"] == 0


def test_a_step_begins_once_every_pod_has_its_weight_and_not_before():
    world = at(P.CANARY)
    assert classifier(world).rollout.step_started_at is None
    world.pods["pod-02"].silent = True
    go_on(world, 4)
    assert classifier(world).rollout.step_started_at is None
    world.pods["pod-02"].silent = False
    go_on(world, 3)
    assert classifier(world).rollout.step_started_at is not None


def test_from_a_step_to_the_next_after_its_pause_and_with_enough_requests():
    world = at(P.CANARY)
    until(world, in_phase(P.CANARY, 1))
    started = classifier(world).rollout
    assert started.analysis is not None
    assert started.analysis.verdict == "Passed"
    assert world.answered["classifier", "2.0"] >= ANALYSIS["minRequests"]


def test_a_step_waits_for_requests_when_its_pause_is_over():
    world = at(P.CANARY, serving(rate=10))
    go_on(world, 12)
    assert classifier(world).rollout.step == 0
    world.rate = 300
    until(world, in_phase(P.CANARY, 1))


@pytest.mark.parametrize(
    ("weight", "step"),
    [pytest.param(5, 0, id="the first step"), pytest.param(50, 1, id="the next")],
)
def test_the_pods_give_the_candidate_the_weight_of_its_step(weight, step):
    world = at(P.CANARY)
    until(world, in_phase(P.CANARY, step))
    go_on(world, 2)
    assert [pod.weights("classifier")["2.0"] for pod in world.pods.values()] == [weight] * 3
    assert classifier(world).weight == weight


def test_after_the_last_step_it_is_committed_before_any_pod_gives_it_everything():
    world = at(P.CANARY)
    while not (plan := world.reconcile()).commit:
        assert all(pod.defaults["classifier"] == "1.0" for pod in world.pods.values())
        world.wait(2)
        world.advance()
    assert world.committed_versions() == {"classifier": "2.0"}
    assert classifier(world).phase is P.PROMOTING
    assert sorted(plan.documents) == ["pod-01", "pod-02", "pod-03"]


def test_a_last_step_with_a_pause_is_a_step_of_its_own():
    steps = [{"weight": 50, "pause": "10s"}, {"weight": 100, "pause": "30s"}]
    world = at(P.CANARY, serving(steps=steps))
    until(world, in_phase(P.CANARY, 1))
    go_on(world, 3)
    assert [pod.weights("classifier")["2.0"] for pod in world.pods.values()] == [100] * 3
    assert world.committed_versions() == {"classifier": "1.0"}
    until(world, in_phase(P.SERVING))


def test_the_version_before_stays_for_as_long_as_it_is_kept_and_is_gone_then():
    world = serving(keepPrevious="1m")
    release(world)
    until(world, lambda w: w.committed_versions() == {"classifier": "2.0"})
    go_on(world, 10)
    assert world.phases("1.0") == ["Ready"] * 3
    assert world.condition("RolledOut") == ("True", "RolledOut")
    world.wait(60)
    go_on(world, 5)
    assert world.phases("1.0") == [None] * 3


# ---------------------------------------------------------------------------------- and back again


@pytest.mark.parametrize("phase", COMING_IN, ids=str)
def test_what_fails_on_its_way_in_goes_back_and_is_remembered(phase):
    world = serving()
    release(world, conduct=Conduct(fails_in=PHASES[phase]))
    told = set()

    def is_back(world):
        told.update(told_of(world.last, "2.0"))
        return in_phase(P.ROLLED_BACK)(world)

    seen = until(world, is_back)
    assert P.ROLLING_BACK in seen
    assert P.CANARY not in seen
    the_old_one_serves_and_the_failure_is_remembered(world)
    assert len(told) == 1, "the other pods never heard of it"


@pytest.mark.parametrize("phase", COMING_IN, ids=str)
def test_what_makes_no_progress_goes_back_at_the_deadline(phase):
    world = at(phase)
    world.wait(3601)
    until(world, in_phase(P.ROLLED_BACK))
    the_old_one_serves_and_the_failure_is_remembered(world)
    assert classifier(world).rollout.last_failure.reason == "ProgressDeadlineExceeded"


def test_a_failed_analysis_goes_back_in_the_step_that_shows_it():
    world = at(P.CANARY, conduct=ERRS)
    seen = until(world, in_phase(P.ROLLED_BACK))
    assert seen[-2:] == [P.ROLLING_BACK, P.ROLLED_BACK]
    the_old_one_serves_and_the_failure_is_remembered(world)
    failure = classifier(world).rollout.last_failure
    assert failure.reason == "AnalysisFailed"
    assert "errors" in failure.message
    assert world.answered["classifier", "2.0"] < 0.05 * world.answered["classifier", "1.0"] + 30


def test_a_version_that_fails_in_a_pod_in_the_middle_of_its_steps_goes_back():
    world = at(P.CANARY)
    world.pods["pod-02"].give_up("classifier", "2.0")
    until(world, in_phase(P.ROLLED_BACK))
    the_old_one_serves_and_the_failure_is_remembered(world)


@pytest.mark.parametrize("phase", [*COMING_IN, P.CANARY], ids=str)
def test_abort_goes_back_from_wherever_it_is(phase):
    world = at(phase)
    world.annotate(abort=classifier(world).rollout.spec_hash)
    until(world, in_phase(P.ROLLED_BACK))
    the_old_one_serves_and_the_failure_is_remembered(world)
    assert classifier(world).rollout.last_failure.reason == "Aborted"
    assert classifier(world).rollout.handled.abort is not None


def the_old_one_serves_and_the_failure_is_remembered(world: World) -> None:
    assert world.condition("Ready") == ("True", "AllModelsServing")
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[0] == "True"
    assert world.defaults() == ["1.0"] * 3
    assert classifier(world).rollout.failed_hash is not None
    for _ in range(5):
        world.wait(10_000)
        assert not told_of(world.reconcile(), "2.0"), "never again by itself"
        world.advance()


# ------------------------------------------------------------------------------ edits on the way


@pytest.mark.parametrize("phase", [*COMING_IN, P.CANARY], ids=str)
def test_another_version_on_the_way_drops_the_candidate_and_begins_anew(phase):
    world = at(phase)
    release(world, "2.1")
    until(world, in_phase(P.SERVING))
    assert world.defaults() == ["2.1"] * 3
    assert world.phases("2.0") == [None] * 3


@pytest.mark.parametrize("phase", [*COMING_IN, P.CANARY], ids=str)
def test_back_to_the_active_version_drops_the_candidate_without_penalty(phase):
    world = at(phase)
    release(world, "1.0")
    until(world, in_phase(P.SERVING))
    assert world.condition("Stalled") is None
    assert classifier(world).rollout.failed_hash is None
    assert world.phases("2.0") == [None] * 3


def test_back_to_the_version_that_is_still_kept_takes_no_steps():
    world = serving(keepPrevious="1h")
    release(world)
    until(world, in_phase(P.SERVING))
    release(world, "1.0")
    seen = until(world, in_phase(P.SERVING), passes=8)
    assert P.CANARY not in seen
    assert world.defaults() == ["1.0"] * 3


def test_a_kept_version_that_fails_on_its_way_back_is_kept_no_longer():
    world = serving(keepPrevious="1h")
    release(world)
    until(world, in_phase(P.SERVING))
    world.pods["pod-02"].give_up("classifier", "1.0")
    release(world, "1.0")
    until(world, in_phase(P.ROLLED_BACK))
    go_on(world, 5)
    assert world.defaults() == ["2.0"] * 3
    assert world.phases("1.0") == [None] * 3
    (committed,) = world.committed.models
    assert [each.version for each in committed.versions] == ["2.0"]


def test_another_model_waits_until_this_one_has_come_in():
    world = serving(models=[model_body(), model_body("detector")])
    world.edit(models=[model_body(version="2.0"), model_body("detector", "2.0")])
    until(world, in_phase(P.CANARY))
    assert world.phases("2.0", "detector") == [None] * 3
    until(world, lambda w: w.defaults("detector") == ["2.0"] * 3)


@pytest.mark.parametrize("phase", [*COMING_IN, P.CANARY], ids=str)
def test_paused_it_stays_where_it_is_and_resumed_it_goes_on(phase):
    world = serving()
    release(world, conduct=Conduct(stays_in=PHASES[phase]) if phase in PHASES else None)
    until(world, in_phase(phase))
    world.edit(rollout=rollout(paused=True))
    go_on(world, 100)
    assert in_phase(phase)(world)
    assert world.condition("Reconciling") == ("True", "RolloutPaused")
    world.conduct.clear()
    world.edit(rollout=rollout())
    until(world, in_phase(P.SERVING))


# ----------------------------------------------------------------------------- what a person says


def test_promote_takes_it_all_the_way():
    world = at(P.CANARY, serving(rate=0))
    world.annotate(promote=classifier(world).rollout.spec_hash)
    seen = until(world, in_phase(P.SERVING), passes=10)
    assert P.PROMOTING in seen
    assert world.defaults() == ["2.0"] * 3


def test_promote_of_a_step_ends_that_step_only():
    world = at(P.CANARY, serving(rate=0))
    go_on(world, 2)
    world.annotate(promote=f"{classifier(world).rollout.spec_hash}/0")
    until(world, in_phase(P.CANARY, 1), passes=5)
    go_on(world, 20)
    assert classifier(world).rollout.step == 1


@pytest.mark.parametrize("what", ["promote", "abort", "retry"])
def test_an_annotation_with_another_hash_does_nothing(what):
    world = at(P.CANARY, serving(rate=0))
    go_on(world, 3)
    world.annotate(**{what: "f" * 12})
    go_on(world, 10)
    assert in_phase(P.CANARY, 0)(world)


def test_retry_gives_what_failed_one_more_try():
    world = at(P.CANARY, conduct=ERRS)
    until(world, in_phase(P.ROLLED_BACK))
    world.conduct.clear()
    world.annotate(retry=classifier(world).rollout.failed_hash)
    until(world, in_phase(P.SERVING))
    assert world.defaults() == ["2.0"] * 3


@pytest.mark.parametrize(
    ("then", "phase", "reason"),
    [
        pytest.param(
            "Rollback", P.ROLLED_BACK, "AnalysisInconclusive", id="Rollback takes it back"
        ),
        pytest.param("Promote", P.SERVING, None, id="Promote goes on"),
    ],
)
def test_without_a_clear_result_in_time_the_spec_says_what_follows(then, phase, reason):
    world = serving(rate=1, analysis={**ANALYSIS, "onInconclusive": then})
    release(world)
    until(world, in_phase(phase), passes=400)
    failure = classifier(world).rollout.last_failure
    assert (failure and failure.reason) == reason


def test_without_a_clear_result_in_time_it_waits_for_a_person_who_may_let_it_go_on():
    world = serving(rate=1)
    release(world)
    until(world, lambda w: classifier(w).rollout.held)
    assert world.condition("Reconciling") == ("True", "AnalysisInconclusive")
    go_on(world, 100)
    assert in_phase(P.CANARY, 0)(world)
    world.annotate(promote=f"{classifier(world).rollout.spec_hash}/0")
    until(world, in_phase(P.CANARY, 1), passes=5)


# -------------------------------------------------------------------------------------- the ways in


def test_where_a_pod_has_one_version_at_a_time_steps_are_numbers_of_pods():
    world = serving(4, mode="Recreate")
    release(world)
    most_out = 0
    counts = set()
    for _ in range(200):
        go_on(world)
        most_out = max(most_out, sum(not pod.ready() for pod in world.pods.values()))
        counts.add(world.defaults().count("2.0"))
        if in_phase(P.SERVING)(world):
            break
    assert counts == {0, 1, 2, 3, 4}
    assert most_out == 1
    assert world.lost == 0


def test_recreated_everywhere_there_is_no_old_version_to_compare_with():
    steps = [{"weight": 50, "pause": "10s"}, {"weight": 100, "pause": "10s"}]
    world = serving(2, mode="Recreate", steps=steps)
    release(world)
    until(world, in_phase(P.SERVING), passes=60)
    assert world.defaults() == ["2.0"] * 2


def test_worker_by_worker_no_pod_has_more_workers_than_before():
    world = serving(2, mode="WorkerByWorker", models=[model_body(workers={"min": 4})])
    release(world, workers={"min": 4})
    while not in_phase(P.SERVING)(world):
        go_on(world)
        for pod in world.pods.values():
            assert sum(each.workers for each in pod.loaded.values()) <= 4
    assert world.defaults() == ["2.0"] * 2


def test_worker_by_worker_it_comes_in_though_the_workers_are_lowered_to_one_on_the_way():
    world = serving(2, mode="WorkerByWorker", models=[model_body(workers={"min": 2})])
    release(world, workers={"min": 2})
    until(world, in_phase(P.FETCHING))
    release(world, workers={"min": 1})
    until(world, in_phase(P.SERVING))
    assert world.defaults() == ["2.0"] * 2
    assert world.lost == 0


@pytest.mark.parametrize(
    ("replicas", "mode"),
    [
        pytest.param(2, "Recreate", id="pods change one after the other"),
        pytest.param(1, None, id="a single pod would leave a gap, and must be asked for by name"),
    ],
)
def test_worker_by_worker_needs_two_workers(replicas, mode):
    world = serving(replicas, mode="WorkerByWorker")
    release(world)
    go_on(world, 60)
    if mode is None:
        assert world.condition("Stalled") == ("True", "InsufficientMemory")
        assert world.defaults() == ["1.0"]
    else:
        assert world.defaults() == ["2.0"] * replicas


@pytest.mark.parametrize(
    ("workers", "mode"),
    [
        pytest.param(2, "WorkerByWorker", id="several workers share the room"),
        pytest.param(1, "Recreate", id="one worker leaves the room to the other"),
    ],
)
def test_what_has_no_room_beside_the_old_version_comes_in_in_a_smaller_way(workers, mode):
    body = deployment_body(model_body(workers={"min": workers}), replicas=2)
    world = World(body, limit_bytes=int(MIB * 100 * (workers + 0.9)), rate=100)
    world.edit(rollout=rollout())
    at_rest(world)
    release(world, workers={"min": workers})
    until(world, lambda w: classifier(w).rollout.mode)
    assert classifier(world).rollout.mode == mode
    assert "free" in classifier(world).rollout.mode_reason
    until(world, in_phase(P.SERVING))
    assert world.lost == 0


@pytest.mark.parametrize("reason", ["OutOfMemory", "InsufficientMemory"])
def test_what_turns_out_not_to_fit_is_tried_in_a_smaller_way_and_is_no_failure(reason):
    world = serving(2)
    release(
        world, conduct=Conduct(fails_in=VersionPhase.LOADING, failure=Failure(reason, "no room"))
    )
    until(world, lambda w: classifier(w).rollout.mode == "Recreate")
    assert classifier(world).rollout.failed_hash is None
    world.conduct.clear()
    until(world, in_phase(P.SERVING))
    assert world.defaults() == ["2.0"] * 2


# ---------------------------------------------------------------------- versions beside the default


def test_a_version_of_a_split_proves_itself_in_one_pod_and_gets_its_weight_when_all_have_it():
    world = serving()
    source = {"uri": archive("classifier", "2.0")}
    split = {"versions": [{"version": "2.0", "weight": 20, "source": source}]}
    world.edit(models=[model_body(split=split)])
    plan = world.reconcile()
    assert list(plan.documents) == ["pod-01"]
    until(world, lambda w: w.phases("2.0") == ["Ready"] * 3)
    assert world.answered["classifier", "2.0"] == 0
    until(world, in_phase(P.SERVING))
    go_on(world, 3)
    assert [pod.weights("classifier")["2.0"] for pod in world.pods.values()] == [20] * 3
    assert world.defaults() == ["1.0"] * 3


def test_a_shadow_proves_itself_in_one_pod_and_answers_nobody():
    world = serving()
    source = {"uri": archive("classifier", "2.0")}
    world.edit(models=[model_body(shadow={"version": "2.0", "source": source})])
    plan = world.reconcile()
    assert list(plan.documents) == ["pod-01"]
    until(world, lambda w: w.phases("2.0") == ["Ready"] * 3 and classifier(w).phase is P.SERVING)
    go_on(world, 3)
    assert world.answered["classifier", "2.0"] == 0
    assert all(pod.loaded["classifier", "2.0"].counts.copies for pod in world.pods.values())


def test_a_version_beside_the_default_that_fails_leaves_everything_as_it_was():
    world = serving()
    source = {"uri": archive("classifier", "2.0")}
    world.bad.add(archive("classifier", "2.0"))
    split = {"versions": [{"version": "2.0", "weight": 20, "source": source}]}
    world.edit(models=[model_body(split=split)])
    go_on(world, 20)
    assert world.condition("Stalled") is not None
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert classifier(world).rollout.failed_others
    assert world.phases("2.0") == [None] * 3
    assert not told_of(world.reconcile(), "2.0")


def test_a_version_beside_the_default_that_failed_is_remembered_while_another_default_comes_in():
    world = serving()
    world.bad.add(archive("classifier", "3.0"))
    source = {"uri": archive("classifier", "3.0")}
    split = {"versions": [{"version": "3.0", "weight": 20, "source": source}]}
    world.edit(models=[model_body(split=split)])
    until(world, lambda w: classifier(w).rollout.failed_others)
    release(world, split=split)
    go_on(world, 3)
    for _ in range(80):
        go_on(world)
        assert not any(pod.phase("classifier", "3.0") for pod in world.pods.values())
    assert world.defaults() == ["2.0"] * 3
    assert not any(pod.phase("classifier", "3.0") for pod in world.pods.values())
    assert classifier(world).rollout.failed_others


def test_a_version_beside_the_default_that_failed_is_remembered_when_the_default_is_lost_as_well():
    world = serving(2)
    world.bad.add(archive("classifier", "3.0"))
    source = {"uri": archive("classifier", "3.0")}
    split = {"versions": [{"version": "3.0", "weight": 20, "source": source}]}
    world.edit(models=[model_body(split=split)])
    until(world, lambda w: classifier(w).rollout.failed_others and w.phases("3.0") == [None] * 2)
    for pod in world.pods.values():
        pod.give_up("classifier", "1.0")
    go_on(world, 2)
    release(world, split=split)
    for _ in range(20):
        go_on(world)
        assert world.phases("3.0") == [None] * 2
    assert world.defaults() == ["2.0"] * 2


def test_a_version_that_is_kept_gets_nothing_once_no_split_names_it_any_more():
    world = serving(keepPrevious="1h")
    source = {"uri": archive("classifier", "1.0")}
    split = {"versions": [{"version": "1.0", "weight": 20, "source": source}]}
    release(world, split=split)
    until(world, in_phase(P.SERVING))
    go_on(world, 3)
    assert [pod.weights("classifier").get("1.0") for pod in world.pods.values()] == [20] * 3
    release(world)
    go_on(world, 5)
    assert world.phases("1.0") == ["Ready"] * 3
    assert [pod.weights("classifier").get("1.0", 0) for pod in world.pods.values()] == [0] * 3
