"""Every informer of the operator together: the children by their metadata, the pods as they are."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Final

from flambeau_operator import names
from flambeau_operator.doors import Key, Pod
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Api, Object
from flambeau_operator.kubernetes.informer import Informer, Kept
from flambeau_operator.kubernetes.pods import keep_pod

TALKERS: Final = (kinds.AUTOSCALERS, kinds.BUDGETS)
WISH: Final = ("uid", "generation", "deletionTimestamp", "labels", "annotations", "ownerReferences")


class Following:
    """Knows the pods, and tells whose children have changed.

    Args:
        api: the API server.
        namespaces: None is all of them.
        changed: called with the owner of what has changed.
        dice: 0..1, spreads the retries.
    """

    def __init__(
        self,
        api: Api,
        namespaces: Sequence[str] | None,
        *,
        changed: Callable[[Key], None],
        dice: Callable[[], float],
    ) -> None:
        where: Sequence[str | None] = [None] if namespaces is None else namespaces
        self._pods = {
            each: Informer(
                api, kinds.PODS, each, keep=keep_pod, changed=changed, dice=dice, whole=True
            )
            for each in where
        }
        self._children = [
            Informer(
                api,
                kind,
                each,
                keep=keep_talker if kind in TALKERS else keep_child,
                changed=changed,
                dice=dice,
            )
            for each in where
            for kind in kinds.CHILDREN
        ]

    @property
    def _everything(self) -> Sequence[Informer[Pod] | Informer[str]]:
        return (*self._pods.values(), *self._children)

    async def run(self) -> None:
        """Follow everything until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._everything:
                tasks.create_task(each.run())

    async def until_synced(self) -> None:
        """Return once everything has been listed."""
        for each in self._everything:
            await each.synced.wait()

    def pods_of(self, owner: Key) -> tuple[Pod, ...] | None:
        """Return the pods of an object's name; None while they have not been listed."""
        informer = self._pods.get(owner.namespace) or self._pods.get(None)
        if informer is None or not informer.synced.is_set():
            return None
        return tuple(pod for _, pod in informer.owned_by(owner))

    def silent_s(self) -> float:
        """Return for how long the least talkative watch has heard nothing."""
        return time.monotonic() - min(each.heard_at for each in self._everything)


def keep_child(body: Object) -> Kept[str] | None:
    """Return what is remembered of a child: whose it is, and its version."""
    metadata = body["metadata"]
    owner = metadata.get("labels", {}).get(names.NAME_LABEL)
    return Kept(Key(metadata["namespace"], owner), metadata["resourceVersion"]) if owner else None


def keep_talker(body: Object) -> Kept[str] | None:
    """Return what is remembered of a child that reports all the time: a mark of its wish alone."""
    kept = keep_child(body)
    if kept is None:
        return None
    metadata = body["metadata"]
    marks = [metadata.get(field) for field in WISH]
    marks += [
        [each.get("manager"), each.get("time"), each.get("fieldsV1")]
        for each in metadata.get("managedFields", ())
        if each.get("subresource") != "status"
    ]
    mark = hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:16]
    return Kept(kept.owner, mark)
