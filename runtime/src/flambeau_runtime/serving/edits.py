"""TorchServe's verbs as edits of the wanted document: pure functions, document in, document out."""

from __future__ import annotations

from dataclasses import replace

from flambeau_runtime.errors import (
    DefaultVersionProtected,
    ModelNotFound,
    VersionExists,
    VersionNotFound,
)
from flambeau_runtime.serving.desired import Document, ModelSpec, VersionSpec


def with_version(document: Document, spec: VersionSpec) -> Document:
    """Return the document with one version more; the first version of a model is its default.

    Raises:
        VersionExists: that version is wanted already.
    """
    model = _find(document, spec.model)
    if model is None:
        added = ModelSpec(name=spec.model, default=spec.version, versions=(spec,))
        return replace(document, models=(*document.models, added))
    if any(known.version == spec.version for known in model.versions):
        raise VersionExists(spec.model, spec.version)
    return _with_model(document, replace(model, versions=(*model.versions, spec)))


def without_version(document: Document, name: str, version: str | None = None) -> Document:
    """Return the document without a version (None: the default); the last takes its model along.

    Raises:
        ModelNotFound, VersionNotFound: nothing of that name is wanted.
        DefaultVersionProtected: it is the default, and others exist.
    """
    model, spec = _pick(document, name, version)
    rest = tuple(known for known in model.versions if known is not spec)
    if not rest:
        return replace(
            document, models=tuple(known for known in document.models if known is not model)
        )
    if spec.version == model.default:
        raise DefaultVersionProtected(name)
    return _with_model(document, replace(model, versions=rest))


def with_workers(document: Document, name: str, version: str | None, workers: int) -> Document:
    """Return the document with another number of workers of a version (None: the default one).

    Raises:
        ModelNotFound, VersionNotFound: nothing of that name is wanted.
    """
    model, spec = _pick(document, name, version)
    changed = replace(spec, workers=workers)
    versions = tuple(changed if known is spec else known for known in model.versions)
    return _with_model(document, replace(model, versions=versions))


def with_default(document: Document, name: str, version: str) -> Document:
    """Return the document with another default version of a model.

    Raises:
        ModelNotFound, VersionNotFound: nothing of that name is wanted.
    """
    model, spec = _pick(document, name, version)
    return _with_model(document, replace(model, default=spec.version))


def _find(document: Document, name: str) -> ModelSpec | None:
    return next((model for model in document.models if model.name == name), None)


def _pick(document: Document, name: str, version: str | None) -> tuple[ModelSpec, VersionSpec]:
    model = _find(document, name)
    if model is None:
        raise ModelNotFound(name)
    chosen = model.default if version is None else version
    for spec in model.versions:
        if spec.version == chosen:
            return model, spec
    raise VersionNotFound(name, chosen or "default")


def _with_model(document: Document, model: ModelSpec) -> Document:
    return replace(
        document,
        models=tuple(model if known.name == model.name else known for known in document.models),
    )
