"""The sessions of `flambeau up` on this machine, as places that hold ModelDeployments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flambeau_operator.doors import Key
from flambeau_operator.errors import DoorFault
from flambeau_operator.local import control
from flambeau_operator.resources.pod_state import Document
from flambeau_operator.resources.pod_state_json import document_from_json


@dataclass(frozen=True, slots=True)
class Session:
    """One `flambeau up` that runs; a `places.Place`."""

    socket: Path
    pid: int
    keys: tuple[Key, ...]  # what it serves

    @property
    def label(self) -> str:
        """What people call it."""
        return f"flambeau up, pid {self.pid}"

    async def read(self, key: Key) -> Mapping[str, Any] | None:
        """See `places.Place`."""
        answer = await control.ask(self.socket, control.question("read", key))
        found: Mapping[str, Any] | None = answer.get("object")
        return found

    async def change(
        self,
        key: Key,
        uid: str,
        annotations: Mapping[str, str | None],
        paused: bool | None = None,
    ) -> Mapping[str, Any]:
        """See `places.Place`."""
        asked = control.question(
            "patch", key, uid=uid, annotations=dict(annotations), paused=paused
        )
        changed: Mapping[str, Any] = (await control.ask(self.socket, asked))["object"]
        return changed

    async def committed(self, key: Key) -> Document | None:
        """See `places.Place`."""
        answer = await control.ask(self.socket, control.question("committed", key))
        document = answer.get("document")
        return document_from_json(document) if document else None

    async def modes(
        self, key: Key, manifest: Mapping[str, Any]
    ) -> Mapping[str, tuple[str | None, str]]:
        """See `places.Place`."""
        answer = await control.ask(
            self.socket, control.question("modes", key, manifest=dict(manifest))
        )
        return {name: (mode, why) for name, (mode, why) in answer["modes"].items()}

    async def refusal(self, manifest: Mapping[str, Any]) -> str | None:  # noqa: ARG002  a place
        """See `places.Place`: a session takes whatever `validate` finds right."""
        return None


async def sessions() -> tuple[Session, ...]:
    """Return every session of this user that answers."""
    found = []
    for socket in control.session_sockets():
        try:
            answer = await control.ask(socket, control.question("list"))
        except DoorFault:
            continue  # killed, or just ending
        keys = tuple(Key(each["namespace"], each["name"]) for each in answer["deployments"])
        found.append(Session(socket, int(answer["pid"]), keys))
    return tuple(found)
