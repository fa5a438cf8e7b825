"""ModelDeployments as people write them: YAML files, and where in the file each field stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, counted from 1 as editors do."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document of a file.

    `positions` maps field paths as InvalidSpec names them ("spec.models[0].version") to where the
    key, or the item of a list, begins. `folder` is where ConfigMaps and claims are looked for.
    """

    file: str
    folder: Path
    body: Mapping[str, Any]
    positions: Mapping[str, Position]

    def position(self, path: str) -> Position:
        """Return where the field is; for one that is missing, where its nearest parent is."""
        while path and path not in self.positions:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.positions[path]

    def on_this_machine(self) -> Manifest:
        """Return the manifest with every source where this machine has it: see `local_uri`.

        What opens a source is what this machine's environment has: there are no Secrets here.
        """
        body = _with_sources(
            self.body,
            lambda source: {
                key: local_uri(value, self.folder) if key == "uri" else value
                for key, value in source.items()
                if key != "credentials"
            },
        )
        return replace(self, body=body)


class UnreadableManifest(Exception):
    """A file, or a document in it, is not what YAML and JSON call an object."""

    def __init__(self, file: str, position: Position, message: str) -> None:
        super().__init__(f"{file}:{position.line}:{position.column}: {message}")
        self.file = file
        self.position = position
        self.message = message


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a date stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_manifests(file: Path) -> tuple[Manifest, ...]:
    """Return the documents of a file, empty ones left out.

    A source that is a path, or a `file://` that is relative, is read from the file's own folder and
    becomes an absolute URI.

    Raises:
        UnreadableManifest: the file cannot be read, is not YAML, or has no object in it.
    """
    name = str(file)
    try:
        text = file.read_text(encoding="utf-8")
        manifests = tuple(_documents(name, text, file.absolute().parent))
    except yaml.YAMLError as error:
        raise UnreadableManifest(name, *_yaml_problem(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableManifest(name, Position(1, 1), f"cannot be read: {error}") from error
    if not manifests:
        raise UnreadableManifest(name, Position(1, 1), "there is no ModelDeployment in this file")
    return manifests


def _documents(name: str, text: str, folder: Path) -> Iterator[Manifest]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
                continue  # nothing between two `---`
            start = _position(node.start_mark)
            if not isinstance(node, yaml.MappingNode):
                raise UnreadableManifest(name, start, "expected an object (`key: value`)")
            positions = {"": start}
            _note_positions(name, node, "", positions, set())
            body = loader.construct_document(node)
            absolute = _with_sources(
                body, lambda source: {**source, "uri": absolute_uri(source["uri"], folder)}
            )
            yield Manifest(name, folder, absolute, positions)
    finally:
        loader.dispose()


def _note_positions(
    name: str, node: yaml.Node, path: str, positions: dict[str, Position], seen: set[int]
) -> None:
    """Fill in where every field below `node` is; a node met again through an alias is passed by."""
    if id(node) in seen:
        return
    seen.add(id(node))
    for step, mark, child in _children(node):
        child_path = (path + step).lstrip(".")
        if child_path in positions:
            first = positions[child_path]
            message = f"{child_path}: given twice, first on line {first.line}"
            raise UnreadableManifest(name, _position(mark), message)
        positions[child_path] = _position(mark)
        _note_positions(name, child, child_path, positions, seen)


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Mark, yaml.Node]]:
    """Yield for each child the step to it as paths spell it, where it begins, and itself."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                yield f".{key.value}", key.start_mark, value
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield f"[{index}]", item.start_mark, item


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _yaml_problem(error: yaml.YAMLError) -> tuple[Position, str]:
    """Return where the YAML goes wrong and what a reader should look for there."""
    mark = getattr(error, "problem_mark", None)
    position = Position(1, 1) if mark is None else _position(mark)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    context = getattr(error, "context", None)
    return position, f"not YAML: {problem}" + (f", {context}" if context else "")


Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes another source of one that has a `uri`."""


def _with_sources(body: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    """Return the body with every source of its models changed; odd shapes pass."""
    spec = body.get("spec")
    models = spec.get("models") if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(models, list):
        return body
    changed = [_with_own_sources(model, change) for model in models]
    return {**body, "spec": {**spec, "models": changed}}


def _with_own_sources(model: object, change: Change) -> object:
    """Return a model with the sources of its version, its split and its shadow changed."""
    if not isinstance(model, Mapping):
        return model
    changed = dict(_with_source(model, change))
    if "shadow" in model:
        changed["shadow"] = _with_source(model["shadow"], change)
    split = model.get("split")
    versions = split.get("versions") if isinstance(split, Mapping) else None
    if isinstance(split, Mapping) and isinstance(versions, list):
        others = [_with_source(each, change) for each in versions]
        changed["split"] = {**split, "versions": others}
    return changed


def _with_source(holder: Any, change: Change) -> Any:  # noqa: ANN401  any YAML
    source = holder.get("source") if isinstance(holder, Mapping) else None
    uri = source.get("uri") if isinstance(source, Mapping) else None
    if not isinstance(source, Mapping) or not isinstance(uri, str) or not uri:
        return holder
    return {**holder, "source": change(source)}


def absolute_uri(uri: str, folder: Path) -> str:
    """Return a path or relative `file://` as an absolute `file://` URI; the rest as it is."""
    relative = uri.removeprefix("file://")
    if relative.startswith("/") and relative != uri:
        return uri
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", relative):
        return uri
    # A path as people type it may hold blanks; a `file://` is escaped already.
    path = relative if relative != uri else quote(relative)
    base = quote(str(folder))
    return "file://" + _normal(path if path.startswith("/") else f"{base}/{path}")


def local_uri(uri: str, folder: Path) -> str:
    """Return where this machine has what a cluster mounts; other addresses as they are.

    `configmap://NAME/KEY` and `pvc://NAME/PATH` are looked for in the folder NAME beside the file.
    That neither leads out of it is for the parser to say, on Kubernetes as here.
    """
    scheme, _, path = uri.partition("://")
    if scheme not in {"configmap", "pvc"}:
        return uri
    return f"file://{quote(str(folder))}/{path}"


def _normal(path: str) -> str:
    """Return the path without `.` and `..`, symbolic links left as they are."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in {"", ".", ".."}:
            parts.append(part)
    return "/" + "/".join(parts)
