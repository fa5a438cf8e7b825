"""`spec.podTemplate`: a strategic merge patch of the pod template, applied last.

Lists whose items have a key in core/v1 are merged by it, every other list is replaced, and
`$patch: delete` takes an item out. What Flambeau itself relies on cannot be patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flambeau_operator.errors import FieldProblem
from flambeau_operator.names import GROUP, MANAGED_BY, RUNTIME_CONTAINER
from flambeau_operator.plan.volumes import BOOT, BOOT_FOLDER, STATE, STATE_FOLDER

DIRECTIVE: Final = "$patch"
PATH: Final = "spec.podTemplate"

MERGE_KEYS: Final[Mapping[str, str]] = {
    "spec.containers": "name",
    "spec.containers.env": "name",
    "spec.containers.ports": "containerPort",
    "spec.containers.volumeMounts": "mountPath",
    "spec.containers.volumeDevices": "devicePath",
    "spec.containers.resources.claims": "name",
    "spec.hostAliases": "ip",
    "spec.initContainers": "name",
    "spec.imagePullSecrets": "name",
    "spec.resourceClaims": "name",
    "spec.schedulingGates": "name",
    "spec.topologySpreadConstraints": "topologyKey",
    "spec.volumes": "name",
}
"""The key of each list that is merged, by its path in the template."""

MAPPINGS: Final = frozenset({"metadata", "metadata.labels", "metadata.annotations", "spec"})
"""Places in the template that we write ourselves, and not as lists."""

ONE_CHOICE: Final = frozenset({"spec.volumes", "spec.containers.env"})
"""Items that are one of several kinds: the patch's kind replaces ours, or there would be two."""

FIXED: Final[Mapping[str, str]] = {
    "command": "Flambeau starts the runtime",
    "args": "Flambeau starts the runtime; its settings are spec.runtime.config",
    "ports": "other programs find the runtime by them",
}
"""Fields of the runtime container that no patch may name, and why."""

KEPT: Final[Mapping[str, frozenset[object]]] = {
    "spec.containers": frozenset({RUNTIME_CONTAINER}),
    "spec.volumes": frozenset({BOOT, STATE}),
    "spec.containers.volumeMounts": frozenset({BOOT_FOLDER, STATE_FOLDER}),
}
"""Items that no patch may take out; volumes and mounts among them must stay as they are."""


def patched(template: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template with a patch applied that `problems` has nothing to say about."""
    return _merged(template, patch, "")


def problems(patch: Mapping[str, Any]) -> tuple[FieldProblem, ...]:
    """Return what is wrong with a patch: each place, and what to do."""
    found = (*_unknown(patch), *_walk(patch, "", PATH))
    return tuple(found)


def _merged(base: Mapping[str, Any], patch: Mapping[str, Any], path: str) -> dict[str, Any]:
    merged = dict(base)
    for key, value in patch.items():
        merged[key] = _merged_value(base.get(key), value, _below(path, key))
    return merged


def _merged_value(base: Any, value: Any, path: str) -> Any:  # noqa: ANN401  any JSON
    if isinstance(value, Mapping):
        return _merged(base if isinstance(base, Mapping) else {}, value, path)
    if isinstance(value, list | tuple) and (key := MERGE_KEYS.get(path)):
        return _merged_list(base or (), value, path, key)
    return value


def _merged_list(
    base: Sequence[Mapping[str, Any]], patch: Sequence[Mapping[str, Any]], path: str, key: str
) -> list[dict[str, Any]]:
    """Return the base's items in their order, changed, and then the patch's new ones in theirs."""
    items = {each[key]: dict(each) for each in base}
    for each in patch:
        if each.get(DIRECTIVE) == "delete":
            items.pop(each[key], None)
            continue
        held = items.get(each[key], {})
        other_kind = path in ONE_CHOICE and not set(each) <= set(held)
        items[each[key]] = _merged({} if other_kind else held, each, path)
    return list(items.values())


def _unknown(patch: Mapping[str, Any]) -> Iterator[FieldProblem]:
    for key in patch:
        if key not in {"metadata", "spec"}:
            yield FieldProblem(
                f"{PATH}.{key}", "a pod template has only metadata and spec: put it there"
            )
    metadata = patch.get("metadata")
    for key in metadata if isinstance(metadata, Mapping) else ():
        if key not in {"labels", "annotations"}:
            yield FieldProblem(
                f"{PATH}.metadata.{key}", "only labels and annotations have an effect here"
            )


def _walk(value: Any, path: str, where: str) -> Iterator[FieldProblem]:  # noqa: ANN401  any JSON
    """Yield the problems of one part of a patch.

    Args:
        value: the part.
        path: its place in the template, without list positions.
        where: its place in the object, for people.
    """
    if value is None:
        yield FieldProblem(
            where, "must not be null: leave it out, or take a list's item out with $patch: delete"
        )
    elif wrong := _wrong_shape(value, path):
        yield FieldProblem(where, wrong)
    elif isinstance(value, Mapping):
        yield from _fields(value, path, where)
    elif isinstance(value, list | tuple):
        key = MERGE_KEYS.get(_plain(path))
        for index, each in enumerate(value):
            if key:
                yield from _item(each, path, f"{where}[{index}]", key)
            else:
                yield from _walk(each, path, f"{where}[{index}]")


def _fields(part: Mapping[str, Any], path: str, where: str) -> Iterator[FieldProblem]:
    for key, each in part.items():
        yield from _field(key, path, where)
        yield from _walk(each, _below(path, key), f"{where}.{key}")


def _wrong_shape(value: Any, path: str) -> str | None:  # noqa: ANN401  any JSON
    """Say so when something else stands where a mapping or a list must."""
    if path in MAPPINGS and not isinstance(value, Mapping):
        return "must be a mapping"
    if _plain(path) in MERGE_KEYS and not isinstance(value, list | tuple):
        return "must be a list"
    return None


def _field(key: str, path: str, where: str) -> Iterator[FieldProblem]:
    if key.startswith("$"):
        yield FieldProblem(f"{where}.{key}", "only $patch: delete on a list's item is supported")
    if path in {"metadata.labels", "metadata.annotations"} and _is_ours(key):
        yield FieldProblem(f"{where}.{key}", "belongs to Flambeau: choose another name")


def _item(each: Any, path: str, where: str, key: str) -> Iterator[FieldProblem]:  # noqa: ANN401
    """Yield the problems of one item of a list that is merged by `key`."""
    if not isinstance(each, Mapping):
        yield FieldProblem(where, "must be a mapping")
        return
    if key not in each or isinstance(each[key], Mapping | list | None):
        yield FieldProblem(where, f"needs {key}, by which it is found in the list")
        return
    kept = each[key] in KEPT.get(_plain(path), frozenset())
    if DIRECTIVE in each:
        yield from _deletion(each, where, key, kept=kept)
        return
    if kept and path != "spec.containers":
        yield FieldProblem(where, f"{each[key]!r} belongs to Flambeau: choose another {key}")
        return
    is_runtime = path == "spec.containers" and each[key] == RUNTIME_CONTAINER
    for field in FIXED if is_runtime else ():
        if field in each:
            yield FieldProblem(f"{where}.{field}", f"cannot be patched: {FIXED[field]}")
    yield from _fields(each, path, where)


def _deletion(
    each: Mapping[str, Any], where: str, key: str, *, kept: bool
) -> Iterator[FieldProblem]:
    if each[DIRECTIVE] != "delete" or set(each) != {DIRECTIVE, key}:
        yield FieldProblem(
            f"{where}.{DIRECTIVE}", f"only `$patch: delete` with {key} beside it is supported"
        )
    elif kept:
        yield FieldProblem(where, f"{each[key]!r} cannot be taken out: Flambeau relies on it")


def _is_ours(name: str) -> bool:
    return name == MANAGED_BY or name.startswith(f"{GROUP}/")


def _below(path: str, key: str) -> str:
    return _plain(f"{path}.{key}" if path else key)


def _plain(path: str) -> str:
    """Return the path under which the lists of every kind of container are known."""
    return path.replace("spec.initContainers.", "spec.containers.")
