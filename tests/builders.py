"""Readable defaults: a test names only what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flambeau_operator.resources.deployment_status import Status
from flambeau_operator.resources.model_deployment import ModelDeployment, parse

UID = "6f1a0c1e-0000-4000-8000-000000000001"
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return a moment counted from noon."""
    return NOON + timedelta(seconds=seconds)


def archive(name: str, version: str) -> str:
    """Return the usual address of an archive."""
    return f"file:///models/{name}-{version}.mar"


def model_body(name: str = "classifier", version: str = "1.0", **changes: Any) -> dict[str, Any]:
    """Return one entry of spec.models."""
    source = {"uri": archive(name, version)}
    return {"name": name, "version": version, "source": source, **changes}


def deployment_body(
    *models: Mapping[str, Any], metadata: Mapping[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """Return a ModelDeployment as it is written in a file; keywords are fields of the spec."""
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "vision", "uid": UID, "generation": 1, **(metadata or {})},
        "spec": {"models": list(models or (model_body(),)), **spec},
    }


def a_deployment(
    *models: Mapping[str, Any],
    status: Status | None = None,
    metadata: Mapping[str, Any] | None = None,
    **spec: Any,
) -> ModelDeployment:
    """Return a parsed ModelDeployment."""
    body = deployment_body(*models, metadata=metadata, **spec)
    return parse({**body, "status": status.to_json() if status else None})
