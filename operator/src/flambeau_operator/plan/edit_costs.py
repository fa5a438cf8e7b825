"""What an edit costs, field by field: live in the pods, a rollout, or new pods.

Nothing here is a table of field names that could grow stale: each changed field is put into the old
spec by itself, and what comes of it is asked of the very functions that passes use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel

from flambeau_operator.plan.children import template_hash
from flambeau_operator.plan.entries import spec_hash, target_entry
from flambeau_operator.resources.model_deployment import Model, ModelDeployment, Spec
from flambeau_operator.resources.pod_state import ModelEntry


class Cost(StrEnum):
    """What has to happen before a field's new value holds."""

    LIVE = "Live"  # told to the running pods
    WORKERS_RESTART = "WorkersRestart"  # one by one, inside the running pods
    ROLLOUT = "Rollout"  # a version comes in
    PODS_ROLL = "PodsRoll"  # pods are replaced
    SCALE = "Scale"  # pods come or go
    AROUND = "AroundThePods"  # other objects change, pods do not
    RULES = "Rules"  # of what comes later; nothing happens now


SCALE: Final = frozenset({"replicas", "autoscaling", "suspend"})
RULES: Final = "rollout"
KEYS: Final = ("name", "version")
"""By which items of a list are matched; other lists are compared as a whole."""

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field with another value."""

    path: Path  # ("models[classifier]", "source", "uri")
    old: object  # as JSON; None: it was not there
    new: object
    cost: Cost

    @property
    def name(self) -> str:
        """The field as people write it."""
        return ".".join(self.path)


def field_changes(
    old: ModelDeployment, new: ModelDeployment, committed: Sequence[ModelEntry] = ()
) -> tuple[FieldChange, ...]:
    """Return every field of the spec whose value differs, defaults filled in on both sides.

    Args:
        old: the object as it is.
        new: the object as it would be.
        committed: what a starting pod loads.
    """
    return tuple(
        FieldChange(path, was, will, _cost(path, old, new, committed))
        for path, was, will in _differences(_written(old.spec), _written(new.spec))
    )


@dataclass(frozen=True, slots=True)
class _Written:
    """A part of a spec as JSON: with every default, and with none."""

    full: Any
    sparse: Any

    def __getitem__(self, name: object) -> _Written:
        full = self.full.get(name) if isinstance(self.full, Mapping) else None
        sparse = self.sparse.get(name) if isinstance(self.sparse, Mapping) else None
        return _Written(full, sparse)


def _written(part: BaseModel) -> _Written:
    full = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return _Written(full, part.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def _differences(
    old: _Written, new: _Written, path: Path = ()
) -> Iterator[tuple[Path, object, object]]:
    """Yield the innermost fields that differ; of a part that comes or goes, those that are set."""
    if old.full == new.full:
        return
    if old.full is None and isinstance(new.sparse, Mapping) and new.sparse:
        old, new = _Written({}, {}), _Written(new.sparse, new.sparse)
    elif new.full is None and isinstance(old.sparse, Mapping) and old.sparse:
        old, new = _Written(old.sparse, old.sparse), _Written({}, {})
    if isinstance(old.full, Mapping) and isinstance(new.full, Mapping):
        for name in dict.fromkeys((*old.full, *new.full)):
            yield from _differences(old[name], new[name], (*path, str(name)))
    elif path and (key := _key_of(old.full, new.full)):
        ours, theirs = _by(key, old), _by(key, new)
        for name in dict.fromkeys((*ours.full, *theirs.full)):
            yield from _differences(ours[name], theirs[name], (*path[:-1], f"{path[-1]}[{name}]"))
    else:
        yield path, old.full, new.full


def _key_of(old: object, new: object) -> str | None:
    """Return by what the items of two lists can be told apart."""
    lists = [each for each in (old, new) if each is not None]
    if not all(isinstance(each, list) for each in lists):
        return None
    items = [item for each in lists if isinstance(each, list) for item in each]
    for key in KEYS:
        if items and all(isinstance(each, Mapping) and key in each for each in items):
            return key
    return None


def _by(key: str, part: _Written) -> _Written:
    """Return a list as an object, by what its items are told apart."""
    full = {str(each[key]): each for each in part.full or ()}
    return _Written(full, {str(each[key]): each for each in part.sparse or ()})


def _cost(
    path: Path, old: ModelDeployment, new: ModelDeployment, committed: Sequence[ModelEntry]
) -> Cost:
    top = path[0].partition("[")[0]
    if top == "models":
        return _cost_of_model(path, old.spec, new.spec)
    if top in SCALE:
        return Cost.SCALE
    edited = old.model_copy(update={"spec": _grafted(old.spec, new.spec, path)})
    if template_hash(edited, committed) != template_hash(old, committed):
        return Cost.PODS_ROLL
    return Cost.RULES if top == RULES else Cost.AROUND


def _cost_of_model(path: Path, old: Spec, new: Spec) -> Cost:
    name = path[0].partition("[")[2].removesuffix("]")
    before, after = _model(old, name), _model(new, name)
    if before is None:
        return Cost.ROLLOUT
    if after is None:
        return Cost.LIVE  # it leaves the pods
    inside = path[1:]
    if inside[0].partition("[")[0] in {"split", "shadow"}:
        return _cost_of_other_version(inside, before, after)
    entry, edited = target_entry(before), target_entry(_grafted(before, after, inside))
    if spec_hash(edited) != spec_hash(entry):
        return Cost.ROLLOUT
    return Cost.WORKERS_RESTART if edited.env != entry.env else Cost.LIVE


def _cost_of_other_version(path: Path, before: Model, after: Model) -> Cost:
    """Tell whether a version of a split or a shadow is another one, or is only asked otherwise."""
    known = {(each.version, each.source) for each in _others(before)}
    wanted = {(each.version, each.source) for each in _others(after)}
    speaks_of_it = path[-1] not in {"weight", "percent", "stickyHeader", "stickyCookie"}
    comes = bool(wanted - known) and speaks_of_it and "compare" not in path
    return Cost.ROLLOUT if comes else Cost.LIVE


def _others(model: Model) -> tuple[Any, ...]:
    split = model.split.versions if model.split else ()
    return (*split, *([model.shadow] if model.shadow else []))


def _model(spec: Spec, name: str) -> Model | None:
    return next((each for each in spec.models if each.name == name), None)


def _grafted(old: Any, new: Any, path: Path) -> Any:  # noqa: ANN401  any part of a spec
    """Return the old part with one field of the new one."""
    wanted = path[0].partition("[")[0]
    names = {info.alias or name: name for name, info in type(old).model_fields.items()}
    name = names[wanted]
    ours, theirs = getattr(old, name), getattr(new, name)
    nested = len(path) > 1 and isinstance(ours, BaseModel) and isinstance(theirs, BaseModel)
    value = _grafted(ours, theirs, path[1:]) if nested else theirs
    return old.model_copy(update={name: value})
