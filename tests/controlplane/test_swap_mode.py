"""How a candidate gets into the pods: by the memory that was measured there."""

from __future__ import annotations

import pytest

from flambeau_operator.resources.pod_state import Failure, VersionPhase
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.simulated_pods import Conduct, World

MIB = 2**20


def a_world(
    *, replicas: int = 2, workers: int = 1, mode: str = "Auto", limit: int | None = None
) -> World:
    """Return pods at rest, each of whose workers holds 100 MiB of the limit."""
    body = deployment_body(
        model_body(workers={"min": workers}), replicas=replicas, rollout={"hot": {"mode": mode}}
    )
    world = World(body, limit_bytes=limit and limit * MIB, drain_steps=1)
    world.settle()
    return world


def edited(world: World) -> World:
    workers = world.body["spec"]["models"][0]["workers"]
    world.edit(models=[model_body(version="1.1", workers=workers)])
    world.reconcile()
    return world


@pytest.mark.parametrize(
    ("about", "mode", "why"),
    [
        pytest.param({}, "SideBySide", "nothing was measured", id="unmeasured: both at once"),
        pytest.param({"limit": 1000}, "SideBySide", "900 MiB are free", id="room: both at once"),
        pytest.param(
            {"limit": 190},
            "Recreate",
            "needs 110 MiB, 90 MiB in pod-01 are free",
            id="no room, one worker: one version after the other",
        ),
        pytest.param(
            {"limit": 500, "workers": 4},
            "WorkerByWorker",
            "needs 440 MiB, 100 MiB",
            id="no room, several workers: one by one",
        ),
        pytest.param(
            {"limit": 1000, "mode": "Recreate"}, "Recreate", "the spec says so", id="as asked for"
        ),
    ],
)
def test_the_way_in_follows_from_what_is_free(about, mode, why):
    world = edited(a_world(**about))
    rollout = world.status.models[0].rollout
    assert rollout.mode == mode
    assert why in rollout.mode_reason
    world.settle(200)
    assert set(world.defaults()) == {"1.1"}


@pytest.mark.parametrize(
    ("about", "remedy"),
    [
        pytest.param({"replicas": 1}, "a second replica", id="alone, a gap must be asked for"),
        pytest.param({"mode": "SideBySide"}, "no room", id="and what was asked for must fit"),
    ],
)
def test_what_does_not_fit_stalls_and_says_what_to_do(about, remedy):
    world = edited(a_world(limit=190, **about))
    world.settle()
    stalled = world.status.condition("Stalled")
    assert stalled is not None
    assert stalled.reason == "InsufficientMemory"
    assert remedy in stalled.message
    assert set(world.defaults()) == {"1.0"}
    assert world.condition("Ready") == ("True", "AllModelsServing")
    assert set(world.phases("1.1")) == {None}


def test_alone_it_goes_with_a_gap_where_that_is_asked_for():
    world = edited(a_world(replicas=1, limit=190, mode="Recreate"))
    world.settle(200)
    assert world.defaults() == ["1.1"]


@pytest.mark.parametrize("reason", ["OutOfMemory", "InsufficientMemory"])
def test_what_turns_out_not_to_fit_comes_in_a_smaller_way(reason):
    world = a_world(workers=2)
    too_big = Failure(reason, "300 MiB are wanted, 100 MiB are free")
    world.conduct = {
        archive("classifier", "1.1"): Conduct(fails_in=VersionPhase.LOADING, failure=too_big)
    }
    edited(world)
    for _ in range(30):
        world.wait(1)
        world.reconcile()
        if world.status.models[0].rollout.mode == "WorkerByWorker":
            break
        world.advance()
    rollout = world.status.models[0].rollout
    assert "it did not fit beside the old version" in rollout.mode_reason
    assert rollout.failed_hash is None
    world.conduct = {}
    world.settle(200)
    assert set(world.defaults()) == {"1.1"}


def test_what_fits_in_no_way_is_taken_back():
    world = a_world(workers=2)
    too_big = Failure("OutOfMemory", "a worker was killed")
    world.conduct = {
        archive("classifier", "1.1"): Conduct(fails_in=VersionPhase.LOADING, failure=too_big)
    }
    edited(world).settle(200)
    assert world.condition("Stalled") == ("True", "RolledBack")
    assert set(world.defaults()) == {"1.0"}
