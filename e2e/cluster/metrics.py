"""Figures of CPU and memory, for `kubectl top` and HorizontalPodAutoscalers: metrics-server."""

import json

from e2e.cluster import behind
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.programs import Programs

USER = "flambeau:metrics"
USERS = {"metrics": (USER, "")}
PORT = 4443
API = "v1beta1.metrics.k8s.io"


def start(control_plane: ControlPlane, address: str, programs: Programs) -> None:
    """Start it on the node with that address, and wait until the API server finds it."""
    control_plane.kubectl("apply", "-f", "-", given=json.dumps(_objects(address)))
    programs.start(
        "metrics-server",
        [
            control_plane.binaries / "metrics",
            f"-kubeconfig={control_plane.kubeconfig_of('metrics')}",
            f"-address={address}",
            f"-port={PORT}",
            f"-cert-dir={control_plane.place.root / 'metrics-certificates'}",
            "-resolution=10s",
        ],
    )
    # While it cannot be found, every namespace that is deleted hangs: what it holds is unknown.
    programs.wait_until(
        "metrics are served",
        lambda: control_plane.get("/apis/metrics.k8s.io/v1beta1")[0] == 200,
        60,
    )


def _objects(address: str) -> behind.Object:
    ports: list[behind.Object] = [{"name": "https", "port": 443, "protocol": "TCP"}]
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "service": {"name": "metrics-server", "namespace": "kube-system"},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    reader = {
        "apiVersion": f"{behind.RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": USER, "namespace": "kube-system"},
        "roleRef": {
            "apiGroup": behind.RBAC,
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [{"apiGroup": behind.RBAC, "kind": "User", "name": USER}],
    }
    rules: list[behind.Object] = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    return behind.together(
        *behind.service("metrics-server", address, ports, PORT),
        *behind.role(USER, rules),
        behind.binding(USER, "system:auth-delegator"),
        reader,
        api,
    )
