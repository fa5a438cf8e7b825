"""What the status says of the pods' surroundings, and what they keep from being done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flambeau_operator.resources.observed import Autoscaler, ChildrenFacts, Trouble
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.simulated_pods import SimulatedPod, World

NO_ROOM = Trouble("Unschedulable", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
NO_IMAGE = Trouble("ImagePullBackOff", 'Back-off pulling image "nowhere/x"')
CRASHING = Trouble("CrashLoopBackOff", "container runtime: back-off 10s; last exit code 1")
DISABLED = {"reconcile": "disabled"}
HPA = {"hpa": {"min": 2, "max": 9}}


def serving(replicas: int = 2, *models: dict, **spec: Any) -> World:
    """Return a world at rest."""
    world = World(deployment_body(*models, replicas=replicas, **spec))
    world.settle()
    return world


def conditions(world: World) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in world.status.conditions}


def message(world: World, type_: str) -> str:
    found = world.status.condition(type_)
    assert found is not None
    return found.message


def add_pending(world: World, trouble: Trouble | None = NO_ROOM, template: str = "") -> str:
    """Let the cluster make a pod that does not run."""
    template = template or next(iter(world.pods.values())).template_hash
    name = f"pending-{len(world.pods)}"
    world.pods[name] = SimulatedPod(name, template, running=False, trouble=trouble)
    return name


# --------------------------------------------------------------------------- pods that do not run


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        pytest.param(NO_ROOM, "Unschedulable", id="no place for it"),
        pytest.param(NO_IMAGE, "ImagePullBackOff", id="no image for it"),
        pytest.param(CRASHING, "CrashLoopBackOff", id="it dies again and again"),
    ],
)
def test_a_missing_pod_is_told_in_the_clusters_words(trouble, reason):
    world = serving(3)
    world.pods.popitem()
    name = add_pending(world, trouble)
    plan = world.reconcile()
    seen = conditions(world)
    assert seen["PodsAvailable"] == ("False", reason)
    assert seen["Ready"] == ("True", "AllModelsServing")
    assert "Stalled" not in seen
    assert message(world, "PodsAvailable") == (
        f"2 of 3 pods are ready; pod {name}: {trouble.reason}: {trouble.message}"
    )
    (issue,) = world.status.pod_issues
    assert (issue.pod, issue.reason, issue.message) == (name, trouble.reason, trouble.message)
    assert (plan.documents, plan.commit) == ({}, None), "nothing else changes"


def test_when_no_pod_runs_ready_says_why_none_does():
    world = World(deployment_body(replicas=2))
    world.reconcile()
    for pod in world.pods.values():
        pod.running, pod.trouble = False, NO_ROOM
    world.reconcile()
    assert conditions(world)["Ready"] == ("False", "Unschedulable")
    assert message(world, "Ready") == (
        f"no pod has answered yet; pod pod-01, pod-02: Unschedulable: {NO_ROOM.message}"
    )


def test_that_there_is_no_place_goes_before_every_other_cause():
    world = serving(1)
    add_pending(world, CRASHING)
    add_pending(world, NO_ROOM)
    world.edit(replicas=3)
    world.reconcile()
    assert conditions(world)["PodsAvailable"] == ("False", "Unschedulable")


def test_a_pod_in_a_crash_loop_is_one_issue():
    world = serving(2)
    pod = world.pods["pod-01"]
    pod.running, pod.restarts, pod.trouble = False, 4, CRASHING
    world.reconcile()
    assert [each.reason for each in world.status.pod_issues] == ["CrashLoopBackOff"]


def test_a_pod_that_leaves_has_no_issue():
    world = serving(2)
    name = add_pending(world)
    world.pods[name].terminating = True
    world.reconcile()
    assert world.status.pod_issues == ()


# ------------------------------------------------------------------------- while a Deployment rolls


def test_a_new_template_without_a_place_changes_nothing_for_the_pods_that_serve():
    world = serving(2)
    world.edit(resources={"limits": {"nvidia.com/gpu": 1}})
    plan = world.plan()
    name = add_pending(world, NO_ROOM, plan.children.template.template_hash)
    plan = world.plan()
    world.status = plan.status
    seen = conditions(world)
    assert (plan.documents, plan.commit) == ({}, None)
    assert seen["Ready"] == ("True", "AllModelsServing")
    assert seen["PodsAvailable"] == ("True", "PodsAvailable")
    assert seen["RolledOut"] == ("False", "PodsNotReady")
    assert message(world, "Reconciling") == (
        f"2 pods are to be replaced; pod {name}: Unschedulable: {NO_ROOM.message}"
    )


def test_a_version_waits_for_the_roll_of_the_pods_and_says_what_holds_it():
    world = serving(2)
    world.edit(models=[model_body(version="2.0")], resources={"limits": {"cpu": 1}})
    add_pending(world, NO_ROOM, world.plan().children.template.template_hash)
    plan = world.plan()
    world.status = plan.status
    assert plan.documents == {}
    assert conditions(world)["Reconciling"] == ("True", "RolloutInProgress")
    assert NO_ROOM.message in message(world, "Reconciling")


def test_it_is_not_rolled_out_while_pods_of_an_older_template_are_left():
    world = serving(2)
    world.children = ChildrenFacts(rolling=True)
    world.reconcile()
    assert conditions(world)["RolledOut"] == ("False", "PodsNotReady")
    world.children = ChildrenFacts(rolling=False)
    world.reconcile()
    assert conditions(world)["RolledOut"] == ("True", "RolledOut")


def roll(world: World, template: str) -> bool:
    """Take one step of a rolling Deployment with one pod more than wanted; False: nothing to do."""
    old = [pod for pod in world.pods.values() if pod.template_hash != template]
    new = [pod for pod in world.pods.values() if pod.template_hash == template]
    if not old:
        return False
    if all(pod.ready() for pod in new) and len(new) > 2 - len(old):
        del world.pods[old[0].name]
    elif len(world.pods) < 3:
        world.born += 1
        pod = SimulatedPod(f"pod-{world.born:02}", template)
        pod.boot(world.committed)
        world.pods[pod.name] = pod
    return True


def test_a_new_template_and_a_new_version_at_once_never_leave_a_pod_without_a_version():
    """One pod more than wanted while it rolls; every new one boots what is proven, then joins."""
    world = serving(2)
    world.edit(models=[model_body(version="2.0")], runtime={"config": {"a": "1"}})
    rolled_out = []
    for _ in range(80):
        world.wait(1)
        plan = world.plan()
        template = plan.children.template.template_hash
        old_left = any(pod.template_hash != template for pod in world.pods.values())
        plan = replace(plan, applies=False)  # the pods are replaced below, one step at a time
        world.carry_out(plan)
        rolled_out.append(world.condition("RolledOut") == ("True", "RolledOut"))
        assert not (rolled_out[-1] and old_left)
        assert sum(pod.ready() for pod in world.pods.values()) >= 2
        roll(world, template)
        world.advance()
    assert rolled_out[-1]
    assert world.defaults() == ["2.0", "2.0"]


# ------------------------------------------------------------------------------------ autoscaled


def test_an_autoscaled_deployment_wants_as_many_pods_as_are_asked_for():
    world = World(deployment_body(autoscaling=HPA))
    assert world.plan().children.replicas == 2
    world.children = ChildrenFacts(replicas=0)
    assert world.plan().children.replicas == 2, "an autoscaler does not begin from none"
    world.children = ChildrenFacts(replicas=4)
    world.settle()
    assert (world.status.replicas, world.status.workers) == (4, "4/4")
    world.children = ChildrenFacts(replicas=5)
    world.reconcile()
    world.reconcile()
    assert conditions(world)["PodsAvailable"] == ("False", "PodsNotReady")


def test_a_pod_that_an_autoscaler_adds_during_a_rollout_boots_the_old_version_and_then_joins():
    world = World(deployment_body(autoscaling=HPA), children=ChildrenFacts(replicas=2))
    world.settle()
    world.edit(models=[model_body(version="2.0")])
    while world.phases("2.0") != ["Ready", None]:
        world.reconcile()
        world.advance()
    world.children = ChildrenFacts(replicas=3)
    plan = world.reconcile()
    assert len(world.pods) == 3
    assert plan.commit is None
    assert world.committed_versions() == {"classifier": "1.0"}
    world.settle()
    assert world.defaults() == ["2.0"] * 3
    assert world.condition("RolledOut") == ("True", "RolledOut")


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        pytest.param(
            Autoscaler(True, "ValidMetricFound", "it counts"),
            ("True", "ValidMetricFound"),
            id="it works",
        ),
        pytest.param(
            Autoscaler(False, "FailedGetResourceMetric", "no metrics"),
            ("False", "FailedGetResourceMetric"),
            id="it does not",
        ),
        pytest.param(None, ("Unknown", "AutoscalerSilent"), id="it has said nothing yet"),
    ],
)
def test_the_autoscalers_own_words_are_repeated(said, seen):
    world = World(deployment_body(autoscaling=HPA), children=ChildrenFacts(autoscaler=said))
    world.settle()
    assert conditions(world)["AutoscalingActive"] == seen
    assert conditions(world)["Ready"] == ("True", "AllModelsServing")


def test_without_an_autoscaler_there_is_nothing_to_say_of_one():
    assert "AutoscalingActive" not in conditions(serving())


# --------------------------------------------------------------------------- what is in the way


@pytest.mark.parametrize(
    ("conflict", "ready"),
    [
        pytest.param(
            "Service vision",
            ("False", "NameConflict"),
            id="a foreign Service: who asks there asks somebody else",
        ),
        pytest.param(
            "ConfigMap vision-models",
            ("True", "AllModelsServing"),
            id="a foreign ConfigMap: what serves goes on",
        ),
        pytest.param(
            "Deployment vision",
            ("True", "AllModelsServing"),
            id="a foreign Deployment: what serves goes on",
        ),
    ],
)
def test_a_foreign_object_is_named_with_the_ways_out(conflict, ready):
    world = serving(2)
    world.children = ChildrenFacts(conflicts=(conflict,))
    world.reconcile()
    seen = conditions(world)
    assert seen["Stalled"] == ("True", "NameConflict")
    assert "Reconciling" not in seen
    assert seen["Ready"] == ready
    assert conflict in message(world, "Stalled")
    assert "serving.flambeau.dev/adopt=true" in message(world, "Stalled")


def test_without_a_committed_set_of_ours_no_version_comes_in():
    world = serving(2)
    world.children = ChildrenFacts(conflicts=("ConfigMap vision-models",))
    world.edit(models=[model_body(version="2.0")])
    for _ in range(10):
        plan = world.reconcile()
        assert (plan.documents, plan.commit) == ({}, None)
        world.advance()
    assert world.defaults() == ["1.0", "1.0"]
    assert conditions(world)["RolledOut"] == ("False", "NameConflict")
    world.children = ChildrenFacts()
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_the_address_of_somebody_elses_service_is_not_passed_off_as_ours():
    world = serving(1)
    world.children = ChildrenFacts(url="http://vision.default.svc")
    world.reconcile()
    assert world.status.url == "http://vision.default.svc"
    world.children = ChildrenFacts(conflicts=("Service vision",))
    world.reconcile()
    assert world.status.url is None


def test_a_child_that_is_refused_stalls_with_the_servers_words():
    world = serving(1)
    said = 'Deployment vision: pods "vision" is forbidden: exceeded quota'
    world.children = ChildrenFacts(refusals=(Trouble("Forbidden", said),))
    world.reconcile()
    assert conditions(world)["Stalled"] == ("True", "Forbidden")
    assert message(world, "Stalled") == said


def test_fields_without_effect_are_named_and_everything_else_goes_on():
    world = World(
        deployment_body(),
        children=ChildrenFacts(unsupported=("spec.a has no effect", "spec.b has no effect")),
    )
    world.settle()
    seen = conditions(world)
    assert seen["Unsupported"] == ("True", "FieldsWithoutEffect")
    assert message(world, "Unsupported") == "spec.a has no effect; spec.b has no effect"
    assert (seen["Ready"][0], seen["RolledOut"][0]) == ("True", "True")


# ---------------------------------------------------------------------- a patch that cannot be


def test_a_pod_template_that_cannot_be_stalls_and_touches_nothing():
    world = serving(2)
    world.edit(
        podTemplate={"spec": {"containers": [{"name": "runtime", "args": ["--x"]}]}},
        models=[model_body(version="2.0")],
        replicas=3,
    )
    plan = world.reconcile()
    assert (plan.applies, plan.documents, plan.commit) == (False, {}, None)
    assert conditions(world)["Stalled"] == ("True", "PodTemplateInvalid")
    assert "spec.podTemplate.spec.containers[0].args" in message(world, "Stalled")
    assert conditions(world)["Ready"] == ("True", "AllModelsServing")
    world.edit(podTemplate={})
    world.settle()
    assert world.defaults() == ["2.0"] * 3


# ------------------------------------------------------------------------- observe, and no more


def test_while_reconciling_is_disabled_nothing_is_changed_and_the_status_says_so():
    world = serving(2)
    world.annotate(**DISABLED)
    world.edit(models=[model_body(version="2.0")], replicas=3)
    for _ in range(5):
        plan = world.reconcile()
        assert (plan.applies, plan.documents, plan.commit) == (False, {}, None)
        world.advance()
    seen = conditions(world)
    assert world.defaults() == ["1.0", "1.0"]
    assert seen["ReconcileDisabled"] == ("True", "ReconcileDisabled")
    assert seen["Stalled"] == ("True", "ReconcileDisabled")
    assert seen["RolledOut"] == ("False", "ReconcileDisabled")
    assert seen["Ready"] == ("True", "AllModelsServing")
    world.annotate()
    world.settle()
    assert world.defaults() == ["2.0"] * 3
    assert "ReconcileDisabled" not in conditions(world)


def test_a_rollout_that_is_frozen_by_the_annotation_goes_on_where_it_was():
    world = serving(2)
    world.edit(models=[model_body(version="2.0")])
    while world.phases("2.0")[0] != "Ready":
        world.reconcile()
        world.advance()
    world.annotate(**DISABLED)
    for _ in range(5):
        assert world.reconcile().documents == {}
        world.advance()
    assert world.phases("2.0") == ["Ready", None], "what runs is left as it is"
    world.annotate()
    world.settle()
    assert world.defaults() == ["2.0", "2.0"]


def test_what_already_is_as_wished_is_not_called_stalled_for_being_only_observed():
    world = serving(2)
    world.annotate(**DISABLED)
    world.reconcile()
    seen = conditions(world)
    assert "Stalled" not in seen
    assert seen["RolledOut"] == ("True", "RolledOut")
    assert seen["ReconcileDisabled"][0] == "True"


def test_a_suspension_that_may_not_be_carried_out_is_not_called_one():
    world = serving(2)
    world.annotate(**DISABLED)
    world.edit(suspend=True)
    world.reconcile()
    assert "Suspended" not in conditions(world)
    assert len(world.pods) == 2


# ------------------------------------------------------------------------------------- suspended


def test_a_suspension_forgets_neither_what_served_nor_what_failed():
    world = serving(2)
    world.bad.add(archive("classifier", "2.0"))
    world.edit(models=[model_body(version="2.0")])
    world.settle()
    before = world.status.models[0]
    assert before.rollout.failed_hash
    world.edit(suspend=True)
    world.settle()
    kept = world.status.models[0]
    assert conditions(world) == {"Suspended": ("True", "Suspended")}
    assert (kept.active_version, kept.rollout.failed_hash) == ("1.0", before.rollout.failed_hash)
    assert world.pods == {}
    world.edit(suspend=False)
    world.settle()
    assert world.defaults() == ["1.0", "1.0"]
    assert world.condition("Stalled") == ("True", "RolledBack")
