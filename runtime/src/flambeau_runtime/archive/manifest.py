"""What an archive says about itself: MAR-INF/MANIFEST.json and model-config.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import yaml

from flambeau_runtime.errors import ArchiveInvalid

MANIFEST = "MAR-INF/MANIFEST.json"
CONFIG = "model-config.yaml"
NO_VERSION = "1.0"
RUNTIMES = ("python", "python3", "LSP")
DEEPEST = 300  # orjson writes 254 levels
MOST_VALUES = 100_000
LARGEST_TEXT = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Declared:
    """What a request or a document says in the manifest's place; None: nothing.

    `default_handler` is the handler of a manifest that names none.
    """

    model: str | None = None
    version: str | None = None
    handler: str | None = None
    default_handler: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose needed fields are known to make sense."""

    model: str
    version: str
    handler: str
    content: Mapping[str, Any]  # all of it, as the handler sees it
    config_file: str | None


def read_manifest(directory: Path, name: str, declared: Declared = Declared()) -> Manifest:
    """Read the manifest of an extracted archive.

    An archive without one is fine as long as `declared` names the model and its handler.

    Raises:
        ArchiveInvalid: not JSON, or a field is missing or has the wrong type.
    """
    path = directory / MANIFEST
    content = _read_json(path, name) if path.is_file() else {}
    model = content.get("model", {})
    if not isinstance(model, dict):
        raise ArchiveInvalid(f"{name}: {MANIFEST}: model must be an object")
    if content.get("runtime", RUNTIMES[0]) not in RUNTIMES:
        raise ArchiveInvalid(
            f"Runtime is not defined or invalid. {name}: {MANIFEST}: runtime must be one of "
            f"{', '.join(RUNTIMES)}"
        )
    fields = _Fields(name, model)
    model_name = declared.model or fields.text("modelName")
    if not model_name:
        raise ArchiveInvalid(
            f"Model name is not defined. {name} has no {MANIFEST} with model.modelName; make the "
            "archive with torch-model-archiver, or give a name and a handler"
        )
    handler = declared.handler or fields.text("handler") or declared.default_handler
    if not handler:
        raise ArchiveInvalid(f"{name}: {MANIFEST}: model.handler is missing; name a handler")
    version = declared.version or fields.text("modelVersion") or NO_VERSION
    _check_handler(directory, name, handler)
    check_json(name, MANIFEST, content)
    seen = {**content, "model": {**model, "modelName": model_name, "handler": handler}}
    seen["model"].setdefault("modelVersion", version)
    for key in ("serializedFile", "modelFile"):
        fields.file(key)
    config_file = fields.file("configFile")
    if config_file is None and not path.is_file() and (directory / CONFIG).is_file():
        config_file = CONFIG
    return Manifest(model_name, version, handler, seen, config_file)


def read_config(directory: Path, name: str, config_file: str | None) -> Mapping[str, Any]:
    """Read model-config.yaml; empty if the archive has none.

    Raises:
        ArchiveInvalid: missing though the manifest names it, not YAML (with the line), no mapping.
    """
    if config_file is None:
        return {}
    try:
        config = yaml.safe_load(_read_text(directory / config_file, name))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        why = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ArchiveInvalid(f"{name}: {config_file}{line}: {why}") from error
    except RecursionError as error:
        raise ArchiveInvalid(f"{name}: {config_file}: nested too deeply") from error
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise ArchiveInvalid(
            f"{name}: {config_file} must be a mapping of keys to values, not a "
            f"{type(config).__name__}"
        )
    _check_expansion(name, config_file, config)
    check_json(name, config_file, to_json_types(config))
    return config


def to_json_types(value: object, room: int = DEEPEST) -> Any:  # noqa: ANN401  JSON at a border
    """Return YAML's value in JSON's types: keys and dates become text, what is too deep, too."""
    if not room:
        return str(type(value))
    if isinstance(value, dict):
        return {str(key): to_json_types(item, room - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_json_types(item, room - 1) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def check_json(name: str, file: str, value: object) -> None:
    """Refuse what the front could not pass on to a worker as JSON: it is no number, or too deep."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ArchiveInvalid(f"{name}: {file} cannot be passed on as JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class _Fields:
    """The manifest's `model`, read with care."""

    name: str
    model: Mapping[str, Any]

    def text(self, key: str) -> str | None:
        value = self.model.get(key)
        if value is None or isinstance(value, str):
            return value or None
        if key == "modelVersion" and isinstance(value, (int, float)):
            return str(value)  # written by hand: 1.0 without its quotes
        raise ArchiveInvalid(f"{self.name}: {MANIFEST}: model.{key} must be a string")

    def file(self, key: str) -> str | None:
        value = self.text(key)
        if value is not None:
            check_inside(self.name, f"model.{key}", value)
        return value


def check_inside(name: str, what: str, value: str) -> None:
    """Refuse a path that leaves the archive."""
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveInvalid(f"{name}: {MANIFEST}: {what} {value!r} points outside the archive")


def _check_expansion(name: str, config_file: str, config: object) -> None:
    """Refuse a document whose aliases unfold into more than anyone would write."""
    seen = 0
    waiting = [config]
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise ArchiveInvalid(f"{name}: {config_file}: more than {MOST_VALUES} values")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value


def _check_handler(directory: Path, name: str, handler: str) -> None:
    file = handler.partition(":")[0]
    check_inside(name, "model.handler", file)
    if file.endswith(".py") and not (directory / file).is_file():
        raise ArchiveInvalid(
            f"{name}: the handler {file} is not in the archive; pass it to torch-model-archiver "
            "with --handler"
        )


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path, name))
    except (ValueError, RecursionError) as error:
        raise ArchiveInvalid(f"{name}: {MANIFEST} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArchiveInvalid(f"{name}: {MANIFEST} must be an object")
    return content


def _read_text(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise ArchiveInvalid(f"{name}: {path.name} is larger than {LARGEST_TEXT} bytes")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ArchiveInvalid(
            f"{name}: {path.name} is not in the archive, though the manifest names it"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveInvalid(f"{name}: {path.name} cannot be read: {error}") from error
