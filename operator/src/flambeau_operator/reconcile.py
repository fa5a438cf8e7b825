"""One pass: read, observe, plan, carry out, report.

Level-triggered: a pass knows only what it reads, so one that dies half-way is finished by the next.
The order is the fence (a status that raises the sequence, before documents that carry it) and the
safety net (the committed set, before any pod that boots from it or is told the same).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from flambeau_operator import snapshot
from flambeau_operator.doors import (
    Cluster,
    Key,
    Outcome,
    Pod,
    Ref,
    Result,
    RuntimeClient,
    Watched,
)
from flambeau_operator.errors import Conflict, DoorFault, InvalidSpec
from flambeau_operator.plan.plan import Plan, make_plan
from flambeau_operator.plan.status import refused_status
from flambeau_operator.resources.deployment_status import status_from_json
from flambeau_operator.resources.model_deployment import ModelDeployment, parse
from flambeau_operator.resources.observed import Snapshot
from flambeau_operator.resources.pod_state import Document

log = logging.getLogger(__name__)

LONG_POLL_S: Final = 10.0
INVALID_LOOK_AGAIN_S: Final = 300.0


class Reconciler:
    """Carries out what `plan` decides; every failure is collected, none thrown across.

    Args:
        cluster: the door to the objects.
        runtimes: the door to the pods.
        clock: the wall clock, for what people read in a status.
    """

    def __init__(
        self, cluster: Cluster, runtimes: RuntimeClient, clock: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._runtimes = runtimes
        self._clock = clock
        self._silences: dict[Key, dict[str, int]] = {}  # per pod uid, passes in a row

    async def reconcile(self, key: Key) -> Result:
        """Make one pass over one object."""
        try:
            return await self._pass(key)
        except DoorFault as fault:
            # What cannot be read or fenced ends the pass; everything else was collected below.
            level = logging.INFO if isinstance(fault, Conflict) else logging.WARNING
            log.log(level, "pass ended early", extra={"key": str(key), "error": str(fault)})
            return Result(0, failures=(Outcome("pass", str(key), str(fault)),))

    async def wait_for_change(self, watched: Sequence[Watched]) -> None:
        """Return when one of these pods has another revision than the one seen, or falls silent."""
        polls = [asyncio.create_task(self._changed(each)) for each in watched]
        try:
            await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)

    async def _pass(self, key: Key) -> Result:
        body = await self._cluster.read_deployment(key)
        ref = None if body is None else _ref(key, body)
        if body is None or ref is None:
            self._silences.pop(key, None)
            return Result(0, gone=True)
        try:
            deployment = parse(body)
        except InvalidSpec as error:
            return await self._refuse(ref, body, error)
        facts, pods = await snapshot.take(
            self._cluster, self._runtimes, ref, self._silences.get(key, {})
        )
        self._silences[key] = {pod.uid: pod.silent_passes for pod in facts.pods}
        plan = make_plan(deployment, facts, self._clock())
        outcomes = await self._carry_out(ref, deployment, plan, pods)
        failures = tuple(outcome for outcome in outcomes if outcome.failed)
        for outcome in failures:
            log.warning(
                "action failed",
                extra={"key": str(key), "action": outcome.action, "target": outcome.target}
                | {"error": outcome.error},
            )
        watch = _watched(pods, facts) if plan.watch_pods else ()
        return Result(plan.look_again_s, watch, failures)

    async def _refuse(self, ref: Ref, body: Mapping[str, Any], error: InvalidSpec) -> Result:
        """Say what is wrong with an object that some door let in, and leave its pods alone."""
        before = status_from_json(body.get("status"))
        generation = int(body["metadata"].get("generation", 0))
        status = refused_status(before, generation, error.problems, self._clock())
        if status != before:
            await self._cluster.write_status(ref, status)
        return Result(INVALID_LOOK_AGAIN_S)

    async def _carry_out(
        self, ref: Ref, deployment: ModelDeployment, plan: Plan, pods: Sequence[Pod]
    ) -> tuple[Outcome, ...]:
        """Do what was decided.

        Raises:
            Conflict: the object changed meanwhile; nothing after that point was done.
            Unavailable: the status could not be written, and without the fence nothing else may be.
        """
        if plan.status != deployment.status:
            version = await self._cluster.write_status(ref, plan.status)
            ref = Ref(ref.key, ref.uid, version)
        outcomes: list[Outcome] = []
        if plan.commit is not None:
            work = self._cluster.commit(ref, plan.commit)
            outcomes.append(await _outcome("commit", str(ref.key), work))
        uncommitted = any(outcome.failed for outcome in outcomes)
        outcomes += await self._apply_children(ref, plan)
        if not uncommitted:
            outcomes += await self._put_documents(plan.documents, pods)
        if plan.events:
            work = self._cluster.emit(ref, plan.events)
            outcomes.append(await _outcome("emit", str(ref.key), work))
        return tuple(outcomes)

    async def _apply_children(self, ref: Ref, plan: Plan) -> tuple[Outcome, ...]:
        if not plan.applies:
            return ()
        try:
            return await self._cluster.apply_children(ref, plan.children)
        except Conflict:
            raise
        except DoorFault as fault:
            return (Outcome("apply children", str(ref.key), str(fault)),)

    async def _put_documents(
        self, documents: Mapping[str, Document], pods: Sequence[Pod]
    ) -> list[Outcome]:
        """PUT to all at the same time; which pods may change together was the plan's decision."""
        async with asyncio.TaskGroup() as tasks:
            puts = [
                tasks.create_task(self._put(pod, documents[pod.name]))
                for pod in pods
                if pod.name in documents
            ]
        return [put.result() for put in puts]

    async def _put(self, pod: Pod, document: Document) -> Outcome:
        return await _outcome("put state", pod.name, self._runtimes.put_state(pod, document))

    async def _changed(self, watched: Watched) -> None:
        try:
            while True:
                state = await self._runtimes.get_state(
                    watched.pod, after=watched.revision, wait_s=LONG_POLL_S
                )
                if state.revision != watched.revision:
                    return
        except DoorFault:
            return  # that it is silent now is news as well


async def _outcome(action: str, target: str, work: Awaitable[None]) -> Outcome:
    """Wait for one action and say how it went; a conflict is not an outcome, it ends the pass."""
    try:
        await work
    except Conflict:
        raise
    except DoorFault as fault:
        return Outcome(action, target, str(fault))
    return Outcome(action, target)


def _ref(key: Key, body: Mapping[str, object]) -> Ref | None:
    """Return what identifies this object as read; None when it is being deleted."""
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping) or metadata.get("deletionTimestamp"):
        return None
    return Ref(key, str(metadata.get("uid", "")), str(metadata.get("resourceVersion", "")))


def _watched(pods: Sequence[Pod], facts: Snapshot) -> tuple[Watched, ...]:
    """Return the pods that spoke, with the revision that was seen."""
    return tuple(
        Watched(pod, fact.state.revision)
        for pod, fact in zip(pods, facts.pods, strict=True)
        if fact.state is not None
    )
