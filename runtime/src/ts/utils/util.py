"""`ts.utils.util`: what third-party handlers import from there."""

from __future__ import annotations

import functools
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import yaml

from flambeau_runtime.worker.compile_backends import PT2Backend, is_known_backend
from flambeau_runtime.worker.entry_point import classes_of
from flambeau_runtime.worker.refusal import PredictionException

__all__ = [
    "CLEANUP_REGEX",
    "PT2Backend",
    "PredictionException",
    "check_valid_pt2_backend",
    "deprecated",
    "get_yaml_config",
    "list_classes_from_module",
    "load_label_mapping",
    "map_class_to_label",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

CLEANUP_REGEX = re.compile(r"<.*?>|&(?:[a-z0-9]+|#[0-9]{1,6}|#x[0-9a-f]{1,6});")
"""HTML: tags, and entities by name or number."""

check_valid_pt2_backend = is_known_backend


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
        logger.warning("%s is missing: results name classes by their index", path.name)
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
    if mapping is not None and not isinstance(mapping, dict):
        raise TypeError("the mapping must be a dict of class index (as text) to label")
    if lbl_classes is None:
        lbl_classes = [range(len(row)) for row in probs]
    return [
        {
            str(index) if mapping is None else mapping[str(index)]: probability
            for index, probability in zip(classes, row, strict=False)
        }
        for classes, row in zip(lbl_classes, probs, strict=False)
    ]


def get_yaml_config(yaml_file_path: str) -> Any:  # noqa: ANN401  whatever the file holds
    """Read a YAML file, plain types only."""
    return yaml.safe_load(Path(yaml_file_path).read_text(encoding="utf-8"))


def deprecated(
    version: str, replacement: str = "", klass: type[Warning] = PendingDeprecationWarning
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Warn, whenever the decorated function is called, that `replacement` took its place."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def warned(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(
                f"{function.__name__} is deprecated since {version}; use {replacement}",
                klass,
                stacklevel=2,
            )
            return function(*args, **kwargs)

        return warned

    return decorate


def _label(file: str, value: object) -> str:
    label = value[-1] if isinstance(value, list) and value else value
    if not isinstance(label, str):
        raise TypeError(f"{file}: a label must be text, or a list that ends in text: {value!r}")
    return label
