"""What manifests depend on besides the wish: the cluster's operator, and what runs already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OPERATOR_LABELS: Final = {
    "app.kubernetes.io/name": "flambeau",
    "app.kubernetes.io/component": "operator",
}
"""The operator's own pods: nobody else may reach the pods' management port."""


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """The ModelDeployment that every child belongs to."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Site:
    """This installation of the operator, and what its cluster can do."""

    operator_namespace: str
    default_image: str  # for deployments that name none
    default_pull_policy: str | None = None  # goes with the default image; None: spec.runtime's
    image_pull_secrets: tuple[str, ...] = ()
    image_volumes_served: bool = False
    queues_served: bool = False  # Kueue's LocalQueue


@dataclass(frozen=True, slots=True)
class Live:
    """The Deployment and the autoscaler as they are now; the defaults say that there are none."""

    exists: bool = False
    image: str | None = None  # of the container `runtime`
    pull_policy: str | None = None  # of the container `runtime`
    runtime_hash: str | None = None  # the annotation `names.RUNTIME_ANNOTATION`
    replicas: int | None = None  # spec.replicas
    owns_replicas: bool = False  # managedFields name our manager for f:spec.f:replicas
    hpa_exists: bool = False  # an autoscaler of ours, being deleted or not
