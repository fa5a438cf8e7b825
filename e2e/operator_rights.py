"""What the operator may do in a cluster: the rights that its chart gives it, and no more."""

import json

RBAC = "rbac.authorization.k8s.io"
READ = ["get", "list", "watch"]
APPLY = [*READ, "create", "patch"]

FOR_MODELS = [
    {"apiGroups": ["serving.flambeau.dev"], "resources": ["modeldeployments"], "verbs": READ},
    {
        "apiGroups": ["serving.flambeau.dev"],
        "resources": ["modeldeployments/status"],
        "verbs": ["update"],
    },
    {
        "apiGroups": ["serving.flambeau.dev"],
        "resources": ["modeldeployments/finalizers"],
        "verbs": ["update"],
    },
    {"apiGroups": [""], "resources": ["configmaps", "services", "serviceaccounts"], "verbs": APPLY},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": APPLY},
    {
        "apiGroups": ["policy"],
        "resources": ["poddisruptionbudgets"],
        "verbs": [*APPLY, "delete"],
    },
    {
        "apiGroups": ["networking.k8s.io"],
        "resources": ["networkpolicies"],
        "verbs": [*APPLY, "delete"],
    },
    {
        "apiGroups": ["autoscaling"],
        "resources": ["horizontalpodautoscalers"],
        "verbs": [*APPLY, "delete"],
    },
]
FOR_ITSELF = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["flambeau-operator"],
        "verbs": ["get", "update"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["flambeau-operator-keys"],
        "verbs": ["get"],
    },
]


# Where OwnerReferencesPermissionEnforcement is on, only who may delete an object may give it an
# owner that it had not when it was made.
FOR_ADOPTING = [
    {
        "apiGroups": [""],
        "resources": ["configmaps", "services", "serviceaccounts"],
        "verbs": ["delete"],
    },
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["delete"]},
]


def grant(cluster, namespace, account, *, watch=(), adopting=False):
    """Make a ServiceAccount with the operator's rights; `watch` names its namespaces, or all."""
    rules = [*FOR_MODELS, *(FOR_ADOPTING if adopting else ())]
    subject = {"kind": "ServiceAccount", "namespace": namespace, "name": account}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"namespace": namespace, "name": account},
        },
        *_role("Role", f"{account}-itself", namespace, FOR_ITSELF, subject),
    ]
    for each in watch:
        objects += _role("Role", f"{namespace}-{account}", each, rules, subject)
    if not watch:
        objects += _role("ClusterRole", f"{namespace}-{account}", None, rules, subject)
    together = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.run("apply", "-f", "-", given=json.dumps(together))


def _role(kind, name, namespace, rules, subject):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]
