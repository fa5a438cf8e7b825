"""TorchServe's metrics file (`metrics_config`, metrics.yaml) → the families that are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Family, MetricsFile

KINDS = ("counter", "gauge", "histogram")
LARGEST_FILE = 1024 * 1024


def read_named(name: str) -> MetricsFile:
    """Return what the file of that name declares; as `read`."""
    return read(Path(name))


def read(path: Path) -> MetricsFile:
    """Return what a metrics file declares.

    Raises:
        InvalidSettings: it cannot be read, or it says something that cannot be.
    """
    document = _load(path)
    sections = {name: document.get(name) for name in ("ts_metrics", "model_metrics")}
    if not any(sections.values()):
        raise _broken(path, "it declares nothing under ts_metrics or model_metrics")
    front, model = (
        tuple(_families(path, name, section or {})) for name, section in sections.items()
    )
    return MetricsFile(front, model)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise _broken(path, f"it has more than {LARGEST_FILE} bytes")
        document = yaml.safe_load(text)
    except OSError as error:
        raise _broken(path, f"it cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise _broken(path, f"it is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise _broken(path, "it is not a mapping of ts_metrics and model_metrics")
    return document


def _families(path: Path, section: str, kinds: object) -> Iterator[Family]:
    if not isinstance(kinds, dict):
        raise _broken(path, f"{section} is not a mapping of {', '.join(KINDS)}")
    for kind, entries in kinds.items():
        if kind not in KINDS:
            raise _broken(path, f"{section}.{kind}: a kind is one of {', '.join(KINDS)}")
        if not isinstance(entries or [], list):
            raise _broken(path, f"{section}.{kind} is not a list")
        for number, entry in enumerate(entries or []):
            yield _family(path, f"{section}.{kind}[{number}]", str(kind), entry)


def _family(path: Path, where: str, kind: str, entry: object) -> Family:
    if not isinstance(entry, dict):
        raise _broken(path, f"{where} is not a mapping of name, unit and dimensions")
    missing = [key for key in ("name", "unit", "dimensions") if entry.get(key) is None]
    if missing:
        raise _broken(path, f"{where} has no {' and no '.join(missing)}")
    dimensions = entry["dimensions"]
    if not isinstance(dimensions, list):
        raise _broken(path, f"{where}.dimensions is not a list of names")
    return Family(str(entry["name"]), kind, str(entry["unit"]), tuple(map(str, dimensions)))


def _broken(path: Path, why: str) -> InvalidSettings:
    return InvalidSettings(f"metrics_config={path} cannot be: {why}")
