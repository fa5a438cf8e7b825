"""Names in the cluster: CoreDNS, as a process of the node."""

import contextlib
import http.client
import json

from e2e.cluster import behind
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.programs import Programs

ADDRESS = "10.96.0.10"
USER = "flambeau:dns"
USERS = {"dns": (USER, "")}
READY_PORT = 8181


def start(control_plane: ControlPlane, address: str, programs: Programs) -> None:
    """Start CoreDNS on the node with that address, and wait until it knows the cluster."""
    control_plane.kubectl("apply", "-f", "-", given=json.dumps(_objects(address)))
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


def _objects(address: str) -> behind.Object:
    ports = [
        {"name": f"dns-{kind}", "port": 53, "protocol": kind.upper()} for kind in ("udp", "tcp")
    ]
    watched = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": watched},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watched},
    ]
    return behind.together(
        *behind.service("kube-dns", address, ports, 53, clusterIP=ADDRESS),
        *behind.role(USER, rules),
    )
