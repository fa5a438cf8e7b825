"""`ts.utils.util`: what third-party handlers import from there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from flambeau_runtime.worker.entry_point import classes_of
from flambeau_runtime.worker.refusal import PredictionException

__all__ = [
    "PredictionException",
    "list_classes_from_module",
    "load_label_mapping",
    "map_class_to_label",
]


def list_classes_from_module(module: ModuleType, parent_class: type | None = None) -> list[type]:
    """Return the classes defined in a module, if asked only those below `parent_class`."""
    found = classes_of(module)
    return [cls for cls in found if parent_class is None or issubclass(cls, parent_class)]


def load_label_mapping(mapping_file_path: str) -> dict[str, str] | None:
    """Read index_to_name.json: class index (as text) to label; None without such a file.

    A value may be a list, whose last entry is the label; `{"object_type_names": [...]}` numbers its
    labels from 0.

    Raises:
        TypeError: no such mapping.
    """
    path = Path(mapping_file_path)
    if not path.is_file():
        return None
    mapping = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise TypeError(f"{path.name} must be an object of class indices and labels")
    names = mapping.get("object_type_names")
    if isinstance(names, list):
        return {str(index): name for index, name in enumerate(names)}
    return {key: _label(path.name, value) for key, value in mapping.items()}


def map_class_to_label(
    probs: Sequence[Sequence[float]],
    mapping: Mapping[str, str] | None = None,
    lbl_classes: Iterable[Iterable[Any]] | None = None,
) -> list[dict[str, float]]:
    """Return one dict of label → probability per row.

    `lbl_classes` names the class of every probability; without it their positions count.
    """
    if not isinstance(probs, list):
        raise TypeError("probabilities must be a list of lists")
    if lbl_classes is None:
        lbl_classes = [range(len(row)) for row in probs]
    return [
        {
            str(index) if mapping is None else mapping[str(index)]: probability
            for index, probability in zip(classes, row, strict=False)
        }
        for classes, row in zip(lbl_classes, probs, strict=False)
    ]


def _label(file: str, value: object) -> str:
    label = value[-1] if isinstance(value, list) and value else value
    if not isinstance(label, str):
        raise TypeError(f"{file}: a label must be text, or a list that ends in text: {value!r}")
    return label
