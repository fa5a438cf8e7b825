"""What an object would be after a manifest is applied: not everything in it is the manifest's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flambeau_operator.local.overlay import OVERLAY, bare, laid_over, overlay_of

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

Object = Mapping[str, Any]


def after_apply(live: Object, wish: Object) -> Object:
    """Return the wish, with what others than its file have set on the live object.

    kubectl apply takes away what the file said before and says no more; what it never spoke of
    stays: replicas of kubectl scale, a pause. Where the file's last words are not known, only a
    pause is taken for somebody else's.
    """
    if OVERLAY in live["metadata"]:
        return laid_over(wish, overlay_of(live).after_edit(bare(live), wish))
    annotations = live["metadata"].get("annotations") or {}
    said = _last_applied(annotations.get(LAST_APPLIED))
    spec = _kept_beside(live["spec"], said or _all_but_the_pause(live["spec"]), wish["spec"])
    return {**wish, "spec": spec}


def _last_applied(text: str | None) -> Object | None:
    try:
        spec = json.loads(text or "null")["spec"]
    except (ValueError, KeyError, TypeError):
        return None
    return spec if isinstance(spec, Mapping) else None


def _all_but_the_pause(spec: Object) -> Object:
    rollout = spec.get("rollout")
    if not isinstance(rollout, Mapping):
        return spec
    return {**spec, "rollout": {name: it for name, it in rollout.items() if name != "paused"}}


def _kept_beside(live: Object, said: Object, wish: Object) -> Object:
    """Return the wish with what is live, was never said, and is not said now."""
    kept = dict(wish)
    for name, value in live.items():
        if name not in wish and name not in said:
            kept[name] = value
        elif _are_objects(value, wish.get(name, {})):
            before = said.get(name)
            inside = before if isinstance(before, Mapping) else {}
            found = _kept_beside(value, inside, wish.get(name, {}))
            if found or name in wish:
                kept[name] = found
    return kept


def _are_objects(*values: object) -> bool:
    return all(isinstance(each, Mapping) for each in values)
