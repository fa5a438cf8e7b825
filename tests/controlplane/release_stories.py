"""Short histories of releases: steps, analysis, ways in, splits."""

from __future__ import annotations

from typing import Any

from flambeau_operator.resources.deployment_status import ModelPhase
from tests.builders import model_body
from tests.controlplane.simulated_pods import World
from tests.controlplane.simulated_runtime import MIB, Conduct
from tests.controlplane.stories import NEW, Health, Stories, go_on, release, until

STEPS = [{"weight": 5, "pause": "1m"}, {"weight": 50, "pause": "1m"}, {"weight": 100}]
ANALYSIS = {"minRequests": 50, "maxWait": "5m", "failOn": {"errorRate": {"max": "5%"}}}
RATE = 50.0  # requests per second


def _previous_kept(world: World) -> None:
    release(world, rollout={"hot": {"keepPrevious": "10m"}})
    world.settle()


def _canary(world: World) -> None:
    """In the first of three steps, after half of its pause."""
    world.rate = RATE
    release(world, rollout={"hot": {"steps": STEPS, "analysis": ANALYSIS}})
    until(world, ModelPhase.CANARY)
    go_on(world, 30)


def _second_step(world: World) -> None:
    _canary(world)
    go_on(world, 60)


def _canary_paused(world: World) -> None:
    _canary(world)
    world.edit(rollout={**world.body["spec"]["rollout"], "paused": True})
    go_on(world, 1)


def _undecided(world: World) -> None:
    """Nobody asks, and nothing can be told."""
    release(world, rollout={"hot": {"steps": STEPS, "analysis": ANALYSIS}})
    until(world, ModelPhase.CANARY)
    go_on(world, 330)


def _failed_analysis(world: World) -> None:
    world.conduct[NEW] = Conduct(errs=0.5)
    _canary(world)
    world.settle()


def _aborted(world: World) -> None:
    _canary(world)
    world.annotate(abort=world.status.models[0].rollout.spec_hash or "")
    go_on(world, 5)


def _brought_pods_down(world: World) -> None:
    world.conduct[NEW] = Conduct(kills_pod=True)
    world.rate = RATE
    release(world, rollout={"hot": {"steps": STEPS}})
    go_on(world, 60)


def _fails_after_promotion(world: World) -> None:
    _previous_kept(world)
    world.pods["pod-01"].give_up("classifier", "2.0")
    go_on(world, 5)


def _no_room(world: World) -> None:
    world.limit_bytes = 150 * MIB
    release(world, rollout={"hot": {"mode": "SideBySide"}})
    go_on(world, 3)


def _one_after_the_other(world: World) -> None:
    """The first pod has left the Service, and loads the new version."""
    world.limit_bytes = 150 * MIB
    release(world)
    go_on(world, 4)


def _worker_by_worker(world: World) -> None:
    world.body = {**world.body, "spec": {**world.body["spec"], "models": [_two_workers("1.0")]}}
    world.limit_bytes = 250 * MIB
    world.settle()
    world.edit(models=[_two_workers("2.0")])
    go_on(world, 6)


def _two_workers(version: str) -> dict[str, Any]:
    return model_body(version=version, workers={"min": 2})


def _by_new_pods(world: World) -> None:
    release(world, rollout={"strategy": "RollingPods"})
    go_on(world, 3)


def _by_bad_new_pods(world: World) -> None:
    world.bad.add(NEW)
    release(world, rollout={"strategy": "RollingPods", "progressDeadline": "1m"})
    go_on(world, 90)


def _split_comes_in(world: World) -> None:
    world.settle()
    world.edit(models=[model_body(split=_split())])
    go_on(world, 3)


def _split_serves(world: World) -> None:
    _split_comes_in(world)
    world.settle()


def _split_refused(world: World) -> None:
    world.bad.add(NEW)
    _split_comes_in(world)
    world.settle()


def _split() -> dict[str, Any]:
    return {"versions": [{"version": "2.0", "weight": 20, "source": {"uri": NEW}}]}


RELEASES: Stories = {
    Health.HEALTHY: {
        "previous-kept": _previous_kept,
        "split-serves": _split_serves,
    },
    Health.PROGRESSING: {
        "canary": _canary,
        "canary-second-step": _second_step,
        "one-after-the-other": _one_after_the_other,
        "worker-by-worker": _worker_by_worker,
        "by-new-pods": _by_new_pods,
        "split-comes-in": _split_comes_in,
    },
    Health.DEGRADED: {
        "analysis-failed": _failed_analysis,
        "aborted": _aborted,
        "brought-pods-down": _brought_pods_down,
        "failed-after-promotion": _fails_after_promotion,
        "no-room": _no_room,
        "by-bad-new-pods": _by_bad_new_pods,
        "split-refused": _split_refused,
    },
    Health.SUSPENDED: {
        "canary-paused": _canary_paused,
        "undecided": _undecided,
    },
}
