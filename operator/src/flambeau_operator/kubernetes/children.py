"""What stands around the pods of one ModelDeployment, as the API server has it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flambeau_operator import names
from flambeau_operator.doors import Key
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Api, Object
from flambeau_operator.kubernetes.kinds import Kind
from flambeau_operator.plan.ownership import Verdict, conflict_name, may_take
from flambeau_operator.plan.site import Live
from flambeau_operator.resources.observed import Autoscaler, ChildrenFacts, Trouble

HTTP_PORT: Final = 80


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Every object that has the name of a child, whoever owns it."""

    key: Key
    owner_uid: str
    adopt: bool  # may take over what an owner who is gone has left
    objects: dict[Kind, Object]  # those that exist

    def verdict(self, kind: Kind) -> Verdict:
        """Return whose the object of this kind is."""
        found = self.objects.get(kind)
        return may_take(found["metadata"] if found else None, self.owner_uid, adopt=self.adopt)

    def ours(self, kind: Kind) -> Object | None:
        """Return the object of this kind if it is ours or may become so."""
        found = self.objects.get(kind)
        usable = self.verdict(kind) in {Verdict.OURS, Verdict.FREE}
        return found if usable else None

    def foreign(self, wanted: Collection[Kind]) -> tuple[str, ...]:
        """Name what belongs to somebody else, of these kinds."""
        return tuple(
            conflict_name(each.kind, name_of(each, self.key.name))
            for each in wanted
            if self.verdict(each) is Verdict.FOREIGN
        )

    def withheld(self) -> frozenset[str]:
        """Return the kinds whose object is not ours to touch."""
        verdicts = {each.kind: self.verdict(each) for each in kinds.CHILDREN}
        return frozenset(
            kind
            for kind, verdict in verdicts.items()
            if verdict not in {Verdict.OURS, Verdict.FREE}
        )

    def live(self) -> Live:
        """Return what the manifests depend on."""
        deployment = self.ours(kinds.DEPLOYMENTS)
        hpa = self.verdict(kinds.AUTOSCALERS) is Verdict.OURS
        if deployment is None:
            return Live(hpa_exists=hpa)
        runtime = _runtime(deployment)
        annotations = deployment["metadata"].get("annotations", {})
        return Live(
            exists=True,
            image=runtime.get("image"),
            pull_policy=runtime.get("imagePullPolicy"),
            runtime_hash=annotations.get(names.RUNTIME_ANNOTATION),
            replicas=deployment["spec"].get("replicas"),
            owns_replicas=_owns_replicas(deployment),
            hpa_exists=hpa,
        )

    def facts(
        self,
        wanted: Collection[Kind],
        refusals: tuple[Trouble, ...],
        unsupported: tuple[str, ...],
    ) -> ChildrenFacts:
        """Return what a plan may know of it.

        Args:
            wanted: the kinds that should exist; what is foreign of others is nobody's business.
            refusals: what the API server said to the last attempt.
            unsupported: fields that have no effect in this cluster.
        """
        live = self.live()
        return ChildrenFacts(
            url=_url(self.key, self.ours(kinds.SERVICES)),
            selector=",".join(f"{k}={v}" for k, v in names.pod_selector(self.key.name).items()),
            runtime_image=live.image,
            replicas=live.replicas,
            rolling=_rolls(self.ours(kinds.DEPLOYMENTS)),
            conflicts=self.foreign(wanted),
            refusals=(*refusals, *_replica_failures(self.ours(kinds.DEPLOYMENTS))),
            unsupported=unsupported,
            autoscaler=_autoscaler(self.ours(kinds.AUTOSCALERS)),
        )


async def read(api: Api, key: Key, owner_uid: str, *, adopt: bool) -> Surroundings:
    """Read every child of an object, all at the same time."""
    async with asyncio.TaskGroup() as tasks:
        reading = {
            kind: tasks.create_task(api.get(kind.path(key.namespace, name_of(kind, key.name))))
            for kind in kinds.CHILDREN
        }
    found = {kind: task.result() for kind, task in reading.items()}
    objects = {kind: body for kind, body in found.items() if body is not None}
    return Surroundings(key, owner_uid, adopt, objects)


def name_of(kind: Kind, owner: str) -> str:
    """Return the name of a ModelDeployment's child of this kind."""
    return names.models_config_map(owner) if kind is kinds.CONFIG_MAPS else owner


def _runtime(deployment: Object) -> Mapping[str, Any]:
    containers = deployment["spec"]["template"]["spec"].get("containers", ())
    return next((each for each in containers if each["name"] == names.RUNTIME_CONTAINER), {})


def _owns_replicas(deployment: Object) -> bool:
    """Whether our applying is what holds the number of pods."""
    return any(
        each.get("manager") == names.MANAGER
        and each.get("operation") == "Apply"
        and "f:replicas" in each.get("fieldsV1", {}).get("f:spec", {})
        for each in deployment["metadata"].get("managedFields", ())
    )


def _rolls(deployment: Object | None) -> bool:
    """Whether the Deployment has not been looked at yet, or pods of an older template remain."""
    if deployment is None:
        return False
    status = deployment.get("status", {})
    unseen = status.get("observedGeneration", 0) < deployment["metadata"]["generation"]
    return bool(unseen or status.get("updatedReplicas", 0) < status.get("replicas", 0))


def _url(key: Key, service: Object | None) -> str | None:
    if service is None:
        return None
    port = service["spec"]["ports"][0]["port"]
    suffix = "" if port == HTTP_PORT else f":{port}"
    return f"http://{key.name}.{key.namespace}.svc{suffix}"


def _replica_failures(deployment: Object | None) -> Iterator[Trouble]:
    """Yield why pods cannot even be made: a quota, or a policy of the namespace."""
    for each in (deployment or {}).get("status", {}).get("conditions", ()):
        if each["type"] == "ReplicaFailure" and each["status"] == "True":
            yield Trouble(each.get("reason", "FailedCreate"), each.get("message", ""))


def _autoscaler(hpa: Object | None) -> Autoscaler | None:
    """Return what the autoscaler says; one that has said nothing yet is not active."""
    if hpa is None:
        return None
    said = {each["type"]: each for each in hpa.get("status", {}).get("conditions", ())}
    for kind in ("AbleToScale", "ScalingActive"):
        each = said.get(kind)
        if each is not None and each["status"] != "True":
            return Autoscaler(False, each.get("reason", kind), each.get("message", ""))
    active = said.get("ScalingActive")
    if active is None:
        return Autoscaler(False, "Pending", "the autoscaler has not looked yet")
    return Autoscaler(True, active.get("reason", "ScalingActive"), active.get("message", ""))
