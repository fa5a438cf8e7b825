"""Which envelope stands between the server and a handler, and how it is put there.

`envelope` of model-config.yaml has the first word (null: none); then `service_envelope` of
config.properties holds for every model. What a manifest says has no effect, as in TorchServe.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from flambeau_runtime.worker.entry_point import EntryPoint, NoEntryPoint, classes_of

NAMES = ("body", "json", "kserve", "kservev2")


def choose(config: Mapping[str, Any], of_server: str | None) -> str | None:
    """Return the name of a model's envelope, or None.

    Raises:
        NoEntryPoint: model-config.yaml names one that does not exist.
    """
    if "envelope" not in config:
        return of_server or None
    name = config["envelope"]
    if name is not None and name not in NAMES:
        raise NoEntryPoint(f"model-config.yaml: {complaint(name)}")
    return str(name) if name is not None else None


def wrap(entry_point: EntryPoint, name: str) -> EntryPoint:
    """Return the entry point with an envelope around each batch; loading goes by it."""
    module = importlib.import_module(f"ts.torch_handler.request_envelope.{name}")
    (envelope,) = classes_of(module)
    return dataclasses.replace(entry_point, handle=envelope(entry_point.handle).handle)


def complaint(name: object) -> str:
    """Return the words about an envelope that does not exist."""
    near = difflib.get_close_matches(str(name), NAMES, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"envelope {name!r} is none of {', '.join(NAMES)}{guess}"
