"""Short histories that leave an object in each phase, by what it then is for other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from flambeau_operator.errors import FieldProblem
from flambeau_operator.plan.status import refused_status
from flambeau_operator.resources.deployment_status import ModelPhase
from flambeau_operator.resources.observed import ChildrenFacts, Trouble
from tests.builders import archive, model_body
from tests.controlplane.simulated_pods import World

NEW = archive("classifier", "2.0")

Story = Callable[[World], None]


class Health(StrEnum):
    """What an object is, in Argo CD's words."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"


Stories = Mapping[Health, Mapping[str, Story]]


# what helps to tell them


def release(world: World, **spec: Any) -> None:
    world.settle()
    world.edit(models=[model_body(version="2.0")], **spec)


def go_on(world: World, seconds: int) -> None:
    """Let so much time pass, second by second."""
    for _ in range(seconds):
        world.wait(1)
        world.reconcile()
        world.advance()


def until(world: World, phase: ModelPhase) -> None:
    for _ in range(60):
        world.wait(1)
        world.reconcile()
        if world.status.models[0].phase is phase:
            return
        world.advance()
    raise AssertionError(f"never {phase}: {world.status.to_json()}")


# what happens


def _new(world: World) -> None:
    """Nobody has seen it."""


def _starting(world: World) -> None:
    world.reconcile()


def _first_load(world: World) -> None:
    until(world, ModelPhase.LOADING)


def _no_place(world: World) -> None:
    world.reconcile()
    for pod in world.pods.values():
        pod.running = False
        pod.trouble = Trouble("Unschedulable", "0/2 nodes are available: 2 Insufficient memory.")
    world.reconcile()


def _serving(world: World) -> None:
    world.settle()


def _edited(world: World) -> None:
    release(world)


def _rolling(phase: ModelPhase) -> Story:
    def play(world: World) -> None:
        release(world)
        until(world, phase)

    return play


def _promoted(world: World) -> None:
    release(world)
    world.settle()


def _draining(world: World) -> None:
    world.drain_steps = 3
    release(world)
    until(world, ModelPhase.DRAINING)


def _paused(world: World) -> None:
    release(world)
    until(world, ModelPhase.LOADING)
    world.edit(rollout={"paused": True})
    world.reconcile()


def _paused_and_down(world: World) -> None:
    _paused(world)
    for name in list(world.pods):
        world.restart(name)
    world.reconcile()


def _bad(phase: ModelPhase) -> Story:
    def play(world: World) -> None:
        world.bad.add(NEW)
        release(world)
        until(world, phase)
        if phase is ModelPhase.ROLLED_BACK:
            world.settle()

    return play


def _bad_at_once(world: World) -> None:
    world.bad.add(archive("classifier", "1.0"))
    world.settle()


def _failed_later(world: World) -> None:
    world.settle()
    world.bad.add(archive("classifier", "1.0"))
    for name in list(world.pods):
        world.restart(name)
    world.settle()


def _too_slow(world: World) -> None:
    release(world, rollout={"progressDeadline": "5m"})
    until(world, ModelPhase.LOADING)
    world.wait(301)
    world.reconcile()
    world.settle()


def _taken_back_by_hand(world: World) -> None:
    _bad(ModelPhase.ROLLED_BACK)(world)
    world.edit(models=[model_body()])
    world.settle()


def _refused(world: World) -> None:
    world.settle()
    world.edit(replicas=2)
    problem = FieldProblem("spec.models[0].source.uri", "is not an address")
    generation = world.body["metadata"]["generation"]
    world.status = refused_status(world.status, generation, [problem], world.now)


def _reused(world: World) -> None:
    world.settle()
    source = {"uri": archive("classifier", "other"), "digest": f"sha256:{'0' * 64}"}
    world.edit(models=[model_body(source=source)])
    world.settle()


def _template_invalid(world: World) -> None:
    world.settle()
    world.edit(podTemplate={"spec": {"containers": [{"name": "runtime", "command": ["sh"]}]}})
    world.settle()


def _in_the_way(world: World) -> None:
    world.children = ChildrenFacts(conflicts=(f"Deployment {world.body['metadata']['name']}",))
    world.reconcile()


def _forbidden(world: World) -> None:
    world.settle()
    world.children = ChildrenFacts(refusals=(Trouble("Forbidden", "exceeded quota: pods=1"),))
    world.reconcile()


def _left_alone(world: World) -> None:
    world.settle()
    world.annotate(reconcile="disabled")
    world.edit(models=[model_body(version="2.0")])
    world.reconcile()


def _silent(world: World) -> None:
    world.settle()
    for pod in world.pods.values():
        pod.silent = True
    for _ in range(5):
        world.reconcile()


def _pod_lost(world: World) -> None:
    world.settle()
    world.replace("pod-02")
    world.reconcile()


def _another_template(world: World) -> None:
    world.settle()
    world.edit(resources={"requests": {"cpu": "2"}})
    world.reconcile()


def _suspended(world: World) -> None:
    world.settle()
    world.edit(suspend=True)
    world.settle()


def _no_pods_wanted(world: World) -> None:
    world.settle()
    world.edit(replicas=0)
    world.settle()


STORIES: Stories = {
    Health.HEALTHY: {
        "serving": _serving,
        "draining": _draining,
        "promoted": _promoted,
        "back-by-an-edit": _taken_back_by_hand,
    },
    Health.PROGRESSING: {
        "new": _new,
        "edited": _edited,
        "starting": _starting,
        "first-load": _first_load,
        "no-place-for-pods": _no_place,
        "fetching": _rolling(ModelPhase.FETCHING),
        "verifying": _rolling(ModelPhase.VERIFYING),
        "loading": _rolling(ModelPhase.LOADING),
        "warming": _rolling(ModelPhase.WARMING),
        "promoting": _rolling(ModelPhase.PROMOTING),
        "paused-and-down": _paused_and_down,
        "pods-silent": _silent,
        "pod-lost": _pod_lost,
        "pods-rolling": _another_template,
    },
    Health.DEGRADED: {
        "rolling-back": _bad(ModelPhase.ROLLING_BACK),
        "rolled-back": _bad(ModelPhase.ROLLED_BACK),
        "first-version-bad": _bad_at_once,
        "failed-later": _failed_later,
        "too-slow": _too_slow,
        "invalid-spec": _refused,
        "version-reused": _reused,
        "pod-template-invalid": _template_invalid,
        "name-conflict": _in_the_way,
        "forbidden": _forbidden,
        "reconcile-disabled": _left_alone,
    },
    Health.SUSPENDED: {
        "paused": _paused,
        "suspended": _suspended,
        "no-pods-wanted": _no_pods_wanted,
    },
}
