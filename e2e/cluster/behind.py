"""Services of the cluster whose server is a process of the node, not a pod."""

from collections.abc import Mapping, Sequence

RBAC = "rbac.authorization.k8s.io"
Object = Mapping[str, object]


def service(
    name: str, address: str, ports: Sequence[Object], target: int, **spec: object
) -> list[Object]:
    """Return a Service in kube-system without a selector, and who is behind it.

    Args:
        name: the Service's.
        address: where the process listens.
        ports: name, port and protocol of each.
        target: the port that the process listens on.
        spec: further fields of the Service.
    """
    metadata = {"name": name, "namespace": "kube-system"}
    behind = [
        {"name": port["name"], "port": target, "protocol": port["protocol"]} for port in ports
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [*ports], **spec},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": behind,
        },
    ]


def role(user: str, rules: Sequence[Object]) -> list[Object]:
    """Return a ClusterRole of that user's name, bound to it."""
    role = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": user},
        "rules": [*rules],
    }
    return [role, binding(user, user)]


def binding(user: str, role: str) -> Object:
    """Return what gives a ClusterRole to a user."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{user}:{role}"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    }


def together(*objects: Object) -> Object:
    """Return one List of them all."""
    return {"apiVersion": "v1", "kind": "List", "items": [*objects]}
