"""Objects as the operator leaves them in every phase, for other programs to read.

`python -m tests.controlplane.recordings` writes them to `recorded/` anew, one file each. Whether
those programs agree is asked in test_recordings.py and, over an API server, in e2e/test_health.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from flambeau_operator.errors import FieldProblem
from flambeau_operator.plan.status import refused_status
from flambeau_operator.resources.deployment_status import ModelPhase
from flambeau_operator.resources.observed import ChildrenFacts, Trouble
from flambeau_operator.resources.pod_state import VersionPhase
from tests.builders import archive, deployment_body, model_body
from tests.controlplane.simulated_pods import Loaded, World, entry

FOLDER = Path(__file__).parent / "recorded"


class Health(StrEnum):
    """What an object is, in Argo CD's words."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"


Story = Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Recording:
    """An object and what it has to be taken for."""

    name: str
    health: Health
    story: Story

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return FOLDER / f"{self.name}.yaml"

    def play(self) -> dict[str, Any]:
        """Return the object as the code of today leaves it, with its status if it has one."""
        world = World(deployment_body(metadata={"name": self.name}, replicas=2))
        self.story(world)
        body = dict(world.body)
        kept = {key: value for key, value in body["metadata"].items() if key != "uid"}
        told = world.status.to_json() if world.status.observed_generation >= 0 else None
        return {**body, "metadata": kept, **({"status": told} if told else {})}

    def read(self) -> dict[str, Any]:
        """Return the object as it was recorded."""
        recorded: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return recorded

    def write(self) -> None:
        """Record it."""
        text = yaml.safe_dump(self.play(), sort_keys=False, width=110)
        self.file.write_text(f"# Written by tests/controlplane/recordings.py.\n{text}")


# what happens


def _new(world: World) -> None:
    """Nobody has seen it."""


def _starting(world: World) -> None:
    world.reconcile()


def _first_load(world: World) -> None:
    _until(world, ModelPhase.LOADING)


def _no_place(world: World) -> None:
    world.reconcile()
    for pod in world.pods.values():
        pod.running = False
        pod.trouble = Trouble("Unschedulable", "0/2 nodes are available: 2 Insufficient memory.")
    world.reconcile()


def _serving(world: World) -> None:
    world.settle()


def _edited(world: World) -> None:
    _release(world)


def _rolling(phase: ModelPhase) -> Story:
    def play(world: World) -> None:
        _release(world)
        _until(world, phase)

    return play


def _promoted(world: World) -> None:
    _release(world)
    world.settle()


def _draining(world: World) -> None:
    _promoted(world)
    for pod in world.pods.values():
        pod.loaded["classifier", "1.0"] = Loaded(entry("1.0"), VersionPhase.DRAINING)
    world.reconcile()


def _paused(world: World) -> None:
    _release(world)
    _until(world, ModelPhase.LOADING)
    world.edit(rollout={"paused": True})
    world.reconcile()


def _paused_and_down(world: World) -> None:
    _paused(world)
    for name in list(world.pods):
        world.restart(name)
    world.reconcile()


def _bad(phase: ModelPhase) -> Story:
    def play(world: World) -> None:
        world.bad.add(archive("classifier", "2.0"))
        _release(world)
        _until(world, phase)
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
    _release(world, rollout={"progressDeadline": "5m"})
    _until(world, ModelPhase.LOADING)
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


def _release(world: World, **spec: Any) -> None:
    world.settle()
    world.edit(models=[model_body(version="2.0")], **spec)


def _until(world: World, phase: ModelPhase) -> None:
    for _ in range(60):
        world.wait(1)
        world.reconcile()
        if world.status.models[0].phase is phase:
            return
        world.advance()
    raise AssertionError(f"never {phase}: {world.status.to_json()}")


HEALTHY = {
    "serving": _serving,
    "draining": _draining,
    "promoted": _promoted,
    "back-by-an-edit": _taken_back_by_hand,
}
PROGRESSING = {
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
}
DEGRADED = {
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
}
SUSPENDED = {
    "paused": _paused,
    "suspended": _suspended,
    "no-pods-wanted": _no_pods_wanted,
}


def _all() -> Iterator[Recording]:
    tables = zip(Health, (HEALTHY, PROGRESSING, DEGRADED, SUSPENDED), strict=True)
    for health, stories in tables:
        for name, story in stories.items():
            yield Recording(name, health, story)


RECORDINGS = tuple(_all())


def main() -> None:
    """Write every file anew, and remove those that are of nobody."""
    for file in FOLDER.glob("*.yaml"):
        file.unlink()
    for each in RECORDINGS:
        each.write()


if __name__ == "__main__":
    main()
