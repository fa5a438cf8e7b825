"""How a new version comes in, as one reads it off the pods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flambeau_operator.plan.plan import Plan
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.release_worlds import told_of
from tests.controlplane.simulated_pods import World

HASH = "0" * 12


def serving(replicas: int = 3, *models: dict, **spec) -> World:
    """Return a world at rest: everything that was asked for serves."""
    world = World(deployment_body(*models, replicas=replicas, **spec))
    world.settle()
    return world


def to(version: str, **changes) -> list[dict]:
    """Return spec.models with the classifier at this version."""
    return [model_body(version=version, **changes)]


def told(plan: Plan) -> list[str]:
    """The pods that get a document."""
    return sorted(plan.documents)


def versions(plan: Plan, pod: str) -> dict[str, list[str]]:
    """What a pod's new document names, by model."""
    models = plan.documents[pod].models
    return {model.name: [each.version for each in model.versions] for model in models}


def until(world: World, condition, passes: int = 60) -> Plan:
    """Go on until something holds right after a pass."""
    for _ in range(passes):
        world.wait(1)
        plan = world.reconcile()
        if condition(plan):
            return plan
        world.advance()
    raise AssertionError("it never came to that")


# ---------------------------------------------------------------------------------- the first set


def test_what_is_created_is_committed_at_once_as_there_is_nothing_to_protect():
    world = World(deployment_body(replicas=2))
    plan = world.reconcile()
    assert plan.commit is not None
    assert world.committed_versions() == {"classifier": "1.0"}
    assert plan.status.sequence == plan.commit.sequence == 1


def test_pods_boot_the_committed_set_and_need_no_document():
    world = World(deployment_body(replicas=2))
    for _ in range(12):
        assert not world.reconcile().documents
        world.advance()
    assert world.defaults() == ["1.0", "1.0"]


def test_a_first_version_that_never_served_is_replaced_at_once():
    world = World(deployment_body(replicas=2), bad={archive("classifier", "1.0")})
    world.settle()
    assert world.condition("Stalled") == ("True", "InitializeFailed")
    world.edit(models=to("1.1"))
    plan = world.reconcile()
    assert plan.commit is not None
    assert told(plan) == ["pod-01", "pod-02"]
    world.settle()
    assert world.defaults() == ["1.1", "1.1"]
    assert world.condition("Stalled") is None


def test_a_first_version_that_never_served_may_keep_its_name_and_change_its_archive():
    world = World(deployment_body(replicas=1), bad={archive("classifier", "1.0")})
    world.settle()
    world.edit(models=to("1.0", source={"uri": "file:///models/mended.mar"}))
    world.settle()
    assert world.condition("RolledOut") == ("True", "RolledOut")


def test_a_version_that_has_failed_in_every_pod_protects_nothing():
    world = serving(2)
    world.bad.add(archive("classifier", "1.0"))
    for name in list(world.pods):
        world.restart(name)
    world.settle()
    assert world.condition("Ready") == ("False", "InitializeFailed")
    world.edit(models=to("2.0"))
    assert world.reconcile().commit is not None
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


# ---------------------------------------------------------------------------- who changes, and when


def test_the_first_pod_proves_the_candidate_alone():
    world = serving(3, rollout={"hot": {"maxUnavailablePods": 3}})
    world.edit(models=to("2.0"))
    assert told(world.reconcile()) == ["pod-01"]
    for _ in range(4):
        world.advance()
        assert told(world.reconcile()) == []


@pytest.mark.parametrize(
    ("replicas", "limit", "waves"),
    [
        pytest.param(3, 1, [1, 1, 1], id="then one pod at a time"),
        pytest.param(5, 2, [1, 2, 2], id="then as many as a number says"),
        pytest.param(5, "50%", [1, 2, 2], id="then as many as a percentage says, rounded down"),
        pytest.param(3, "10%", [1, 1, 1], id="a small percentage still lets one pod change"),
        pytest.param(4, "100%", [1, 3], id="all of them after the first, if all may change"),
        pytest.param(1, 1, [1], id="a single pod is the first and the last"),
    ],
)
def test_waves(replicas, limit, waves):
    world = serving(replicas, rollout={"hot": {"maxUnavailablePods": limit}})
    world.edit(models=to("2.0"))
    seen = []
    for _ in range(60):
        plan = world.reconcile()
        if plan.commit:
            break
        if plan.documents:
            seen.append(len(plan.documents))
        world.advance()
    assert seen == waves


def test_a_candidate_is_ready_and_warm_in_a_pod_before_it_gets_that_pods_traffic():
    world = serving(3)
    world.edit(models=to("2.0"))
    for _ in range(40):
        plan = world.reconcile()
        for name, document in plan.documents.items():
            if document.models[0].default == "2.0":
                assert world.pods[name].phase("classifier", "2.0") == "Ready"
        world.advance()
    assert world.defaults() == ["2.0"] * 3


def test_the_old_version_answers_everywhere_until_the_new_one_is_ready_everywhere():
    world = serving(3)
    world.edit(models=to("2.0"))
    until(world, lambda plan: plan.commit is not None)
    assert world.defaults() == ["1.0"] * 3
    assert world.phases("2.0") == ["Ready"] * 3


def test_promotion_commits_before_anything_names_the_new_default():
    world = serving(3)
    world.edit(models=to("2.0"))
    while True:
        world.advance()
        plan = world.plan()
        if plan.commit:
            break
        for document in plan.documents.values():
            assert document.models[0].default == "1.0"
        world.carry_out(plan)
    assert [model.default for model in plan.commit.models] == ["2.0"]
    assert told(plan) == ["pod-01", "pod-02", "pod-03"]
    assert {document.models[0].default for document in plan.documents.values()} == {"2.0"}
    assert all(plan.commit.sequence < each.sequence for each in plan.documents.values())


def test_a_pod_that_joins_in_the_middle_boots_the_old_version_and_then_takes_part():
    world = serving(2)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0")[0] == "Ready")
    world.replace("pod-02")
    assert world.committed_versions() == {"classifier": "1.0"}
    world.advance()
    assert not world.reconcile().documents, "not before it serves the committed set"
    plan = until(world, lambda plan: "pod-03" in plan.documents)
    assert versions(plan, "pod-03") == {"classifier": ["1.0", "2.0"]}
    assert world.defaults()[-1] == "1.0"
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_when_the_pod_that_proved_it_dies_another_proves_it_alone_again():
    world = serving(4, rollout={"hot": {"maxUnavailablePods": 3}})
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0")[0] == "Warming")
    world.replace("pod-01")
    assert told(world.reconcile()) == ["pod-02"]


def test_a_pod_that_has_just_been_added_holds_the_promotion_until_it_has_the_candidate():
    world = serving(1)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Warming"])
    world.edit(replicas=2)
    world.reconcile()
    world.advance()
    plan = world.reconcile()
    assert world.phases("2.0") == ["Ready", None]
    assert plan.commit is None
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_pods_of_an_older_template_take_no_candidate_and_hold_the_promotion():
    world = serving(2)
    world.edit(models=to("2.0"), runtime={"config": {"job_queue_size": "7"}})
    old = [name for name, pod in world.pods.items()]
    for _ in range(60):
        plan = world.reconcile()
        assert not set(plan.documents) & set(old) or plan.commit
        assert plan.commit is None or not set(old) & set(world.pods)
        world.advance()
    assert world.defaults() == ["2.0", "2.0"]


def test_no_pod_takes_a_candidate_while_none_runs():
    world = serving(2)
    world.edit(replicas=0)
    world.settle()
    world.edit(models=to("2.0"))
    world.settle()
    assert world.committed_versions() == {"classifier": "1.0"}
    assert world.condition("RolledOut") == ("False", "NoPods")
    world.edit(replicas=2)
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


# --------------------------------------------------------------------------------------- silence


def test_a_silent_pod_counts_as_changing_so_that_no_other_changes():
    world = serving(3)
    world.pods["pod-03"].silent = True
    world.edit(models=to("2.0"))
    for _ in range(10):
        assert not world.reconcile().documents
        world.advance()
    assert world.condition("Ready") == ("True", "AllModelsServing")


def test_where_two_may_change_one_silent_pod_leaves_room_for_one():
    world = serving(4, rollout={"hot": {"maxUnavailablePods": 2}})
    world.pods["pod-04"].silent = True
    world.edit(models=to("2.0"))
    for _ in range(30):
        plan = world.reconcile()
        assert len(plan.documents) <= 1
        assert plan.commit is None
        world.advance()
    assert world.phases("2.0") == ["Ready", "Ready", "Ready", None]


def test_nothing_is_dropped_for_a_pod_that_falls_silent_in_the_middle():
    world = serving(2)
    world.edit(models=to("2.0"), rollout={"progressDeadline": "1m"})
    until(world, lambda _: world.phases("2.0") == ["Ready", None])
    world.pods["pod-02"].silent = True
    for _ in range(10):
        world.wait(60)
        assert not world.reconcile().documents
    assert world.phases("2.0") == ["Ready", None]
    world.pods["pod-02"].silent = False
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_when_every_pod_is_silent_nothing_is_written_and_the_status_says_so():
    world = serving(2)
    committed, sequence = world.committed, world.status.sequence
    for pod in world.pods.values():
        pod.silent = True
    world.edit(models=[model_body(workers={"min": 4})])
    for _ in range(4):
        plan = world.reconcile()
        assert not plan.documents
        assert plan.commit is None
    assert world.committed is committed
    assert world.status.sequence == sequence
    assert world.condition("Reconciling") == ("True", "ManagementUnreachable")
    assert world.condition("Ready") == ("Unknown", "ManagementUnreachable")
    assert world.status.model("classifier").active_version == "1.0"


def test_a_model_removed_and_named_again_while_no_pod_answers_is_protected_as_before():
    world = serving(1, *two())
    world.pods["pod-01"].silent = True
    world.edit(models=two()[1:])
    world.reconcile()
    assert world.committed_versions() == {"classifier": "1.0", "detector": "1.0"}
    world.edit(models=two("2.0"))
    world.restart("pod-01")
    world.pods["pod-01"].silent = False
    world.reconcile()
    assert world.committed_versions() == {"classifier": "1.0", "detector": "1.0"}
    world.settle()
    assert world.defaults("classifier") == ["2.0"]


def test_without_any_answer_and_without_a_committed_set_what_is_remembered_is_kept():
    world = broken()
    before = world.status.models
    world.committed = None
    for pod in world.pods.values():
        pod.silent = True
    plan = world.reconcile()
    assert plan.commit is None
    assert plan.status.models == before


# ------------------------------------------------------------------------------------ going wrong


def broken(replicas: int = 3) -> World:
    """Return a world whose second version cannot be loaded, after it was tried."""
    world = serving(replicas)
    world.bad.add(archive("classifier", "2.0"))
    world.edit(models=to("2.0"))
    world.settle()
    return world


def test_a_bad_candidate_touches_one_pod_only():
    world = serving(3)
    world.bad.add(archive("classifier", "2.0"))
    world.edit(models=to("2.0"))
    touched = set()
    for _ in range(30):
        touched |= told_of(world.reconcile(), "2.0")
        world.advance()
    assert touched == {"pod-01"}
    assert world.defaults() == ["1.0"] * 3


def test_a_bad_candidate_leaves_every_document_and_is_remembered_with_its_reason():
    world = broken()
    model = world.status.model("classifier")
    assert world.phases("2.0") == [None] * 3
    assert model.phase == "RolledBack"
    assert model.active_version == "1.0"
    assert model.rollout.failed_hash is not None
    failure = model.rollout.last_failure
    assert failure is not None
    assert (failure.reason, failure.message, failure.log_tail, failure.pod) == (
        "InitializeFailed",
        "boom",
        "last line",
        "pod-01",
    )


def test_after_a_rollback_the_old_version_is_ready_and_the_rollout_is_stalled():
    world = broken()
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.condition("Stalled") == ("True", "RolledBack")
    assert world.condition("RolledOut") == ("False", "RolledBack")
    assert world.condition("Reconciling") is None


def test_a_remembered_failure_is_not_tried_again_by_itself():
    world = broken()
    for _ in range(20):
        world.wait(10_000)
        assert not world.reconcile().documents
        world.advance()


def test_more_workers_give_a_remembered_failure_no_second_chance_but_go_to_the_old_version():
    world = broken()
    world.edit(models=to("2.0", workers={"min": 3}))
    plan = world.reconcile()
    assert {name: versions(plan, name) for name in told(plan)} == {
        name: {"classifier": ["1.0"]} for name in ("pod-01", "pod-02", "pod-03")
    }
    assert {document.models[0].versions[0].workers for document in plan.documents.values()} == {3}
    world.settle()
    assert world.condition("Stalled") == ("True", "RolledBack")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"source": {"uri": "file:///models/mended.mar"}}, id="another archive"),
        pytest.param({"handler": {"env": {"MODE": "fast"}}}, id="another environment"),
        pytest.param({"timeouts": {"startup": "600s"}}, id="more patience"),
        pytest.param({"warmup": {"requests": [{"body": "{}"}]}}, id="another warm-up"),
    ],
)
def test_a_remembered_failure_is_tried_again_when_its_entry_changes_by(changes):
    world = broken()
    world.bad.clear()
    world.edit(models=to("2.0", **changes))
    world.settle()
    assert world.defaults() == ["2.0"] * 3
    assert world.status.model("classifier").rollout.failed_hash is None


def test_the_retry_annotation_gives_one_more_try_and_not_two():
    world = broken()
    failed = world.status.model("classifier").rollout.failed_hash
    world.annotate(retry=str(failed))
    assert told(world.reconcile()) == ["pod-01"]
    world.settle()
    assert world.status.model("classifier").rollout.failed_hash == failed
    for _ in range(5):
        assert not world.reconcile().documents
        world.advance()


def test_an_annotation_with_another_hash_retries_nothing():
    world = broken()
    world.annotate(retry=HASH)
    assert not world.reconcile().documents


def test_going_back_to_the_active_version_clears_the_failure():
    world = broken()
    world.edit(models=to("1.0"))
    world.settle()
    assert world.condition("Stalled") is None
    assert world.condition("RolledOut") == ("True", "RolledOut")
    rollout = world.status.model("classifier").rollout
    assert (rollout.failed_hash, rollout.last_failure) == (None, None)


def test_going_back_in_the_middle_drops_the_candidate_without_penalty():
    world = serving(2)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Loading", None])
    world.edit(models=to("1.0"))
    assert told(world.reconcile()) == ["pod-01"]
    world.settle()
    assert world.phases("2.0") == [None, None]
    assert world.status.model("classifier").rollout.failed_hash is None
    assert world.condition("RolledOut") == ("True", "RolledOut")


def test_an_edit_in_the_middle_drops_the_candidate_and_starts_anew():
    world = serving(2)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Ready", "Loading"])
    world.edit(models=to("3.0"))
    plan = world.reconcile()
    assert {name: versions(plan, name) for name in told(plan)} == {
        "pod-01": {"classifier": ["1.0"]},
        "pod-02": {"classifier": ["1.0"]},
    }
    plan = until(world, lambda plan: bool(plan.documents))
    assert told(plan) == ["pod-01"]
    assert versions(plan, "pod-01") == {"classifier": ["1.0", "3.0"]}
    world.settle()
    assert world.defaults() == ["3.0", "3.0"]


def test_no_other_pod_takes_the_next_candidate_before_the_dropped_one_has_left_the_documents():
    world = serving(3, rollout={"hot": {"maxUnavailablePods": 2}})
    world.edit(models=to("2.0"))
    world.reconcile()
    world.edit(models=to("3.0"))
    plan = world.reconcile()
    assert {name: versions(plan, name) for name in told(plan)} == {
        "pod-01": {"classifier": ["1.0"]}
    }


def test_a_pod_takes_no_candidate_while_another_version_is_still_leaving_it():
    world = serving(1)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Loading"])
    world.edit(models=to("3.0"))
    assert told(world.reconcile()) == ["pod-01"]
    assert world.phases("2.0") == ["Loading"]
    assert told(world.reconcile()) == []
    world.advance()
    assert world.phases("2.0") == [None]
    assert told(world.reconcile()) == ["pod-01"]


def test_a_failure_of_an_entry_that_was_mended_meanwhile_is_not_held_against_the_mended_one():
    world = serving(2)
    world.bad.add(archive("classifier", "2.0"))
    world.edit(models=to("2.0"))
    world.reconcile()
    world.advance(times=6)
    assert world.phases("2.0") == ["Failed", None]
    world.bad.clear()
    world.edit(models=to("2.0", handler={"env": {"MODE": "mended"}}))
    assert versions(world.reconcile(), "pod-01") == {"classifier": ["1.0"]}
    assert world.status.model("classifier").rollout.failed_hash is None
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_another_archive_for_the_same_candidate_version_starts_anew_as_well():
    world = serving(2)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Loading", None])
    world.edit(models=to("2.0", source={"uri": "file:///models/better.mar"}))
    plan = world.reconcile()
    assert versions(plan, "pod-01") == {"classifier": ["1.0"]}
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_a_candidate_without_progress_is_taken_back_at_the_deadline():
    world = serving(2, rollout={"progressDeadline": "5m"})
    world.edit(models=to("2.0"))
    world.reconcile()
    world.advance(times=2)
    world.wait(299)
    assert not world.reconcile().documents
    world.wait(1)
    plan = world.reconcile()
    assert versions(plan, "pod-01") == {"classifier": ["1.0"]}
    failure = world.status.model("classifier").rollout.last_failure
    assert failure is not None
    assert failure.reason == "ProgressDeadlineExceeded"
    assert world.condition("Stalled") == ("True", "ProgressDeadlineExceeded")


def test_every_pod_that_becomes_ready_starts_the_deadline_anew():
    world = serving(3, rollout={"progressDeadline": "5m"})
    world.edit(models=to("2.0"))
    for ready in (["Ready", None, None], ["Ready", "Ready", None], ["Ready"] * 3):
        world.reconcile()
        world.wait(200)
        world.advance(times=6)
        assert world.phases("2.0") == ready
    assert world.reconcile().commit is not None


# --------------------------------------------------------------------------------------- several


def two(first: str = "1.0", second: str = "1.0") -> list[dict]:
    """Return spec.models with a classifier and a detector."""
    return [model_body("classifier", first), model_body("detector", second)]


def test_of_several_changed_models_one_rolls_at_a_time_in_the_order_of_the_spec():
    world = serving(2, *two())
    world.edit(models=two("2.0", "2.0"))
    commits = []
    for _ in range(80):
        plan = world.reconcile()
        for name in plan.documents:
            named = versions(plan, name)
            assert sum(len(each) for each in named.values()) <= 3
        if plan.commit:
            commits.append(world.committed_versions())
        world.advance()
    assert commits == [
        {"classifier": "2.0", "detector": "1.0"},
        {"classifier": "2.0", "detector": "2.0"},
    ]


def test_a_model_that_has_begun_is_not_pushed_aside_by_an_earlier_one_in_the_spec():
    world = serving(2, *two())
    world.edit(models=two("1.0", "2.0"))
    world.reconcile()
    world.edit(models=two("2.0", "2.0"))
    plan = until(world, lambda plan: plan.commit is not None)
    assert [(each.name, each.default) for each in plan.commit.models] == [
        ("classifier", "1.0"),
        ("detector", "2.0"),
    ]


def test_a_failing_model_does_not_keep_the_next_one_from_rolling():
    world = serving(2, *two())
    world.bad.add(archive("classifier", "2.0"))
    world.edit(models=two("2.0", "2.0"))
    world.settle()
    assert world.defaults("classifier") == ["1.0", "1.0"]
    assert world.defaults("detector") == ["2.0", "2.0"]
    assert world.condition("Stalled") == ("True", "RolledBack")


def test_a_removed_model_leaves_at_once():
    world = serving(2, *two())
    world.edit(models=two()[:1])
    plan = world.reconcile()
    assert plan.commit is not None
    assert {tuple(versions(plan, name)) for name in told(plan)} == {("classifier",)}
    world.settle()
    assert world.defaults("detector") == [None, None]


def test_an_added_model_comes_in_like_a_candidate_and_makes_no_pod_unready():
    world = serving(2)
    world.edit(models=two())
    plan = world.reconcile()
    assert told(plan) == ["pod-01"]
    added = plan.documents["pod-01"].model("detector")
    assert added is not None
    assert (added.default, added.required) == (None, False)
    for _ in range(30):
        assert world.condition("Ready") == ("True", "AllModelsServing")
        world.reconcile()
        world.advance()
    assert world.defaults("detector") == ["1.0", "1.0"]
    committed = world.committed.model("detector") if world.committed else None
    assert committed is not None
    assert committed.required


def test_an_added_model_that_fails_leaves_the_others_alone():
    world = serving(2)
    world.bad.add(archive("detector", "1.0"))
    world.edit(models=two())
    world.settle()
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.condition("Stalled") == ("True", "RolledBack")
    assert world.committed_versions() == {"classifier": "1.0"}


# ------------------------------------------------------------------------- what is not a rollout


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"workers": {"min": 4}}, id="workers"),
        pytest.param({"batching": {"maxSize": 8, "maxDelay": "50ms"}}, id="batching"),
        pytest.param({"timeouts": {"response": "30s"}}, id="timeouts"),
        pytest.param({"warmup": {"requests": [{"body": "{}"}]}}, id="the warm-up"),
        pytest.param({"handler": {"env": {"MODE": "fast"}}}, id="the environment"),
        pytest.param({"required": False}, id="whether it is required"),
    ],
)
def test_a_live_edit_reaches_the_committed_set_and_every_pod_at_once(changes):
    world = serving(3)
    world.edit(models=to("1.0", **changes))
    plan = world.reconcile()
    assert plan.commit is not None
    assert told(plan) == ["pod-01", "pod-02", "pod-03"]
    assert all(each.models == plan.commit.models for each in plan.documents.values())
    assert world.status.model("classifier").rollout.spec_hash is None
    world.settle()
    assert world.condition("RolledOut") == ("True", "RolledOut")


def test_what_was_written_for_the_new_version_does_not_reach_the_old_one():
    world = serving(2)
    change = {"handler": {"env": {"NEW": "1"}}, "batching": {"maxSize": 8}, "workers": {"min": 2}}
    world.edit(models=to("2.0", **change))
    plan = world.reconcile()
    old, new = plan.documents["pod-01"].models[0].versions
    assert (old.version, dict(old.env), old.max_size, old.workers) == ("1.0", {}, 1, 2)
    assert (new.version, dict(new.env), new.max_size, new.workers) == ("2.0", {"NEW": "1"}, 8, 2)


def test_a_live_edit_in_the_middle_reaches_candidate_and_old_version_and_starts_nothing_anew():
    world = serving(2)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Loading", None])
    before = world.status.model("classifier").rollout.spec_hash
    world.edit(models=to("2.0", workers={"min": 3}))
    plan = world.reconcile()
    assert [each.workers for each in plan.documents["pod-01"].models[0].versions] == [3, 3]
    assert world.status.model("classifier").rollout.spec_hash == before
    assert world.phases("2.0") == ["Loading", None]


def test_a_digest_that_confirms_what_is_active_is_no_rollout():
    digest = "sha256:" + "a" * 64
    world = serving(2, *to("1.0", source={"uri": archive("classifier", "1.0"), "digest": digest}))
    world.edit(models=to("1.0", source={"uri": "file:///mirror/c.mar", "digest": digest}))
    world.settle()
    assert world.condition("RolledOut") == ("True", "RolledOut")
    assert world.condition("Stalled") is None


def test_another_archive_under_the_active_version_is_refused_and_nothing_changes():
    world = serving(2)
    world.edit(models=to("1.0", source={"uri": "file:///models/other.mar"}))
    plan = world.settle()
    assert not plan.documents
    assert world.condition("Stalled") == ("True", "VersionReused")
    assert world.condition("Ready") == ("True", "AllModelsServing")
    stalled = world.status.condition("Stalled")
    assert stalled is not None
    assert "`version`" in stalled.message


def test_a_pin_that_denies_what_the_pods_found_is_refused_in_the_same_way():
    world = serving(2)
    pinned = {"uri": archive("classifier", "1.0"), "digest": "sha256:" + "f" * 64}
    world.edit(models=to("1.0", source=pinned))
    plan = world.settle()
    assert not plan.documents
    assert world.condition("Stalled") == ("True", "VersionReused")


def test_a_reused_version_does_not_keep_other_models_from_changing():
    world = serving(2, *two())
    other = model_body("classifier", source={"uri": "file:///models/other.mar"})
    world.edit(models=[other, model_body("detector", "2.0")])
    world.settle()
    assert world.defaults("detector") == ["2.0", "2.0"]
    assert world.condition("Stalled") == ("True", "VersionReused")


def test_a_set_that_does_not_fit_is_refused_and_nothing_changes():
    world = serving(1)
    huge = {"requests": [{"body": "x" * 100_000}] * 10}
    world.edit(models=to("1.0", warmup=huge))
    plan = world.settle()
    assert not plan.documents
    assert world.condition("Stalled") == ("True", "TooLarge")
    assert world.condition("Ready") == ("True", "AllModelsServing")


# ----------------------------------------------------------------------------- holding and stopping


def test_paused_holds_the_rollout_where_it_is():
    world = serving(3)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Ready", None, None])
    world.edit(rollout={"paused": True})
    for _ in range(10):
        world.wait(100_000)
        plan = world.reconcile()
        assert "pod-03" not in plan.documents
        assert plan.commit is None
        world.advance()
    assert world.condition("Reconciling") == ("True", "RolloutPaused")
    world.edit(rollout={"paused": False})
    world.settle()
    assert world.defaults() == ["2.0"] * 3


def test_paused_before_it_begins_it_does_not_begin():
    world = serving(2, rollout={"paused": True})
    world.edit(models=to("2.0"))
    for _ in range(10):
        assert not world.reconcile().documents
        world.advance()


def test_a_candidate_that_fails_while_paused_is_taken_back_all_the_same():
    world = serving(2)
    world.bad.add(archive("classifier", "2.0"))
    world.edit(models=to("2.0"))
    world.reconcile()
    world.edit(rollout={"paused": True})
    world.settle()
    assert world.condition("Stalled") == ("True", "RolledBack")


def test_suspended_wants_no_pod_and_says_nothing_else():
    world = serving(2)
    world.edit(suspend=True)
    plan = world.settle()
    assert plan.children.replicas == 0
    assert world.pods == {}
    assert [each.type for each in world.status.conditions] == ["Suspended"]
    assert not plan.watch_pods


def test_resumed_it_boots_what_was_committed_and_then_rolls_to_what_was_edited_meanwhile():
    world = serving(2)
    world.edit(suspend=True)
    world.settle()
    world.edit(models=to("2.0"))
    world.settle()
    assert world.committed_versions() == {"classifier": "1.0"}
    world.edit(suspend=False)
    until(world, lambda _: world.defaults() == ["1.0", "1.0"])
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


# ------------------------------------------------------------------- identity, memory and sequence


def test_pods_of_a_deleted_namesake_are_not_ours():
    world = serving(2)
    world.body["metadata"] = {**world.body["metadata"], "uid": "another"}
    plan = world.plan()
    assert not plan.documents
    assert plan.status.replicas == 0
    assert plan.commit is not None
    assert plan.commit.owner.uid == "another"


def test_a_deleted_committed_set_is_rebuilt_from_the_pods():
    world = serving(2)
    before = world.committed
    world.committed = None
    plan = world.reconcile()
    assert not plan.documents
    assert plan.commit is not None
    assert before is not None
    assert plan.commit.models == before.models


def test_a_set_that_is_rebuilt_in_the_middle_still_names_the_old_version_and_looks_no_newer():
    world = serving(2)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Loading", None])
    world.committed = None
    plan = world.reconcile()
    assert world.committed_versions() == {"classifier": "1.0"}
    desired = world.pods["pod-01"].desired
    assert plan.commit is not None
    assert desired is not None
    assert plan.commit.sequence <= desired.sequence
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_a_changed_document_carries_a_sequence_above_all_that_any_pod_or_status_knows():
    world = serving(2)
    world.status = world.status.model_copy(update={"sequence": 3})
    known = world.pods["pod-02"].desired
    assert known is not None
    world.pods["pod-02"].desired = replace(known, sequence=40)
    world.edit(models=to("2.0"))
    plan = world.reconcile()
    assert plan.status.sequence == 41
    assert {each.sequence for each in plan.documents.values()} == {41}


def test_a_pass_that_changes_no_document_leaves_the_sequence_alone():
    world = serving(2)
    before = world.status.sequence
    for _ in range(5):
        assert world.reconcile().status.sequence == before


def test_an_operator_that_was_restarted_plans_the_same():
    world = serving(3)
    world.edit(models=to("2.0"))
    for _ in range(30):
        assert world.plan() == world.plan()
        world.reconcile()
        world.advance()


def test_an_operator_that_died_between_status_and_put_sends_the_document_after_all():
    world = serving(2)
    world.edit(models=to("2.0"))
    lost = world.plan()
    world.status = lost.status
    plan = world.reconcile()
    assert told(plan) == told(lost) == ["pod-01"]
    assert plan.status.sequence == lost.status.sequence + 1
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_an_operator_that_died_between_commit_and_put_finishes_the_promotion():
    world = serving(2)
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Ready", "Warming"])
    world.advance()
    lost = world.plan()
    assert lost.commit is not None
    world.status, world.committed = lost.status, lost.commit
    plan = world.reconcile()
    assert {each.models[0].default for each in plan.documents.values()} == {"2.0"}
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]
    assert world.condition("RolledOut") == ("True", "RolledOut")


def test_a_pod_without_any_document_is_told():
    world = serving(2)
    world.pods["pod-02"].desired = None
    assert told(world.reconcile()) == ["pod-02"]


# ------------------------------------------------------------------------------- after a promotion


def kept(world: World) -> World:
    """Promote 2.0 while 1.0 stays loaded."""
    world.edit(models=to("2.0"))
    world.settle()
    assert world.defaults() == ["2.0"] * 3
    return world


def test_a_promoted_version_that_brings_its_container_down_again_and_again_is_taken_back():
    world = kept(serving(3, rollout={"hot": {"keepPrevious": "10m"}}))
    for _ in range(3):
        world.restart("pod-02")
        world.reconcile()
        world.advance(times=12)
        world.reconcile()
    world.settle()
    assert world.defaults() == ["1.0"] * 3
    failure = world.status.models[0].rollout.last_failure
    assert failure is not None
    assert (failure.reason, failure.pod) == ("FailedAfterPromotion", "pod-02")
    assert "came up again 3 times" in failure.message


def test_containers_that_come_up_again_once_each_are_no_reason_to_go_back():
    world = kept(serving(3, rollout={"hot": {"keepPrevious": "10m"}}))
    for name in list(world.pods):
        world.restart(name)
    world.settle()
    assert world.defaults() == ["2.0"] * 3
    assert world.condition("RolledOut") == ("True", "RolledOut")


# ----------------------------------------------------------- what is remembered, and of whom


def test_a_version_beside_that_fails_does_not_change_why_the_models_own_was_taken_back():
    world = serving(2)
    world.bad |= {archive("classifier", "2.0"), archive("classifier", "0.9")}
    world.edit(models=to("2.0"))
    world.settle()
    own = world.status.models[0].rollout.last_failure
    world.wait(60)
    other = {"version": "0.9", "source": {"uri": archive("classifier", "0.9")}}
    world.edit(models=to("2.0", shadow=other))
    world.settle()
    rollout = world.status.models[0].rollout
    assert rollout.last_failure == own
    assert rollout.beside_failure is not None
    assert rollout.beside_failure.time > own.time
    assert "classifier@2.0 was taken back" in world.status.condition("Stalled").message


@pytest.mark.parametrize("going", ["on", "back"])
def test_a_committed_set_that_is_lost_while_no_pod_has_the_old_version_names_it_all_the_same(going):
    world = serving(1, rollout={"hot": {"mode": "Recreate"}})
    world.edit(models=to("2.0"))
    until(world, lambda _: world.phases("2.0") == ["Loading"] and world.phases("1.0") == [None])
    if going == "back":
        world.bad.add(archive("classifier", "2.0"))
    world.committed = None
    plan = world.reconcile()
    assert plan.commit is not None
    assert plan.commit.models[0].default == "1.0"
    assert plan.commit.models[0].versions[0].source.uri == archive("classifier", "1.0")
    world.settle(200)
    assert world.defaults() == ["2.0" if going == "on" else "1.0"]
