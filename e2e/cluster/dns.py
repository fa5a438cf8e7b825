"""Names in the cluster: CoreDNS, as a process of the node."""

import contextlib
import http.client
import json

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.programs import Programs

ADDRESS = "10.96.0.10"
USER = "flambeau:dns"
USERS = {"dns": (USER, "")}
READY_PORT = 8181


def start(control_plane: ControlPlane, behind: str, programs: Programs) -> None:
    """Start CoreDNS on the node whose address is `behind`, and wait until it knows the cluster."""
    control_plane.kubectl("apply", "-f", "-", given=json.dumps(_objects(behind)))
    corefile = control_plane.place.root / "Corefile"
    corefile.write_text(f"""
.:53 {{
    errors
    ready :{READY_PORT}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {control_plane.kubeconfig_of("dns")}
    }}
}}
""")
    programs.start("coredns", [control_plane.binaries / "coredns", f"-conf={corefile}"])
    programs.wait_until("names are answered", _ready, 60)


def _ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", READY_PORT, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    return False


def _objects(behind: str) -> dict[str, object]:
    name = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [
        {"name": f"dns-{kind}", "port": 53, "protocol": kind.upper()} for kind in ("udp", "tcp")
    ]
    rbac = "rbac.authorization.k8s.io"
    reads = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]},
    ]
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": name,
                "spec": {"clusterIP": ADDRESS, "ports": ports},
            },
            {
                # Behind it is no pod: the Service has no selector, and we say who answers.
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": name | {"labels": {"kubernetes.io/service-name": "kube-dns"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [behind]}],
                "ports": ports,
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": USER},
                "rules": [rule | {"verbs": ["list", "watch"]} for rule in reads],
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": USER},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": USER},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": USER}],
            },
        ],
    }
