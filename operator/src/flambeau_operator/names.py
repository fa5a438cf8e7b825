"""Names that users and other programs see, and what is built from them."""

GROUP = "serving.flambeau.dev"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "ModelDeployment"

RETRY = f"{GROUP}/retry"
"""Annotation: try the remembered failure with this hash once more."""
PROMOTE = f"{GROUP}/promote"
"""Annotation: bring the candidate with this hash to 100 %; `HASH/STEP`: end that step only."""
ABORT = f"{GROUP}/abort"
"""Annotation: take the candidate with this hash back."""
RECONCILE = f"{GROUP}/reconcile"
"""Annotation: `disabled` lets the operator observe and report, and change nothing."""
DISABLED = "disabled"
ADOPT = f"{GROUP}/adopt"
"""Annotation: `"true"` lets the operator take objects over that carry our labels and no owner."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "flambeau"
"""Value of the label above, and the field manager of server-side apply."""
HANDOVER_MANAGER = "flambeau-handover"
"""Field manager that keeps `replicas` while it passes from us to an autoscaler."""
NAME_LABEL = f"{GROUP}/name"
"""Label: the ModelDeployment's name, on every child and pod; the only one pods are selected by."""
UID_LABEL = f"{GROUP}/uid"
"""Label of pods: the uid of the ModelDeployment that they were made for."""
TEMPLATE_LABEL = f"{GROUP}/template"
"""Label of pods: the hash of what the user wrote about them."""
RUNTIME_ANNOTATION = f"{GROUP}/runtime"
"""Annotation of the Deployment: the hash of the spec.runtime that its image was chosen for."""
CONFIG_ANNOTATION = f"{GROUP}/config"
"""Annotation of pods: the content of the runtime's config.properties."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Label of the Deployment: the Kueue LocalQueue that admits its pods."""

RUNTIME_CONTAINER = "runtime"
INFERENCE_PORT = 8080
MANAGEMENT_PORT = 8081
METRICS_PORT = 8082
GRPC_PORT = 7070


def versioned(model: str, version: str) -> str:
    """Name one version of one model as people write it: `classifier@1.0`."""
    return f"{model}@{version}"


def models_config_map(name: str) -> str:
    """Name the ConfigMap that a ModelDeployment's pods boot from."""
    return f"{name}-models"


def pod_selector(name: str) -> dict[str, str]:
    """Return what identifies the pods of a ModelDeployment.

    A Deployment's selector can never change again, so nothing of the user's goes in, and no uid: a
    ModelDeployment that adopts an orphaned Deployment has another one.
    """
    return {NAME_LABEL: name}


def labels_of(name: str) -> dict[str, str]:
    """Return the labels of everything that belongs to a ModelDeployment."""
    return {MANAGED_BY: MANAGER, NAME_LABEL: name}
