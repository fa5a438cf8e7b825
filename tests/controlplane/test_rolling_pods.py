"""Strategy RollingPods: new pods bring the new version, and no running pod changes its own."""

from __future__ import annotations

import pytest

from flambeau_operator.resources.pod_state import VersionPhase
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.simulated_pods import Conduct, World


def serving(conduct: Conduct | None = None, **rollout: object) -> World:
    """Return three pods at rest, whose next version behaves as told."""
    rules = {"strategy": "RollingPods", "progressDeadline": "1m", **rollout}
    world = World(deployment_body(replicas=3, rollout=rules))
    world.conduct = {archive("classifier", "1.1"): conduct} if conduct else {}
    world.settle()
    return world


def new_version(world: World) -> None:
    world.edit(models=[model_body(version="1.1")])


def test_a_new_version_comes_with_new_pods_alone():
    world = serving()
    old = set(world.pods)
    new_version(world)
    plan = world.reconcile()
    assert plan.commit is not None
    assert plan.commit.models[0].default == "1.1"
    assert not plan.documents
    while old & set(world.pods):
        world.wait(1)
        assert not world.reconcile().documents
        assert {world.pods[name].defaults["classifier"] for name in old & set(world.pods)} <= {
            "1.0"
        }
        world.advance()
    world.settle()
    assert world.defaults() == ["1.1"] * 3
    assert world.condition("RolledOut") == ("True", "RolledOut")
    past = world.status.models[0].history[0]
    assert (past.outcome, past.version, past.from_version, past.mode) == (
        "Promoted",
        "1.1",
        "1.0",
        "RollingPods",
    )


def test_pods_of_a_version_that_is_committed_are_not_rolled_again():
    world = serving()
    pods = set(world.pods)
    for _ in range(5):
        world.wait(300)
        world.reconcile()
        world.advance()
    assert set(world.pods) == pods


@pytest.mark.parametrize(
    ("conduct", "reason"),
    [
        pytest.param(Conduct(fails_in=VersionPhase.LOADING), "RolledBack", id="one that fails"),
        pytest.param(
            Conduct(stays_in=VersionPhase.LOADING), "ProgressDeadlineExceeded", id="or never comes"
        ),
    ],
)
def test_a_bad_version_stops_with_the_first_pod_and_goes_back(conduct, reason):
    world = serving(conduct)
    new_version(world)
    fewest = 3
    for _ in range(100):
        world.wait(1)
        world.reconcile()
        fewest = min(fewest, sum(pod.ready() for pod in world.pods.values()))
        world.advance()
    assert fewest == 2
    assert world.defaults() == ["1.0"] * 3
    assert world.condition("Stalled") == ("True", reason)
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert world.committed_versions() == {"classifier": "1.0"}


def test_paused_it_does_not_begin():
    world = serving(paused=True)
    pods = set(world.pods)
    new_version(world)
    for _ in range(5):
        world.reconcile()
        world.advance()
    assert set(world.pods) == pods
    assert world.committed_versions() == {"classifier": "1.0"}
    assert world.condition("Reconciling") == ("True", "RolloutPaused")


def test_a_new_model_comes_with_new_pods_too():
    world = serving()
    world.edit(models=[model_body(), model_body("detector")])
    assert not world.reconcile().documents
    world.settle(200)
    assert world.defaults("detector") == ["1.0"] * 3
    assert world.condition("RolledOut") == ("True", "RolledOut")
