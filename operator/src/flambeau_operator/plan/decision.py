"""What can become of a candidate, and what that is decided from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from flambeau_operator.plan import canary as steps
from flambeau_operator.plan.canary import Canary
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.joining import is_member
from flambeau_operator.plan.standing import Standing
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.deployment_status import LastFailure
from flambeau_operator.resources.pod_state import ModelEntry, Swap
from flambeau_operator.resources.quantities import share_of
from flambeau_operator.resources.rollout import Rollout


class Act(StrEnum):
    """What a pass does with the candidate."""

    HOLD = "hold"
    JOIN = "join"
    COMMIT = "commit"
    ROLL_PODS = "roll pods"  # committed for the pods to come; those that run keep what they have
    ROLL_BACK = "roll back"
    REVERT = "revert"  # it was promoted, and the version before it is still there


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to the one model that rolls."""

    standing: Standing
    act: Act
    members: frozenset[str] = frozenset()  # the pods whose document names the candidate
    proven: int = 0  # how many of them have it ready
    since: datetime | None = None  # no progress since then; None while the clock stands still
    failure: LastFailure | None = None
    held_by: tuple[str, ...] = field(default=())  # silent pods that keep it from going on
    canary: Canary | None = None  # the step that is being taken
    mode: Swap = Swap.SIDE_BY_SIDE
    mode_reason: str = ""
    came_up: tuple[str, ...] = ()  # processes that started again where the candidate was
    retold: frozenset[str] = frozenset()  # pods that are told, even if it is the same again
    held: str = ""  # what a person is waited for
    blocked: tuple[Reason, str] | None = None  # what keeps it from coming in at all


@dataclass(frozen=True, slots=True)
class Scene:
    """What a decision is made from."""

    standing: Standing
    fleet: Fleet
    committed: Sequence[ModelEntry]
    rules: Rollout
    pods_wanted: int
    now: datetime

    @property
    def members(self) -> list[Reporter]:
        """The pods that have the candidate in their document."""
        return [pod for pod in self.fleet.reporters if is_member(pod, self.standing)]

    @property
    def proven(self) -> list[Reporter]:
        """Those of them where it is ready."""
        name, target = self.standing.name, self.standing.target
        return [pod for pod in self.members if pod.serves(name, target)]

    @property
    def everywhere(self) -> bool:
        """Whether every pod has it ready, and none is silent or about to be replaced."""
        return self.fleet.settled and len(self.proven) == len(self.fleet.present)

    @property
    def same(self) -> bool:
        """Whether the memory in the status is of this candidate."""
        return self.standing.before.rollout.spec_hash == self.standing.hash

    @property
    def allowed(self) -> int:
        """How many pods may change at the same time."""
        return share_of(self.rules.in_pods.max_unavailable_pods, self.pods_wanted)


def step_before(scene: Scene) -> Canary | None:
    """Return the step that was being taken, for its numbers."""
    before, hot = scene.standing.before.rollout, scene.rules.in_pods
    if not scene.same or before.step is None or not hot.steps:
        return None
    index = min(before.step, len(hot.steps) - 1)
    return replace(steps.enter(scene.standing, hot.steps, index, hot), analysis=before.analysis)
