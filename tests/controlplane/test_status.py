"""What the status says, as kstatus and people read it."""

from __future__ import annotations

import pytest

from flambeau_operator.errors import FieldProblem
from flambeau_operator.plan.status import refused_status
from flambeau_operator.resources.pod_state import Failure
from tests.builders import archive, at, deployment_body, model_body
from tests.controlplane.simulated_pods import World


def serving(replicas: int = 2, *models: dict, **spec) -> World:
    """Return a world at rest."""
    world = World(deployment_body(*models, replicas=replicas, **spec))
    world.settle()
    return world


def conditions(world: World) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in world.status.conditions}


def test_at_rest_it_is_ready_and_rolled_out_and_nothing_else_is_going_on():
    assert conditions(serving()) == {
        "Ready": ("True", "AllModelsServing"),
        "RolledOut": ("True", "RolledOut"),
        "ModelsReady": ("True", "AllModelsServing"),
        "PodsAvailable": ("True", "PodsAvailable"),
    }


def test_before_any_pod_answers_it_is_reconciling_and_not_ready():
    world = World(deployment_body(replicas=2))
    world.reconcile()
    assert conditions(world) == {
        "Ready": ("False", "PodsStarting"),
        "RolledOut": ("False", "Applying"),
        "Reconciling": ("True", "Applying"),
        "ModelsReady": ("False", "ModelsNotReady"),
        "PodsAvailable": ("False", "PodsNotReady"),
    }


def test_while_models_load_it_is_reconciling_and_not_ready():
    world = World(deployment_body(replicas=2))
    for _ in range(3):
        world.reconcile()
        world.advance()
    assert world.condition("Ready") == ("False", "ModelsNotReady")
    assert world.condition("Reconciling") == ("True", "PodsNotReady")
    ready = world.status.condition("Ready")
    assert ready is not None
    assert ready.message == "classifier@1.0 is ready in 0 of 2 pods"


def test_during_a_rollout_it_is_ready_by_the_old_version_and_says_how_far_the_new_one_is():
    world = serving()
    world.edit(models=[model_body(version="2.0")])
    for _ in range(7):
        world.reconcile()
        world.advance()
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.condition("RolledOut") == ("False", "RolloutInProgress")
    assert world.condition("ModelsReady") == ("True", "AllModelsServing")
    reconciling = world.status.condition("Reconciling")
    assert reconciling is not None
    assert reconciling.message == "classifier 1.0→2.0: ready in 1 of 2 pods"
    assert world.status.summary == "classifier@1.0→2.0"


def test_it_is_not_rolled_out_before_every_wanted_pod_is_there():
    world = serving(1)
    world.edit(replicas=2)
    rolled_out = world.plan().status.condition("RolledOut")
    assert rolled_out is not None
    assert (rolled_out.status, rolled_out.reason) == ("False", "PodsNotReady")


def test_it_is_not_rolled_out_before_every_wanted_worker_is_there():
    world = serving(2, model_body(workers={"min": 1}))
    world.edit(models=[model_body(workers={"min": 3})])
    world.reconcile()
    for pod in world.pods.values():
        pod.workers_to_come = 2
    for _ in range(3):
        world.reconcile()
        world.advance()
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.condition("RolledOut") == ("False", "ModelsNotReady")
    reconciling = world.status.condition("Reconciling")
    assert reconciling is not None
    assert reconciling.message == "classifier@1.0 has 2 of 6 workers"
    assert world.plan().watch_pods, "nobody would see them come"
    for pod in world.pods.values():
        pod.workers_to_come = 0
    world.settle()
    assert (world.status.workers, world.condition("RolledOut")) == ("6/6", ("True", "RolledOut"))


def test_one_pod_of_two_keeps_it_ready_while_the_other_is_away():
    world = serving()
    world.replace("pod-02")
    world.reconcile()
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.condition("PodsAvailable") == ("False", "PodsNotReady")
    assert world.condition("RolledOut") == ("False", "PodsNotReady")


def test_readiness_never_latches():
    world = serving(1)
    world.restart("pod-01")
    world.reconcile()
    assert world.condition("Ready") == ("False", "ModelsNotReady")


def test_a_pod_that_misses_credentials_has_the_secret_named():
    source = {"uri": "s3://models/a.mar", "credentials": "s3-read"}
    world = serving(
        2,
        model_body(source=source),
        credentials=[{"name": "s3-read", "secretRef": {"name": "model-keys"}}],
    )
    world.bad.add("s3://models/a.mar")
    for name, pod in world.pods.items():
        pod.failure = Failure("CredentialsMissing", "credentials s3-read: there is no folder")
        world.restart(name)
    world.settle()
    stalled = world.status.condition("Stalled")
    assert stalled is not None
    assert stalled.reason == "CredentialsMissing"
    assert "Secret model-keys is missing" in stalled.message
    assert "credentials s3-read: there is no folder" in stalled.message


def test_a_model_that_fails_after_it_served_is_told_with_pod_and_reason():
    world = serving(1)
    world.bad.add(archive("classifier", "1.0"))
    world.restart("pod-01")
    world.settle()
    assert world.condition("Stalled") == ("True", "InitializeFailed")
    stalled = world.status.condition("Stalled")
    assert stalled is not None
    assert stalled.message == "classifier@1.0 failed in pod pod-01: boom"
    issue = world.status.pod_issues[0]
    assert (issue.pod, issue.reason) == ("pod-01", "InitializeFailed")


def test_a_pod_that_was_just_started_is_not_called_silent():
    world = World(deployment_body(replicas=2))
    world.reconcile()
    for pod in world.pods.values():
        pod.silent, pod.started_at = True, world.now
    for _ in range(5):
        world.wait(5)
        world.reconcile()
    assert world.condition("Reconciling") == ("True", "PodsStarting")
    assert world.status.pod_issues == ()
    world.wait(5)
    world.reconcile()
    assert world.condition("Reconciling") == ("True", "ManagementUnreachable")


def test_a_pod_that_does_not_stay_up_is_named():
    world = serving(2)
    world.pods["pod-02"].running, world.pods["pod-02"].restarts = False, 4
    world.reconcile()
    assert [(each.pod, each.reason) for each in world.status.pod_issues] == [
        ("pod-02", "PodRestarting")
    ]
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.condition("PodsAvailable") == ("False", "PodsNotReady")


def test_at_most_ten_pods_are_named_as_issues_and_never_a_healthy_one():
    world = serving(12)
    assert world.status.pod_issues == ()
    for pod in world.pods.values():
        pod.silent = True
    for _ in range(3):
        world.reconcile()
    assert len(world.status.pod_issues) == 10


def test_a_transition_time_moves_only_when_the_status_flips():
    world = serving()
    before = world.status.condition("Ready")
    world.wait(1000)
    world.edit(models=[model_body(version="2.0")])
    world.reconcile()
    after, rolled_out = (world.status.condition(each) for each in ("Ready", "RolledOut"))
    assert before is not None
    assert after is not None
    assert rolled_out is not None
    assert after.last_transition_time == before.last_transition_time
    assert rolled_out.last_transition_time == world.now


def test_every_condition_names_the_generation_it_speaks_of():
    world = serving()
    world.edit(replicas=3)
    world.reconcile()
    assert world.status.observed_generation == 2
    assert {each.observed_generation for each in world.status.conditions} == {2}


def test_the_counts_say_what_is_there_of_what_is_wanted():
    world = serving(2, model_body(workers={"min": 3}))
    status = world.status
    assert (status.replicas, status.ready_replicas, status.workers) == (2, 2, "6/6")
    model = status.models[0]
    assert (model.ready_pods, model.ready_workers, model.weight) == (2, 6, 100)
    assert model.resolved is not None
    assert model.resolved.bytes == 1000


def test_a_status_at_rest_is_the_same_bytes_from_pass_to_pass():
    world = serving()
    written = world.status.model_dump_json()
    for _ in range(3):
        world.wait(12_345)
        assert world.reconcile().status.model_dump_json() == written


def test_at_rest_it_looks_again_in_minutes_and_while_something_moves_it_watches_the_pods():
    world = serving()
    plan = world.reconcile()
    assert (plan.look_again_s, plan.watch_pods) == (300.0, False)
    world.edit(models=[model_body(version="2.0")])
    plan = world.reconcile()
    assert plan.look_again_s <= 5.0
    assert plan.watch_pods


def test_what_happens_is_told_once():
    world = World(deployment_body(replicas=2), bad={archive("classifier", "3.0")})
    told = []
    for version in ("1.0", "2.0", "3.0", "2.0"):
        world.edit(models=[model_body(version=version)])
        for _ in range(25):
            told += [(each.type, each.reason) for each in world.reconcile().events]
            world.advance()
    assert told == [
        ("Normal", "Serving"),
        ("Normal", "RolloutStarted"),
        ("Normal", "Serving"),
        ("Normal", "RolloutStarted"),
        ("Warning", "RolledBack"),
    ]


def test_the_events_of_a_pause_without_pods():
    world = serving()
    world.edit(suspend=True)
    told = [each.reason for each in world.reconcile().events]
    world.edit(suspend=False)
    told += [each.reason for each in world.reconcile().events]
    assert told == ["Suspended", "Resumed"]


def test_the_phases_of_a_rollout_follow_the_pods():
    world = serving(1)
    world.edit(models=[model_body(version="2.0")])
    seen = []
    for _ in range(14):
        world.reconcile()
        phase = str(world.status.models[0].phase)
        seen += [phase] if seen[-1:] != [phase] else []
        world.advance()
    assert seen == [
        "Pending",
        "Fetching",
        "Verifying",
        "Loading",
        "Warming",
        "Promoting",
        "Serving",
    ]


def test_the_weight_never_falls_on_the_way_to_all_requests():
    steps = [{"weight": 5, "pause": "1s"}, {"weight": 50, "pause": "1s"}, {"weight": 100}]
    world = serving(2, rollout={"hot": {"steps": steps}})
    world.edit(models=[model_body(version="2.0")])
    seen = []
    for _ in range(40):
        world.reconcile()
        weight = world.status.models[0].weight
        seen += [weight] if seen[-1:] != [weight] else []
        world.wait(1)
        world.advance()
    assert seen == [0, 5, 50, 100]


def test_an_object_that_cannot_be_parsed_is_stalled_and_keeps_what_was_true():
    world = serving()
    problem = FieldProblem("spec.models[0].worker", "unknown field", "workers")
    status = refused_status(world.status, 7, [problem], at(500))
    kinds = {each.type: each.status for each in status.conditions}
    assert kinds["Ready"] == "True"
    assert (kinds["RolledOut"], kinds["Stalled"]) == ("False", "True")
    assert "Reconciling" not in kinds
    assert status.models == world.status.models
    assert status.observed_generation == 7
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert stalled.message == "spec.models[0].worker: unknown field, did you mean 'workers'?"
    assert refused_status(status, 7, [problem], at(900)) == status


@pytest.mark.parametrize("replicas", [0, 1, 3])
def test_the_children_are_the_same_whatever_the_models_are(replicas):
    one = serving(replicas).plan().children
    other = serving(replicas, model_body(version="9.9", workers={"min": 2})).plan().children
    assert one == other, "a change of models must not start pods anew"


def test_another_runtime_config_is_another_template():
    one, other = serving().plan().children, serving(runtime={"config": {"a": "1"}}).plan().children
    assert one.template.template_hash != other.template.template_hash
