"""How long a change of a spec takes to reach a pod.

It begins before the PATCH is sent to the API server, and ends when the first pod writes into its
log that it has accepted a document. All of it is on one machine and read from one clock.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from e2e.flambeau import Tenant

from bench.operator_cost.api import Api
from bench.operator_cost.operator_pod import logged

ACCEPTED = "document accepted"
# Live changes, each of which is another document: what a pod does with it begins after our watch.
EDITS = (
    {"batching": {"maxSize": 8}},
    {"workers": {"min": 2}},
    {"batching": {"maxSize": 4}},
    {"workers": {"min": 1}},
)


@dataclass(frozen=True, slots=True)
class Reaction:
    """One change, in milliseconds from before the PATCH was sent."""

    taken_ms: float  # the API server has answered it
    accepted_ms: float  # the first pod has accepted a document


def measure(tenant: Tenant, api: Api, changes: int, said: Callable[[str], None]) -> list[Reaction]:
    """Change the ModelDeployment `echo` so many times, each time from rest."""
    path = (
        f"/apis/serving.flambeau.dev/v1alpha1/namespaces/{tenant.namespace}/modeldeployments/echo"
    )
    moments = []
    for number in range(changes):
        body = _edited(api.get(path)["spec"], EDITS[number % len(EDITS)])
        begin = datetime.now(UTC)
        generation = api.patch(path, body)["metadata"]["generation"]
        taken = datetime.now(UTC)
        moments.append((begin, taken))
        _until_at_rest(api, path, generation)
        # Not in step with anything that comes round by itself.
        time.sleep(random.uniform(0.3, 1.3))  # noqa: S311  no secret
        if not (number + 1) % 10:
            said(f"{number + 1} of {changes} changes")
    accepted = sorted(_accepted(tenant))
    return list(_matched(moments, accepted))


def _edited(spec: dict[str, Any], edit: dict[str, Any]) -> dict[str, Any]:
    # A merge patch replaces lists.
    return {"spec": {"models": [{**spec["models"][0], **edit}]}}


def _until_at_rest(api: Api, path: str, generation: int, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not is_at_rest(found := api.get(path)["status"], generation):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not rolled out within {within_s:g} s: {found}")
        time.sleep(0.2)


def is_at_rest(status: dict[str, Any], generation: int) -> bool:
    """Whether everything that this generation wants is there."""
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    return (
        status.get("observedGeneration") == generation
        and conditions.get("RolledOut") == "True"
        and "Reconciling" not in conditions
    )


def _accepted(tenant: Tenant) -> Iterator[datetime]:
    for pod in tenant.pods():
        text = tenant.kubectl("logs", pod["metadata"]["name"], "--container=runtime")
        for line in logged(text, ACCEPTED):
            if not line["boot"]:
                yield datetime.fromisoformat(line["time"])


def _matched(
    moments: list[tuple[datetime, datetime]], accepted: list[datetime]
) -> Iterator[Reaction]:
    """Yield for each change what came first after it, and before the next one."""
    ends = [begin for begin, _ in moments[1:]] + [datetime.max.replace(tzinfo=UTC)]
    for (begin, taken), end in zip(moments, ends, strict=True):
        first = next((each for each in accepted if begin <= each < end), None)
        if first is None:
            raise RuntimeError(f"no pod accepted anything for the change of {begin.isoformat()}")
        yield Reaction(_ms(begin, taken), _ms(begin, first))


def _ms(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds() * 1000
