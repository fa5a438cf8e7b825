"""The Kubernetes objects around a ModelDeployment, ready to be applied.

Everything is rendered in one order and nothing depends on a clock, so that the same wish is the
same bytes: applied twice, it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flambeau_operator.names import (
    API_VERSION,
    GRPC_PORT,
    INFERENCE_PORT,
    KIND,
    MANAGEMENT_PORT,
    METRICS_PORT,
    QUEUE_LABEL,
    RUNTIME_ANNOTATION,
    labels_of,
    pod_selector,
)
from flambeau_operator.plan.children import Children, runtime_hash
from flambeau_operator.plan.handover import replica_steps
from flambeau_operator.plan.pod_template import choose_image, has_accelerators, make_pod_template
from flambeau_operator.plan.site import OPERATOR_LABELS, Live, OwnerRef, Site

Manifest = dict[str, Any]

SERVICE_ACCOUNT: Final = ("v1", "ServiceAccount")
SERVICE: Final = ("v1", "Service")
NETWORK_POLICY: Final = ("networking.k8s.io/v1", "NetworkPolicy")
BUDGET: Final = ("policy/v1", "PodDisruptionBudget")
DEPLOYMENT: Final = ("apps/v1", "Deployment")
AUTOSCALER: Final = ("autoscaling/v2", "HorizontalPodAutoscaler")

DEFAULT_CPU_PERCENT: Final = 80
REVISIONS_KEPT: Final = 2  # a spec is rolled back by writing the old one again


def make_manifests(
    owner: OwnerRef, children: Children, site: Site, live: Live
) -> tuple[Manifest, ...]:
    """Return every child that should exist now, in the order in which they are applied.

    The committed set (ConfigMap NAME-models) is not among them: it is written at a commit.
    """
    steps = replica_steps(children, live)
    found = [
        _service_account(owner, site),
        _service(owner, children),
        _network_policy(owner, children, site)
        if children.spec.network_policy == "Managed"
        else None,
        _budget(owner) if _has_budget(children) else None,
        _deployment(owner, children, site, live),
        _autoscaler(owner, children) if steps.apply_autoscaler else None,
    ]
    return tuple(each for each in found if each is not None)


def obsolete(children: Children) -> tuple[tuple[str, str], ...]:
    """Return apiVersion and kind of the optional children that must not exist."""
    unwanted = (
        (children.spec.network_policy == "None", NETWORK_POLICY),
        (not _has_budget(children), BUDGET),
        (not children.autoscaled, AUTOSCALER),
    )
    return tuple(kind for is_unwanted, kind in unwanted if is_unwanted)


def _service_account(owner: OwnerRef, site: Site) -> Manifest:
    """Return the account without rights; it brings the pull secrets, which so can change live."""
    account = _manifest(SERVICE_ACCOUNT, owner) | {"automountServiceAccountToken": False}
    if site.image_pull_secrets:
        account["imagePullSecrets"] = [{"name": each} for each in sorted(site.image_pull_secrets)]
    return account


def _service(owner: OwnerRef, children: Children) -> Manifest:
    service = _manifest(SERVICE, owner)
    if children.spec.service.annotations:
        service["metadata"]["annotations"] = dict(sorted(children.spec.service.annotations.items()))
    service["spec"] = {
        "type": children.spec.service.type,
        # With one address family this is as SingleStack; with two, pods answer on both.
        "ipFamilyPolicy": "PreferDualStack",
        "selector": pod_selector(owner.name),
        "ports": [_port("http", children.service_port, INFERENCE_PORT, "http")],
    }
    if children.spec.runtime.grpc:
        # Without the word, meshes and gateways take the port for HTTP/1.1 or for bytes.
        service["spec"]["ports"].append(_port("grpc", GRPC_PORT, GRPC_PORT, "kubernetes.io/h2c"))
    return service


def _port(name: str, port: int, target: int, protocol: str) -> dict[str, Any]:
    return {
        "name": name,
        "port": port,
        "protocol": "TCP",
        "targetPort": target,
        "appProtocol": protocol,
    }


def _network_policy(owner: OwnerRef, children: Children, site: Site) -> Manifest:
    """Return the policy: whoever may predict and scrape, the operator alone may manage.

    Probes come from the node, which policies do not hold back.
    """
    operator = {
        "namespaceSelector": {
            "matchLabels": {"kubernetes.io/metadata.name": site.operator_namespace}
        },
        "podSelector": {"matchLabels": dict(OPERATOR_LABELS)},
    }
    open_ports = [_tcp(INFERENCE_PORT), _tcp(METRICS_PORT)]
    if children.spec.runtime.grpc:
        open_ports.append(_tcp(GRPC_PORT))
    spec = {
        "podSelector": {"matchLabels": pod_selector(owner.name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": open_ports},
            {"from": [operator], "ports": [_tcp(MANAGEMENT_PORT)]},
        ],
    }
    return _manifest(NETWORK_POLICY, owner) | {"spec": spec}


def _tcp(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "TCP"}


def _has_budget(children: Children) -> bool:
    wanted = children.spec.disruption.pod_disruption_budget == "Auto"
    return wanted and children.most > 1


def _budget(owner: OwnerRef) -> Manifest:
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": pod_selector(owner.name)},
        # A pod that serves nothing protects nothing: it must not hold up a node's drain.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return _manifest(BUDGET, owner) | {"spec": spec}


def _deployment(owner: OwnerRef, children: Children, site: Site, live: Live) -> Manifest:
    spec = children.spec
    deployment = _manifest(DEPLOYMENT, owner)
    deployment["metadata"]["annotations"] = {RUNTIME_ANNOTATION: runtime_hash(spec.runtime)}
    if spec.scheduling.queue_name and site.queues_served:
        deployment["metadata"]["labels"][QUEUE_LABEL] = spec.scheduling.queue_name
    replicas = replica_steps(children, live).replicas
    image = choose_image(spec, site, live)
    deployment["spec"] = {
        **({} if replicas is None else {"replicas": replicas}),
        "selector": {"matchLabels": pod_selector(owner.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling_update(children)},
        "progressDeadlineSeconds": max(1, round(spec.rollout.progress_deadline_s)),
        "revisionHistoryLimit": REVISIONS_KEPT,
        "template": make_pod_template(owner, children, site, image),
    }
    return deployment


def _rolling_update(children: Children) -> dict[str, Any]:
    """Return how pods are replaced: a new one first, unless it would wait for the old one's device.

    A single pod with a device is replaced with a gap too: where every device is taken, its
    successor would wait for ever.
    """
    if has_accelerators(children.spec.resources):
        return {"maxSurge": 0, "maxUnavailable": 1}
    return {"maxSurge": "25%", "maxUnavailable": 0}


def _autoscaler(owner: OwnerRef, children: Children) -> Manifest | None:
    wished = children.autoscaler
    if wished is None:
        return None
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT[0], "kind": DEPLOYMENT[1], "name": owner.name},
        "minReplicas": wished.min,
        "maxReplicas": wished.max,
        "metrics": list(wished.metrics) or _default_metrics(),
    }
    if wished.behavior:
        spec["behavior"] = wished.behavior
    return _manifest(AUTOSCALER, owner) | {"spec": spec}


def _default_metrics() -> Sequence[dict[str, Any]]:
    target = {"type": "Utilization", "averageUtilization": DEFAULT_CPU_PERCENT}
    return [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def _manifest(kind: tuple[str, str], owner: OwnerRef) -> Manifest:
    return {
        "apiVersion": kind[0],
        "kind": kind[1],
        "metadata": {
            "name": owner.name,
            "namespace": owner.namespace,
            "labels": labels_of(owner.name),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
    }
