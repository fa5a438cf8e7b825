"""Objects as files: what an API server keeps, kept in a folder.

An object survives the session that made it: applied again from the same folder, it has its old uid,
status and committed set, as it would have on a cluster whose pods were all lost.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flambeau_operator.doors import Key, Ref
from flambeau_operator.errors import Conflict, Unavailable
from flambeau_operator.local.overlay import NOTHING, bare, laid_over, overlay_of


class ObjectFiles:
    """ModelDeployments in a folder, with the uids and versions that fence their writes."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._clock = clock
        self._objects: dict[Key, dict[str, Any]] = {}  # those of this session

    def folder(self, key: Key) -> Path:
        """Return where everything of one object lies."""
        return self._folder / key.namespace / key.name

    def keys(self) -> tuple[Key, ...]:
        """Return the objects of this session, in the order they came."""
        return tuple(self._objects)

    def read(self, key: Key) -> Mapping[str, Any] | None:
        """Return an object; it must not be changed in place."""
        return self._objects.get(key)

    def apply(self, key: Key, wish: Mapping[str, Any], url: str) -> bool:
        """Create an object, or give it other content; True if anything changed."""
        old = self._objects.get(key) or self._left_over(key)
        new = self._renewed(old, wish) if old else self._created(key, wish)
        new["status"] = {**new.get("status", {}), "url": url}
        if key in self._objects and new == old:
            return False
        self._store(key, new)
        return True

    def patch(
        self, ref: Ref, annotations: Mapping[str, str | None], paused: bool | None
    ) -> Mapping[str, Any]:
        """Set annotations and whether rollouts pause, beside the file; return the new object.

        Raises:
            Conflict: the object of this uid is gone.
        """
        held = self.fenced(ref)
        wish, overlay = bare(held), overlay_of(held).changed(annotations, paused)
        new = _next_generation(held, laid_over(wish, overlay))
        if new != held:
            self._store(ref.key, new)
        return self._objects[ref.key]

    def write_status(self, ref: Ref, status: Mapping[str, Any]) -> str:
        """Replace the status of the object as read; raise Conflict if it is another one now."""
        held = self.fenced(ref)
        if held["metadata"]["resourceVersion"] != ref.resource_version:
            raise Conflict(f"{ref.key} is at version {held['metadata']['resourceVersion']} already")
        self._store(ref.key, {**held, "status": dict(status)})
        return str(self._objects[ref.key]["metadata"]["resourceVersion"])

    def fenced(self, ref: Ref) -> dict[str, Any]:
        """Return the object of this uid; raise Conflict if there is none."""
        held = self._objects.get(ref.key)
        if held is None or held["metadata"]["uid"] != ref.uid:
            raise Conflict(f"{ref.key} with uid {ref.uid} is gone")
        return held

    def delete(self, key: Key) -> None:
        """Forget an object and everything that lies in its folder."""
        if self._objects.pop(key, None) is not None:
            shutil.rmtree(self.folder(key), ignore_errors=True)

    def _created(self, key: Key, wish: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {
            **wish["metadata"],
            "namespace": key.namespace,
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "resourceVersion": "0",
            "creationTimestamp": self._clock().isoformat(timespec="seconds"),
        }
        return {**laid_over(wish, NOTHING), "metadata": metadata, "status": {}}

    def _renewed(self, old: Mapping[str, Any], wish: Mapping[str, Any]) -> dict[str, Any]:
        ours = ("namespace", "uid", "generation", "resourceVersion", "creationTimestamp")
        overlay = overlay_of(old).after_edit(bare(old), wish)
        new = laid_over(wish, overlay)
        metadata = {**new["metadata"], **{key: old["metadata"][key] for key in ours}}
        renewed = {**new, "metadata": metadata, "status": old.get("status", {})}
        return _next_generation(old, renewed)

    def _left_over(self, key: Key) -> dict[str, Any] | None:
        """Return the object an earlier session left here, unless it cannot be read any more."""
        try:
            held = json.loads(self._file(key).read_bytes())
            identity = held["metadata"]["uid"], int(held["metadata"]["resourceVersion"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return held if all(identity) and isinstance(held.get("spec"), dict) else None

    def _store(self, key: Key, held: dict[str, Any]) -> None:
        metadata = held["metadata"]
        version = str(int(metadata["resourceVersion"]) + 1)
        held = {**held, "metadata": {**metadata, "resourceVersion": version}}
        write_file(self._file(key), json.dumps(held, indent=1, ensure_ascii=False))
        self._objects[key] = held

    def _file(self, key: Key) -> Path:
        return self.folder(key) / "object.json"


def _next_generation(old: Mapping[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the new object, counted as another wish if its spec is another one."""
    if old["spec"] == new["spec"]:
        return new
    generation = old["metadata"]["generation"] + 1
    return {**new, "metadata": {**new["metadata"], "generation": generation}}


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, so that whoever reads it sees one state or the other."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
