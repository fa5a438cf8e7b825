"""The Open Inference Protocol (v2) beside inference: what server and models are, and their health.

`infer` itself is a prediction like every other: the handler gets the body as it was sent, and its
answer goes out as it is, unless an envelope of the model's turns tensors into rows and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from flambeau_runtime.errors import ModelNotFound, RuntimeFault, VersionNotFound
from flambeau_runtime.serving.catalogue import Catalogue

EXTENSIONS = ["kserve", "kubeflow"]
SERVER = {
    "name": "Torchserve",
    "version": "0.12.0",
    "extenstion": EXTENSIONS,  # TorchServe's spelling
    "extensions": EXTENSIONS,  # the protocol's
}
OK = 200
UNAVAILABLE = 503


class Said(NamedTuple):
    """An answer: its status and its JSON."""

    status: int
    content: dict[str, Any]


def is_health(segments: Sequence[str]) -> bool:
    """Return whether a path under /v2 is a probe's: those are open to everybody."""
    return segments[1:2] == ["health"] or segments[-1] == "ready"


def answer(catalogue: Catalogue, segments: Sequence[str]) -> Said | None:
    """Return what a path under /v2 says; None for one that does not exist.

    Raises:
        ModelNotFound, VersionNotFound: no such model or version.
    """
    match segments[1:]:
        case []:
            return Said(OK, SERVER)
        case ["health", "live"]:
            return Said(OK, {"live": True})
        case ["health", "ready"]:
            ready = catalogue.report().ready
            return Said(OK if ready else UNAVAILABLE, {"ready": ready})
        case ["models", name, *rest]:
            return _of_model(catalogue, name, rest)
        case _:
            return None


def _of_model(catalogue: Catalogue, name: str, rest: Sequence[str]) -> Said | None:
    match rest:
        case []:
            return describe(catalogue, name, None)
        case ["ready"]:
            return _readiness(catalogue, name, None)
        case ["versions", version]:
            return describe(catalogue, name, version)
        case ["versions", version, "ready"]:
            return _readiness(catalogue, name, version)
        case _:
            return None


def describe(catalogue: Catalogue, name: str, version: str | None) -> Said:
    """Return a model's metadata; handlers say nothing of their tensors.

    Raises:
        ModelNotFound, VersionNotFound: no such model or version.
    """
    versions = _versions(catalogue, name, version)
    content = {
        "name": name,
        "versions": list(versions),
        "platform": "pytorch",
        "inputs": [],
        "outputs": [],
    }
    return Said(OK, content)


def _readiness(catalogue: Catalogue, name: str, version: str | None) -> Said:
    _versions(catalogue, name, version)
    ready = is_ready(catalogue, name, version)
    return Said(OK if ready else UNAVAILABLE, {"name": name, "ready": ready})


def is_ready(catalogue: Catalogue, name: str, version: str | None) -> bool:
    """Return whether a version (None: the default one) has a worker and takes requests."""
    try:
        live = catalogue.route(name, version)
    except RuntimeFault:
        return False
    return live.counts().ready > 0


def _versions(catalogue: Catalogue, name: str, version: str | None) -> tuple[str, ...]:
    model = catalogue.model(name)
    if model is None:
        raise ModelNotFound(name)
    versions = tuple(spec.version for spec in model.versions)
    if version is None:
        return versions
    if version not in versions:
        raise VersionNotFound(name, version)
    return (version,)
