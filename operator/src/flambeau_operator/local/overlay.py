"""What commands have set on an object beside its file: annotations, and whether rollouts pause.

A cluster keeps both in the object and lets `kubectl apply` take back only what the file itself
says, or said before. Here the file is applied again at every edit, so what commands set is kept
apart from it and laid over it, by the same law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

OVERLAY: Final = "setByCommands"
APPLIED: Final = "lastApplied"
"""Keys of the stored metadata: the overlay, and what the file says in the same places."""

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Overlay:
    """What commands have set; nothing in it is written into the file."""

    annotations: Mapping[str, str]
    paused: bool | None = None  # spec.rollout.paused; None: as the file has it

    def changed(self, annotations: Mapping[str, str | None], paused: bool | None) -> Overlay:
        """Return the overlay after one more command; an annotation that is None is taken away."""
        merged = {**self.annotations, **annotations}
        kept = {name: value for name, value in merged.items() if value is not None}
        return Overlay(kept, self.paused if paused is None else paused)

    def after_edit(self, before: Object, now: Object) -> Overlay:
        """Return what is left after an edit of the file: what the file speaks of is the file's.

        Args:
            before: the manifest that was applied last.
            now: the manifest that is applied instead.
        """
        if _spoken(before) == _spoken(now):
            return self
        theirs = {*_annotations(before), *_annotations(now)}
        kept = {name: value for name, value in self.annotations.items() if name not in theirs}
        named = "paused" in _rollout(before) or "paused" in _rollout(now)
        return replace(self, annotations=kept, paused=None if named else self.paused)


NOTHING: Final = Overlay({})


def overlay_of(held: Object) -> Overlay:
    """Return the overlay of a stored object."""
    said = held["metadata"].get(OVERLAY) or {}
    return Overlay(said.get("annotations") or {}, said.get("paused"))


def laid_over(wish: Object, overlay: Overlay) -> dict[str, Any]:
    """Return the object to store for a manifest; `bare` undoes it."""
    metadata, spec = dict(wish["metadata"]), dict(wish["spec"])
    applied = {"annotations": metadata.get("annotations"), "rollout": spec.get("rollout")}
    if overlay.annotations:
        metadata["annotations"] = {**_annotations(wish), **overlay.annotations}
    if overlay.paused is not None:
        spec["rollout"] = {**_rollout(wish), "paused": overlay.paused}
    if overlay != NOTHING:
        metadata[OVERLAY] = {"annotations": dict(overlay.annotations), "paused": overlay.paused}
        metadata[APPLIED] = applied
    return {**wish, "metadata": metadata, "spec": spec}


def bare(held: Object) -> dict[str, Any]:
    """Return a stored object as its file alone would have it."""
    metadata, spec = dict(held["metadata"]), dict(held["spec"])
    if APPLIED in metadata:
        applied = metadata.pop(APPLIED)
        metadata.pop(OVERLAY, None)
        _put(metadata, "annotations", applied.get("annotations"))
        _put(spec, "rollout", applied.get("rollout"))
    return {**held, "metadata": metadata, "spec": spec}


def _put(holder: dict[str, Any], name: str, value: object) -> None:
    holder.pop(name, None)
    if value is not None:
        holder[name] = value


def _spoken(wish: Object) -> tuple[object, object]:
    return _annotations(wish), _rollout(wish).get("paused")


def _annotations(wish: Object) -> Mapping[str, str]:
    found: Mapping[str, str] = wish["metadata"].get("annotations") or {}
    return found


def _rollout(wish: Object) -> Mapping[str, Any]:
    found: Mapping[str, Any] = wish["spec"].get("rollout") or {}
    return found
