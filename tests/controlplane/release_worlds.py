"""Worlds in which a release can be followed step by step, for tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau_operator.plan.plan import Plan
from flambeau_operator.resources.deployment_status import ModelPhase, ModelStatus
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.simulated_pods import Conduct, World

STEPS = ({"weight": 5, "pause": "10s"}, {"weight": 50, "pause": "10s"}, {"weight": 100})
ANALYSIS = {
    "minRequests": 50,
    "maxWait": "2m",
    "failOn": {
        "errorRate": {"max": "10%", "maxIncrease": "5%"},
        "workerRestarts": {"max": 0},
    },
}
ERRS = Conduct(errs=0.3)
PASS_EVERY_S = 2


def serving(replicas: int = 3, rate: float = 100.0, models: Any = None, **hot: Any) -> World:
    """Return a world at rest on 1.0, whose next release takes three steps."""
    world = World(deployment_body(*(models or ()), replicas=replicas), rate=rate)
    world.edit(rollout=rollout(**hot))
    return at_rest(world)


def at_rest(world: World) -> World:
    """Let the first versions come to serve, and forget the requests that came before."""
    world.settle()
    world.lost = 0
    world.answered.clear()
    return world


def rollout(*, paused: bool = False, progress_deadline: str = "1h", **hot: Any) -> dict[str, Any]:
    """Return spec.rollout; what is None is left out."""
    told = {"steps": list(STEPS), "analysis": ANALYSIS, **hot}
    told = {key: each for key, each in told.items() if each is not None}
    return {"hot": told, "paused": paused, "progressDeadline": progress_deadline}


def release(
    world: World, version: str = "2.0", conduct: Conduct | None = None, **changes: Any
) -> None:
    """Name another version, which behaves so."""
    if conduct:
        world.conduct[archive("classifier", version)] = conduct
    others = [each for each in world.body["spec"]["models"] if each["name"] != "classifier"]
    world.edit(models=[model_body(version=version, **changes), *others])


def go_on(world: World, passes: int = 1) -> list[ModelPhase]:
    """Make passes and let the pods work; returns the phases of the classifier after each."""
    phases = []
    for _ in range(passes):
        world.wait(PASS_EVERY_S)
        world.reconcile()
        phases.append(classifier(world).phase)
        world.advance()
    return phases


def until(world: World, holds: Callable[[World], object], passes: int = 200) -> list[ModelPhase]:
    """Go on until something holds; returns the phases on the way, each once in a row."""
    seen: list[ModelPhase] = []
    for _ in range(passes):
        if holds(world):
            return seen
        phase = go_on(world)[0]
        seen += [] if seen and seen[-1] is phase else [phase]
    raise AssertionError(f"it never came to that, after {seen}: {world.status.to_json()}")


def in_phase(phase: ModelPhase, step: int | None = None) -> Callable[[World], bool]:
    """Tell of a world whether the classifier is there."""

    def holds(world: World) -> bool:
        status, generation = classifier(world), world.body["metadata"]["generation"]
        seen = world.status.observed_generation == generation
        return seen and status.phase is phase and (step is None or status.rollout.step == step)

    return holds


def classifier(world: World) -> ModelStatus:
    """Return what is known of the model that the tables are about."""
    return world.status.model("classifier")


def told_of(plan: Plan, version: str) -> set[str]:
    """Return the pods whose documents of a pass ask for a version of the classifier."""
    return {
        pod
        for pod, document in plan.documents.items()
        for model in document.models
        if model.version(version)
    }
