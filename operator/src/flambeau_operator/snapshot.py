"""Gathers the facts of a pass: the pods, what each says of itself, and the committed set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from flambeau_operator.doors import Cluster, Pod, Ref, RuntimeClient
from flambeau_operator.errors import DoorFault
from flambeau_operator.resources.observed import PodFacts, Snapshot
from flambeau_operator.resources.pod_state import PodState

log = logging.getLogger(__name__)


async def take(
    cluster: Cluster, runtimes: RuntimeClient, ref: Ref, silences: Mapping[str, int]
) -> tuple[Snapshot, tuple[Pod, ...]]:
    """Observe the pods of one object, all at the same time.

    Args:
        cluster: where the pods and the committed set are.
        runtimes: answers for the pods.
        ref: whose pods.
        silences: per pod uid, how many passes before this one it was silent in a row.

    Returns:
        The facts, and the pods they are about, in the same order.

    Raises:
        Unavailable: the cluster does not say which pods there are. A silent pod is a fact instead.
    """
    pods = await cluster.list_pods(ref)
    committed = await cluster.read_committed(ref)
    children = await cluster.read_children(ref)
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(_state(runtimes, ref, pod)) for pod in pods]
    facts = tuple(
        _facts(pod, asked.result(), silences.get(pod.uid, 0), is_asked(ref, pod))
        for pod, asked in zip(pods, asking, strict=True)
    )
    return Snapshot(pods=facts, committed=committed, children=children), pods


def is_asked(ref: Ref, pod: Pod) -> bool:
    """Return whether this pod should answer to us: it runs, it stays, and it is ours."""
    return pod.running and not pod.terminating and pod.owner_uid == ref.uid and bool(pod.address)


async def _state(runtimes: RuntimeClient, ref: Ref, pod: Pod) -> PodState | None:
    """Return what a pod says of itself; None when it says nothing we can use."""
    if not is_asked(ref, pod):
        return None
    try:
        return await runtimes.get_state(pod)
    except DoorFault as fault:
        log.info("pod is silent", extra={"pod": pod.name, "why": str(fault)})
        return None


def _facts(pod: Pod, state: PodState | None, silent_before: int, asked: bool) -> PodFacts:
    return PodFacts(
        name=pod.name,
        uid=pod.uid,
        owner_uid=pod.owner_uid,
        template_hash=pod.template_hash,
        running=pod.running,
        terminating=pod.terminating,
        restarts=pod.restarts,
        started_at=pod.started_at,
        address=pod.address,
        state=state,
        probed_ready=pod.ready,
        trouble=pod.trouble,
        silent_passes=silent_before + 1 if asked and state is None else 0,
    )
