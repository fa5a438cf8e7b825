"""The kinds of objects that are read or written, and where the API server has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flambeau_operator import names


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object, namespaced as all of ours are."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str = "", part: str = "") -> str:
        """Return the path of a collection, an object or a part of one (`status`).

        Args:
            namespace: None is every namespace; only a collection can be asked for that way.
            name: of the object; empty is the collection.
            part: a subresource.
        """
        root = "/api" if "/" not in self.api_version else "/apis"
        where = f"/namespaces/{namespace}" if namespace is not None else ""
        return "/".join(
            each for each in (f"{root}/{self.api_version}{where}", self.plural, name, part) if each
        )


MODEL_DEPLOYMENTS: Final = Kind(names.API_VERSION, names.KIND, "modeldeployments")
DEPLOYMENTS: Final = Kind("apps/v1", "Deployment", "deployments")
SERVICES: Final = Kind("v1", "Service", "services")
CONFIG_MAPS: Final = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNTS: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
BUDGETS: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
POLICIES: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
AUTOSCALERS: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
PODS: Final = Kind("v1", "Pod", "pods")
EVENTS: Final = Kind("v1", "Event", "events")
SECRETS: Final = Kind("v1", "Secret", "secrets")
LEASES: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")

CHILDREN: Final = (
    SERVICE_ACCOUNTS,
    SERVICES,
    POLICIES,
    BUDGETS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    AUTOSCALERS,
)
"""What a ModelDeployment has around it, in the order in which it is made."""
