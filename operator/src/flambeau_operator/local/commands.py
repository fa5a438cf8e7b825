"""What a session answers to the commands that reach it: objects as they are, and small changes.

Verbs: `list`, `read`, `patch` (annotations, and whether rollouts pause), `committed`, `modes` (how
the versions of a manifest would come in, by what the pods measure).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from flambeau_operator.doors import Key, Ref
from flambeau_operator.errors import Unavailable
from flambeau_operator.local.cluster import LocalCluster
from flambeau_operator.plan.children import template_hash
from flambeau_operator.plan.fleet import read_fleet
from flambeau_operator.plan.foresight import foresee
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.observed import Snapshot
from flambeau_operator.resources.pod_state_json import document_to_json


class Commands:
    """Answers questions about the deployments of one session."""

    def __init__(self, cluster: LocalCluster, facts: Callable[[Ref], Awaitable[Snapshot]]) -> None:
        self._cluster = cluster
        self._facts = facts

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
        if verb == "modes":
            return {"modes": await self._modes(key, held, question["manifest"]) if held else {}}
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

    async def _modes(
        self, key: Key, held: Mapping[str, Any], manifest: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        old, new = parse(held), parse(manifest)
        facts = await self._facts(_ref(key, held))
        known = facts.committed.models if facts.committed else ()
        of_today = template_hash(old, known)
        fleet = read_fleet(facts, old.metadata.uid, of_today, datetime.now(UTC))
        found = foresee(old, new, facts.committed, fleet).models
        return {f"{it.name}@{it.target}": [it.mode, it.mode_reason] for it in found if it.rolls}


def _ref(key: Key, held: Mapping[str, Any]) -> Ref:
    metadata = held["metadata"]
    return Ref(key, metadata["uid"], metadata["resourceVersion"])
