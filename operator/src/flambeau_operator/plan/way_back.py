"""The way back from a version that was promoted, as long as the one before is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from flambeau_operator.plan.decision import Act, Decision
from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.plan.taking_back import failure_in
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.deployment_status import LastFailure

MOST_REBOOTS: Final = 2
"""How often a container may come up again with a version in it before that is blamed for it."""


def kept_version(standing: Standing) -> str | None:
    """Return the version that was replaced last, if it is kept for a way back."""
    rollout, known = standing.before.rollout, standing.committed
    name = rollout.previous_version if rollout.promoted_at else None
    if name is None or known is None or name == known.default or not known.version(name):
        return None
    return name


def revert(standing: Standing, fleet: Fleet, now: datetime) -> Decision | None:
    """Go back to the version that is still kept, when the promoted one fails in a pod."""
    previous = kept_version(standing)
    active = standing.active
    if standing.kind is not Kind.SETTLED or previous is None or active is None:
        return None
    broken = next((pod for pod in fleet.reporters if pod.failed(standing.name, active)), None)
    told = failure_in(broken, standing, now) if broken else _brought_down(standing, fleet, now)
    if told is None:
        return None
    failure = told.model_copy(
        update={
            "reason": str(Reason.FAILED_AFTER_PROMOTION),
            "message": f"{told.reason}: {told.message}",
        }
    )
    return Decision(standing, Act.REVERT, failure=failure)


def came_up_since(standing: Standing, fleet: Fleet) -> tuple[str, ...]:
    """Return the processes that came up again with a promoted version, while a way back is kept."""
    if kept_version(standing) is None or standing.active is None:
        return ()
    again = [
        pod
        for pod in fleet.reporters
        if pod.state.cautious and pod.facts.restarts and pod.asked(standing.name, standing.active)
    ]
    return known_by_pod(standing.before.rollout.came_up, again)


def _brought_down(standing: Standing, fleet: Fleet, now: datetime) -> LastFailure | None:
    """Return the failure of a version whose container comes up again and again in one pod."""
    pods = Counter(each.partition("/")[0] for each in came_up_since(standing, fleet))
    pod, times = next(iter(pods.most_common(1)), ("", 0))
    if times <= MOST_REBOOTS:
        return None
    said = f"its container came up again {times} times since the promotion"
    return LastFailure(reason=str(Reason.BROUGHT_POD_DOWN), message=said, pod=pod, time=now)


def known_by_pod(known: Sequence[str], again: Sequence[Reporter]) -> tuple[str, ...]:
    """Return the processes known so far and those of these pods, as `POD/PROCESS`."""
    return tuple(sorted({*known, *(f"{pod.name}/{pod.state.process_id}" for pod in again)}))
