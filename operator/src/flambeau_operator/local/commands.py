"""What a session answers to the commands that reach it: objects as they are, and small changes.

Verbs: `list`, `read`, `patch` (annotations, and whether rollouts pause), `committed`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flambeau_operator.doors import Key, Ref
from flambeau_operator.errors import Unavailable
from flambeau_operator.local.cluster import LocalCluster
from flambeau_operator.resources.pod_state_json import document_to_json


class Commands:
    """Answers questions about the deployments of one session."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    async def answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer one question.

        Raises:
            Conflict: the object is another one by now, or gone.
            Unavailable: it cannot be written.
            KeyError, TypeError: it is no question that is known here.
        """
        verb = question["verb"]
        if verb == "list":
            keys = self._cluster.applied()
            found = [{"namespace": key.namespace, "name": key.name} for key in keys]
            return {"pid": os.getpid(), "deployments": found}
        key = Key(str(question["namespace"]), str(question["name"]))
        held = self._cluster.read_now(key)
        if verb == "read":
            return {"object": held or None}
        if verb == "committed":
            document = await self._cluster.read_committed(_ref(key, held)) if held else None
            return {"document": document_to_json(document) if document else None}
        if verb == "patch":
            return {"object": self._patch(key, question)}
        raise Unavailable(f"this flambeau up does not know the command {verb!r}: is it older?")

    def _patch(self, key: Key, question: Mapping[str, Any]) -> Mapping[str, Any]:
        annotations = {str(name): value for name, value in question["annotations"].items()}
        paused = question.get("paused")
        if not all(value is None or isinstance(value, str) for value in annotations.values()):
            raise TypeError("the values of annotations are strings")
        if not (paused is None or isinstance(paused, bool)):
            raise TypeError("paused is true or false")
        return self._cluster.patch(Ref(key, str(question["uid"]), ""), annotations, paused)


def _ref(key: Key, held: Mapping[str, Any]) -> Ref:
    metadata = held["metadata"]
    return Ref(key, metadata["uid"], metadata["resourceVersion"])
