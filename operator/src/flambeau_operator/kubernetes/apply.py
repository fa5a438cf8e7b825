"""Brings the children of one ModelDeployment about, each by server-side apply.

What is foreign is never touched, what is as it should be is not written, and every write carries
the uid and the resourceVersion that were read: an object that changed meanwhile refuses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flambeau_operator import names
from flambeau_operator.doors import Outcome
from flambeau_operator.errors import Conflict, DoorFault, Rejected, Unavailable
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.children import Surroundings
from flambeau_operator.kubernetes.client import Api, Object
from flambeau_operator.kubernetes.drift import APPLIED, projected, stamped
from flambeau_operator.kubernetes.kinds import Kind
from flambeau_operator.plan.children import Children
from flambeau_operator.plan.handover import replica_steps
from flambeau_operator.plan.manifests import make_manifests, obsolete
from flambeau_operator.plan.ownership import Verdict, applicable
from flambeau_operator.plan.site import OwnerRef, Site
from flambeau_operator.resources.observed import Trouble

log = logging.getLogger(__name__)

TRIES: Final = 4  # a Deployment that rolls changes under our hands all the time
KIND_BY_NAME: Final = {each.kind: each for each in kinds.CHILDREN}
# These two wait for what they need; the others go at the same time.
IN_ORDER: Final = ("Deployment", "HorizontalPodAutoscaler")


@dataclass(slots=True)
class Memory:
    """What the applying of one object's children has to remember; nothing of it is missed."""

    wanted: frozenset[Kind] = frozenset(
        {kinds.SERVICE_ACCOUNTS, kinds.SERVICES, kinds.CONFIG_MAPS, kinds.DEPLOYMENTS}
    )
    refusals: dict[str, Trouble] = field(default_factory=dict)  # by kind
    # By kind, what the API server makes of a manifest: "0.5" becomes "500m".
    settled: dict[str, tuple[str, Any]] = field(default_factory=dict)


class Applier:
    """Applies the children of one ModelDeployment once.

    Args:
        api: the API server.
        site: this installation of the operator.
        memory: of this ModelDeployment.
        fence: called before the first write; raises Conflict when the owner is gone.
    """

    def __init__(
        self, api: Api, site: Site, memory: Memory, fence: Callable[[], Awaitable[None]]
    ) -> None:
        self._api = api
        self._site = site
        self._memory = memory
        self._fence = fence
        self._fenced = False

    async def apply(self, seen: Surroundings, wish: Children) -> tuple[Outcome, ...]:
        """Make, change and remove what the wish says, as far as it is ours."""
        live = seen.live()
        owner = OwnerRef(seen.key.namespace, seen.key.name, seen.owner_uid)
        manifests = make_manifests(owner, wish, self._site, live)
        unwanted = {KIND_BY_NAME[kind] for _, kind in obsolete(wish)}
        self._memory.wanted = frozenset(
            {kinds.CONFIG_MAPS, *(KIND_BY_NAME[each["kind"]] for each in manifests)}
        )
        allowed = applicable(manifests, seen.withheld() | _too_early(seen))
        outcomes = [await self._remove(seen, kind) for kind in kinds.CHILDREN if kind in unwanted]
        outcomes.append(await self._hand_over(seen, replica_steps(wish, live).hand_over))
        outcomes += await self._apply_all(seen, allowed)
        outcomes += [
            # A failure, so that it is looked at again: nobody tells when a stranger leaves.
            Outcome(f"apply {kind.kind}", seen.key.name, "there is one that is not ours")
            for kind in self._memory.wanted
            if seen.verdict(kind) in {Verdict.FOREIGN, Verdict.OLDER_UID}
        ]
        self._forget_refusals(allowed)
        return tuple(each for each in outcomes if each is not None)

    async def _apply_all(
        self, seen: Surroundings, manifests: Sequence[Mapping[str, Any]]
    ) -> list[Outcome]:
        """Apply what depends on nothing at once, then the rest in order."""
        async with asyncio.TaskGroup() as tasks:
            first = [
                tasks.create_task(self._apply_one(seen, each))
                for each in manifests
                if each["kind"] not in IN_ORDER
            ]
        outcomes = [task.result() for task in first]
        for each in manifests:
            if each["kind"] in IN_ORDER:
                outcomes.append(await self._apply_one(seen, each))  # noqa: PERF401  it awaits
        return outcomes

    async def _apply_one(self, seen: Surroundings, manifest: Mapping[str, Any]) -> Outcome:
        kind = KIND_BY_NAME[manifest["kind"]]
        action, wanted = f"apply {kind.kind}", stamped(manifest)
        try:
            await self._until_applied(seen, kind, wanted)
        except Rejected as rejected:
            self._memory.refusals[kind.kind] = Trouble(
                rejected.reason, f"{kind.kind} {seen.key.name}: {rejected.message}"
            )
            return Outcome(action, seen.key.name, str(rejected))
        except _OwnerGone:
            raise
        except DoorFault as fault:
            return Outcome(action, seen.key.name, str(fault))
        self._memory.refusals.pop(kind.kind, None)
        return Outcome(action, seen.key.name)

    async def _until_applied(
        self, seen: Surroundings, kind: Kind, wanted: Mapping[str, Any]
    ) -> None:
        """Apply, and read again when the object changed between reading and writing."""
        live = seen.objects.get(kind)
        path = kind.path(seen.key.namespace, seen.key.name)
        for left in reversed(range(TRIES)):
            if live is not None and self._is_settled(kind, live, wanted):
                return
            await self._once_fenced()
            try:
                got = await self._api.apply(path, _fenced(wanted, live))
            except Conflict:
                if not left:
                    raise
                live = await self._api.get(path)
                again = replace(seen, objects=_with(seen.objects, kind, live))
                if again.verdict(kind) not in {Verdict.OURS, Verdict.FREE}:
                    raise
                continue
            self._memory.settled[kind.kind] = _settlement(got, wanted)
            log.info("applied", extra={"kind": kind.kind, "key": str(seen.key)})
            return

    def _is_settled(self, kind: Kind, live: Object, wanted: Mapping[str, Any]) -> bool:
        """Whether applying would change nothing."""
        stamp, there = _settlement(live, wanted)
        if stamp != wanted["metadata"]["annotations"][APPLIED]:
            return False
        return bool(there == wanted or (stamp, there) == self._memory.settled.get(kind.kind))

    async def _remove(self, seen: Surroundings, kind: Kind) -> Outcome | None:
        """Delete an optional child that should not be there, if it is ours."""
        found = seen.objects.get(kind)
        if found is None or seen.verdict(kind) is not Verdict.OURS:
            return None
        if "deletionTimestamp" in found["metadata"]:
            return None
        action = f"delete {kind.kind}"
        try:
            await self._once_fenced()
            path = kind.path(seen.key.namespace, seen.key.name)
            await self._api.delete(path, found["metadata"]["uid"])
        except _OwnerGone:
            raise
        except DoorFault as fault:
            return Outcome(action, seen.key.name, str(fault))
        return Outcome(action, seen.key.name)

    async def _hand_over(self, seen: Surroundings, replicas: int | None) -> Outcome | None:
        """Let another manager hold the number of pods, before ours lets go of it."""
        live = seen.objects.get(kinds.DEPLOYMENTS)
        if replicas is None or live is None:
            return None
        kind = kinds.DEPLOYMENTS
        manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {
                "name": seen.key.name,
                "namespace": seen.key.namespace,
                "uid": live["metadata"]["uid"],
            },
            "spec": {"replicas": replicas},
        }
        path = kind.path(seen.key.namespace, seen.key.name)
        try:
            await self._once_fenced()
            await self._api.apply(path, manifest, manager=names.HANDOVER_MANAGER)
        except _OwnerGone:
            raise
        except DoorFault as fault:
            # Without it the number would fall to one: the Deployment waits for the next pass.
            raise Unavailable(f"replicas cannot be handed over: {fault}") from fault
        return Outcome("hand replicas over", seen.key.name)

    def _forget_refusals(self, allowed: Sequence[Mapping[str, Any]]) -> None:
        tried = {each["kind"] for each in allowed}
        for kind in set(self._memory.refusals) - tried:
            del self._memory.refusals[kind]

    async def _once_fenced(self) -> None:
        if self._fenced:
            return
        try:
            await self._fence()
        except Conflict as conflict:
            raise _OwnerGone(str(conflict)) from conflict
        self._fenced = True


class _OwnerGone(Conflict):
    """The ModelDeployment was deleted or made anew: unlike a child's conflict, it ends the pass."""


def _fenced(wanted: Mapping[str, Any], live: Object | None) -> Mapping[str, Any]:
    """Add what was read of the object, so that another one refuses the manifest."""
    if live is None:
        return wanted
    read = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
    return {**wanted, "metadata": {**wanted["metadata"], **read}}


def _settlement(live: Object, wanted: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the stamp on an object, and what it says where a manifest speaks."""
    stamp = live["metadata"].get("annotations", {}).get(APPLIED, "")
    return stamp, projected(live, wanted)


def _too_early(seen: Surroundings) -> frozenset[str]:
    """Return the kinds that wait until there is something to boot from."""
    if seen.objects.get(kinds.CONFIG_MAPS) or seen.objects.get(kinds.DEPLOYMENTS):
        return frozenset()
    return frozenset(IN_ORDER)


def _with(objects: Mapping[Kind, Object], kind: Kind, live: Object | None) -> dict[Kind, Object]:
    others = {each: body for each, body in objects.items() if each is not kind}
    return others if live is None else {**others, kind: live}
