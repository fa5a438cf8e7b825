"""The door `Cluster` on Kubernetes."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from flambeau_operator import names
from flambeau_operator.doors import Key, Outcome, Pod, Ref
from flambeau_operator.errors import Conflict, DoorFault, InvalidSpec, Rejected, Unavailable
from flambeau_operator.kubernetes import children, kinds
from flambeau_operator.kubernetes.apply import Applier, Memory
from flambeau_operator.kubernetes.children import Surroundings
from flambeau_operator.kubernetes.client import METADATA_ONLY, Api, Object
from flambeau_operator.plan.children import Children
from flambeau_operator.plan.ownership import Verdict
from flambeau_operator.plan.plan import Event
from flambeau_operator.plan.site import Site
from flambeau_operator.plan.without_effect import on_kubernetes
from flambeau_operator.resources.deployment_status import Status
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.observed import ChildrenFacts
from flambeau_operator.resources.pod_state import Document
from flambeau_operator.resources.pod_state_json import document_from_json, document_to_json

log = logging.getLogger(__name__)

BOOT_KEY: Final = "models.json"
LONGEST_NOTE: Final = 1024


@dataclass(slots=True)
class _Known:
    """What is kept of one ModelDeployment between the calls of a pass, and what outlives it."""

    adopt: bool = False  # may take over what an owner who is gone has left
    without_effect: tuple[str, ...] = ()
    seen: Surroundings | None = None  # read in this pass, and not acted upon yet
    memory: Memory = field(default_factory=Memory)


class KubernetesCluster:
    """ModelDeployments and their pods in an API server.

    Args:
        api: the API server.
        site: this installation of the operator.
        public_keys: of those who may manage pods; they come with the committed set.
        pods_of: the pods of one ModelDeployment's name as they are known by watching; None while
            they are not.
        clock: the wall clock.
    """

    def __init__(
        self,
        api: Api,
        *,
        site: Site,
        public_keys: Sequence[str],
        pods_of: Callable[[Key], tuple[Pod, ...] | None],
        clock: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._site = site
        self._public_keys = tuple(public_keys)
        self._pods_of = pods_of
        self._clock = clock
        self._known: dict[Key, _Known] = {}

    async def read_deployment(self, key: Key) -> Mapping[str, Any] | None:
        """See `doors.Cluster`."""
        body = await self._api.get(_path(key))
        if body is None:
            self._known.pop(key, None)
            return None
        known = self._known.setdefault(key, _Known())
        annotations = body["metadata"].get("annotations", {})
        known.adopt = annotations.get(names.ADOPT) == "true"
        known.without_effect = self._without_effect(body)
        known.seen = None
        return body

    async def list_pods(self, ref: Ref) -> tuple[Pod, ...]:
        """See `doors.Cluster`."""
        found = self._pods_of(ref.key)
        if found is None:
            raise Unavailable("the pods are not known yet")
        return tuple(sorted(found, key=lambda pod: pod.name))

    async def read_committed(self, ref: Ref) -> Document | None:
        """See `doors.Cluster`."""
        known = self._of(ref)
        known.seen = await self._read(ref)
        boot = _boot(known.seen.ours(kinds.CONFIG_MAPS))
        return boot.document if boot else None

    async def read_children(self, ref: Ref) -> ChildrenFacts:
        """See `doors.Cluster`."""
        known = self._of(ref)
        if known.seen is None:
            known.seen = await self._read(ref)
        refusals = tuple(known.memory.refusals.values())
        return known.seen.facts(known.memory.wanted, refusals, known.without_effect)

    async def apply_children(self, ref: Ref, children: Children) -> tuple[Outcome, ...]:
        """See `doors.Cluster`."""
        known = self._of(ref)
        seen = known.seen or await self._read(ref)
        known.seen = None
        renewed = await self._renew_keys(ref, seen)
        applier = Applier(self._api, self._site, known.memory, lambda: self._fence(ref))
        return (*renewed, *await applier.apply(seen, children))

    async def commit(self, ref: Ref, document: Document) -> None:
        """See `doors.Cluster`."""
        known = self._of(ref)
        await self._fence(ref)
        seen = known.seen or await self._read(ref)
        known.seen = None
        live, name = seen.objects.get(kinds.CONFIG_MAPS), names.models_config_map(ref.key.name)
        verdict = seen.verdict(kinds.CONFIG_MAPS)
        if verdict is Verdict.FOREIGN:
            raise Rejected(409, "NameConflict", f"ConfigMap {name} belongs to somebody else")
        if verdict is Verdict.OLDER_UID:
            raise Unavailable(f"ConfigMap {name} of the ModelDeployment before is not gone yet")
        path = kinds.CONFIG_MAPS.path(ref.key.namespace, name)
        got = await self._api.apply(path, self._boot_manifest(ref, document, live))
        known.seen = replace(seen, objects={**seen.objects, kinds.CONFIG_MAPS: got})

    async def write_status(self, ref: Ref, status: Status) -> str:
        """See `doors.Cluster`."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {
                "name": ref.key.name,
                "namespace": ref.key.namespace,
                "uid": ref.uid,
                "resourceVersion": ref.resource_version,
            },
            "status": status.to_json(),
        }
        # Replaced, not applied: what the schema's default put there belongs to no field manager
        # and would stay for ever.
        try:
            written = await self._api.replace(_path(ref.key, "status"), body)
        except Rejected as rejected:
            if rejected.status == HTTPStatus.NOT_FOUND:
                raise Conflict(f"{ref.key} is gone") from rejected
            raise
        return str(written["metadata"]["resourceVersion"])

    async def emit(self, ref: Ref, events: Sequence[Event]) -> None:
        """See `doors.Cluster`."""
        for event in events:
            try:
                path = kinds.EVENTS.path(ref.key.namespace)
                await self._api.create(path, self._event(ref, event))
            except DoorFault as fault:
                log.warning(
                    "event not told",
                    extra={"key": str(ref.key), "reason": event.reason, "why": str(fault)},
                )

    # --- inside ---------------------------------------------------------------------------------

    def _of(self, ref: Ref) -> _Known:
        return self._known.setdefault(ref.key, _Known())

    async def _read(self, ref: Ref) -> Surroundings:
        return await children.read(self._api, ref.key, ref.uid, adopt=self._of(ref).adopt)

    def _without_effect(self, body: Object) -> tuple[str, ...]:
        try:
            return on_kubernetes(parse(body).spec, self._site)
        except InvalidSpec:
            return ()  # whoever reads the object says what is wrong with it

    async def _fence(self, ref: Ref) -> None:
        """Raise Conflict unless the object of this uid is there to stay."""
        body = await self._api.get(_path(ref.key), METADATA_ONLY)
        metadata = body["metadata"] if body else {}
        if metadata.get("uid") != ref.uid or "deletionTimestamp" in metadata:
            raise Conflict(f"{ref.key} with uid {ref.uid} is gone")

    async def _renew_keys(self, ref: Ref, seen: Surroundings) -> tuple[Outcome, ...]:
        """Let pods accept our calls whose committed set names other keys.

        So an operator that was installed anew, with another key, gets hold of what an earlier one
        has left: pods look at the mounted file again.
        """
        live = seen.objects.get(kinds.CONFIG_MAPS)
        boot = _boot(live) if live and seen.verdict(kinds.CONFIG_MAPS) is Verdict.OURS else None
        if boot is None or set(self._public_keys) <= set(boot.public_keys):
            return ()
        name = names.models_config_map(ref.key.name)
        path = kinds.CONFIG_MAPS.path(ref.key.namespace, name)
        await self._fence(ref)
        try:
            await self._api.apply(path, self._boot_manifest(ref, boot.document, live))
        except DoorFault as fault:
            return (Outcome("renew keys", name, str(fault)),)
        return (Outcome("renew keys", name),)

    def _boot_manifest(
        self, ref: Ref, document: Document, live: Object | None
    ) -> Mapping[str, Any]:
        content = {"document": document_to_json(document), "publicKeys": list(self._public_keys)}
        read = live["metadata"] if live else {}
        return {
            "apiVersion": kinds.CONFIG_MAPS.api_version,
            "kind": kinds.CONFIG_MAPS.kind,
            "metadata": {
                **{key: read[key] for key in ("uid", "resourceVersion") if key in read},
                "name": names.models_config_map(ref.key.name),
                "namespace": ref.key.namespace,
                "labels": names.labels_of(ref.key.name),
                "ownerReferences": [_owner_reference(ref)],
            },
            "data": {BOOT_KEY: json.dumps(content, separators=(",", ":"), ensure_ascii=False)},
        }

    def _event(self, ref: Ref, event: Event) -> Mapping[str, Any]:
        now = self._clock().isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{ref.key.name}.{uuid.uuid4().hex[:16]}",
                "namespace": ref.key.namespace,
            },
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "namespace": ref.key.namespace,
                "name": ref.key.name,
                "uid": ref.uid,
                "resourceVersion": ref.resource_version,
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:LONGEST_NOTE],
            "source": {"component": names.MANAGER},
            "reportingComponent": names.GROUP,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _path(key: Key, part: str = "") -> str:
    return kinds.MODEL_DEPLOYMENTS.path(key.namespace, key.name, part)


def _owner_reference(ref: Ref) -> Mapping[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": ref.key.name,
        "uid": ref.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


@dataclass(frozen=True, slots=True)
class _Boot:
    """What a pod boots from."""

    document: Document
    public_keys: tuple[str, ...]


def _boot(config_map: Object | None) -> _Boot | None:
    """Return what a ConfigMap holds; a broken one is made anew from the pods."""
    if config_map is None:
        return None
    try:
        content = json.loads(config_map["data"][BOOT_KEY])
        return _Boot(document_from_json(content["document"]), tuple(content["publicKeys"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
