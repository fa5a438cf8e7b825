"""Brings the children of one ModelDeployment about, each by server-side apply.

What is foreign is never touched, what is as it should be is not written, and every write carries
the uid and the resourceVersion that were read: an object that changed meanwhile refuses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flambeau_operator import names
from flambeau_operator.doors import Outcome
from flambeau_operator.errors import Conflict, DoorFault, Rejected, Unavailable
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.children import Surroundings
from flambeau_operator.kubernetes.client import Api, Object
from flambeau_operator.kubernetes.drift import APPLIED, Manifest, projected, stamped
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
MAY_BE_WRITTEN: Final = frozenset({Verdict.OURS, Verdict.FREE})
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

    async def apply(self, seen: Surroundings, wish: Children) -> tuple[Outcome, ...]:
        """Make, change and remove what the wish says, as far as it is ours.

        Raises:
            Conflict: the owner is gone.
            Unavailable: the API server does not say whether it is, or the number of pods could not
                be handed over.
        """
        live = seen.live()
        owner = OwnerRef(seen.key.namespace, seen.key.name, seen.owner_uid)
        manifests = make_manifests(owner, wish, self._site, live)
        self._memory.wanted = frozenset(
            {kinds.CONFIG_MAPS, *(KIND_BY_NAME[each["kind"]] for each in manifests)}
        )
        allowed = applicable(manifests, seen.withheld() | _too_early(seen))
        stale = [each for each in map(stamped, allowed) if not self._is_settled(seen, each)]
        self._forget_refusals({each["kind"] for each in stale})
        superfluous = _superfluous(seen, wish)
        replicas = replica_steps(wish, live).hand_over
        outcomes = []
        if stale or superfluous or replicas is not None:
            await self._fence()
            outcomes += [await self._remove(seen, kind) for kind in superfluous]
            outcomes += await self._hand_over(seen, replicas)
            outcomes += await self._apply_all(seen, stale)
        return (*outcomes, *self._left_alone(seen))

    async def _apply_all(self, seen: Surroundings, manifests: Sequence[Manifest]) -> list[Outcome]:
        """Apply what depends on nothing at once, then the rest in order."""
        async with asyncio.TaskGroup() as tasks:
            first = [
                tasks.create_task(self._apply_one(seen, each))
                for each in manifests
                if each["kind"] not in IN_ORDER
            ]
        then = [each for each in manifests if each["kind"] in IN_ORDER]
        return [
            *(task.result() for task in first),
            *[await self._apply_one(seen, each) for each in then],
        ]

    async def _apply_one(self, seen: Surroundings, wanted: Manifest) -> Outcome:
        kind = KIND_BY_NAME[wanted["kind"]]
        action, name = f"apply {kind.kind}", seen.key.name
        try:
            await self._until_applied(seen, kind, wanted)
        except Rejected as rejected:
            said = f"{kind.kind} {name}: {rejected.message}"
            self._memory.refusals[kind.kind] = Trouble(rejected.reason, said)
            return Outcome(action, name, str(rejected))
        except DoorFault as fault:
            return Outcome(action, name, str(fault))
        self._memory.refusals.pop(kind.kind, None)
        log.info("applied", extra={"kind": kind.kind, "key": str(seen.key)})
        return Outcome(action, name)

    async def _until_applied(self, seen: Surroundings, kind: Kind, wanted: Manifest) -> None:
        """Apply, and read again when the object changed between reading and writing."""
        path, live = kind.path(seen.key.namespace, seen.key.name), seen.objects.get(kind)
        tries = 0
        while True:
            tries += 1
            try:
                got = await self._api.apply(path, _fenced(wanted, live))
            except Conflict:
                live = await self._api.get(path)
                again = replace(seen, objects=_with(seen.objects, kind, live))
                if tries == TRIES or again.verdict(kind) not in MAY_BE_WRITTEN:
                    raise
            else:
                self._memory.settled[kind.kind] = _settlement(got, wanted)
                return

    def _is_settled(self, seen: Surroundings, wanted: Manifest) -> bool:
        """Whether applying would change nothing."""
        live = seen.objects.get(KIND_BY_NAME[wanted["kind"]])
        if live is None:
            return False
        stamp, there = _settlement(live, wanted)
        if stamp != wanted["metadata"]["annotations"][APPLIED]:
            return False
        return bool(there == wanted or (stamp, there) == self._memory.settled.get(wanted["kind"]))

    async def _remove(self, seen: Surroundings, kind: Kind) -> Outcome:
        action, name = f"delete {kind.kind}", seen.key.name
        try:
            path = kind.path(seen.key.namespace, name)
            await self._api.delete(path, seen.objects[kind]["metadata"]["uid"])
        except DoorFault as fault:
            return Outcome(action, name, str(fault))
        return Outcome(action, name)

    async def _hand_over(self, seen: Surroundings, replicas: int | None) -> list[Outcome]:
        """Let another manager hold the number of pods, before ours lets go of it."""
        kind, live = kinds.DEPLOYMENTS, seen.objects.get(kinds.DEPLOYMENTS)
        if replicas is None or live is None:
            return []
        about = {
            "name": seen.key.name,
            "namespace": seen.key.namespace,
            "uid": live["metadata"]["uid"],
        }
        manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": about,
            "spec": {"replicas": replicas},
        }
        path = kind.path(seen.key.namespace, seen.key.name)
        try:
            got = await self._api.apply(path, manifest, manager=names.HANDOVER_MANAGER)
        except DoorFault as fault:
            # Without it the number would fall to one: the Deployment waits for the next pass.
            raise Unavailable(f"replicas cannot be handed over: {fault}") from fault
        seen.objects[kind] = got
        return [Outcome("hand replicas over", seen.key.name)]

    def _forget_refusals(self, stale: Collection[str]) -> None:
        """What is not tried again was refused for a wish that is no more."""
        for kind in set(self._memory.refusals) - set(stale):
            del self._memory.refusals[kind]

    def _left_alone(self, seen: Surroundings) -> Iterator[Outcome]:
        """Yield a failure for each stranger, so that it is looked at again.

        Nobody tells when a stranger leaves: it has none of our labels.
        """
        for kind in kinds.CHILDREN:
            if kind in self._memory.wanted and seen.verdict(kind) not in MAY_BE_WRITTEN:
                why = "there is one that is not ours"
                yield Outcome(f"apply {kind.kind}", seen.key.name, why)


def _superfluous(seen: Surroundings, wish: Children) -> list[Kind]:
    """Return the optional kinds whose object is there, is ours, and should not be."""
    unwanted = {kind for _, kind in obsolete(wish)}
    return [
        kind
        for kind, found in seen.objects.items()
        if kind.kind in unwanted
        and seen.verdict(kind) is Verdict.OURS
        and "deletionTimestamp" not in found["metadata"]
    ]


def _fenced(wanted: Manifest, live: Object | None) -> Manifest:
    """Add what was read of the object, so that another one refuses the manifest."""
    if live is None:
        return wanted
    read = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
    return {**wanted, "metadata": {**wanted["metadata"], **read}}


def _settlement(live: Object, wanted: Manifest) -> tuple[str, Any]:
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
