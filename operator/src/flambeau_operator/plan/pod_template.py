"""The pod template of a ModelDeployment's Deployment.

Nothing in it depends on our release, or an upgrade of the operator would roll every model: what a
user did not write is fixed here, and golden files keep it so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flambeau_operator.names import (
    CONFIG_ANNOTATION,
    GRPC_PORT,
    INFERENCE_PORT,
    MANAGEMENT_PORT,
    METRICS_PORT,
    RUNTIME_CONTAINER,
    TEMPLATE_LABEL,
    UID_LABEL,
    labels_of,
    pod_selector,
)
from flambeau_operator.plan import config_properties
from flambeau_operator.plan.children import Children, runtime_hash
from flambeau_operator.plan.patch import patched
from flambeau_operator.plan.site import Live, OwnerRef, Site
from flambeau_operator.plan.volumes import (
    BOOT_FOLDER,
    CACHE_FOLDER,
    CONFIG_FILE,
    CONFIG_FOLDER,
    STATE_FOLDER,
    volumes_of,
)
from flambeau_operator.resources.model_deployment import Spec
from flambeau_operator.resources.scheduling import Resources, Scheduling

USER: Final = 1000
DEVICES: Final = "FLAMBEAU_DEVICES"
ORDERLY_END_S: Final = 2.0

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """What the runtime container is started from."""

    name: str
    pull_policy: str


def choose_image(spec: Spec, site: Site, live: Live) -> Image:
    """Return the image of the runtime container.

    The user's, if one is named. Else the site's, chosen when the Deployment is made or spec.runtime
    changes; otherwise the one that runs is kept, so that a new operator with another default image
    rolls nothing.
    """
    policy = spec.runtime.pull_policy
    if spec.runtime.image is not None:
        return Image(spec.runtime.image, policy)
    if live.image is not None and live.runtime_hash == runtime_hash(spec.runtime):
        return Image(live.image, live.pull_policy or policy)
    return Image(site.default_image, site.default_pull_policy or policy)


def make_pod_template(owner: OwnerRef, children: Children, site: Site, image: Image) -> Object:
    """Return the PodTemplateSpec, the user's patch applied last."""
    template: Object = {
        "metadata": {
            "labels": {
                **labels_of(owner.name),
                UID_LABEL: owner.uid,
                TEMPLATE_LABEL: children.template.template_hash,
            },
        },
        "spec": _pod_spec(owner, children, site, image),
    }
    if children.template.runtime_config:
        content = config_properties.render(children.template.runtime_config)
        template["metadata"]["annotations"] = {CONFIG_ANNOTATION: content}
    return patched(template, children.spec.pod_template or {})


def _pod_spec(owner: OwnerRef, children: Children, site: Site, image: Image) -> Object:
    spec = children.spec
    volumes = volumes_of(owner.name, spec, site)
    pod: Object = {
        "serviceAccountName": owner.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(children.termination_grace_s),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": RUNTIME_CONTAINER,
                "image": image.name,
                "imagePullPolicy": image.pull_policy,
                "command": ["flambeau-runtime"],
                "args": _arguments(children),
                "env": _environment(owner, spec.resources),
                "ports": _ports(spec.runtime.grpc),
                **_probes(),
                "resources": _resources(spec.resources),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [dict(each.mount) for each in volumes],
            }
        ],
        "volumes": [dict(each.volume) for each in volumes],
    }
    return pod | _scheduling(owner.name, spec.scheduling)


def _arguments(children: Children) -> list[str]:
    """Return the runtime's flags. `[::]` takes IPv4 too, and is IPv4 where there is no IPv6."""
    flags = {
        "--boot-file": f"{BOOT_FOLDER}/models.json",
        "--owner-uid": children.template.owner_uid,
        "--state-dir": f"{STATE_FOLDER}/state",
        "--drain-delay": f"{children.drain_delay_s:g}",
        "--drain-timeout": f"{_drain_timeout_s(children):g}",
        "--inference-address": f"[::]:{INFERENCE_PORT}",
        "--management-address": f"[::]:{MANAGEMENT_PORT}",
        "--metrics-address": f"[::]:{METRICS_PORT}",
    }
    if children.spec.runtime.grpc:
        flags["--grpc-inference-address"] = f"[::]:{GRPC_PORT}"
    if children.spec.storage.cache:
        flags["--cache"] = CACHE_FOLDER
    if children.template.runtime_config:
        flags["--ts-config"] = f"{CONFIG_FOLDER}/{CONFIG_FILE}"
    return [part for flag in flags.items() for part in flag]


def _drain_timeout_s(children: Children) -> float:
    """Return what is left of the grace to answer what was asked, and a little to end in order."""
    left = children.termination_grace_s - children.drain_delay_s
    return max(1.0, left - ORDERLY_END_S)


def _environment(owner: OwnerRef, resources: Resources) -> list[Object]:
    variables = {"FLAMBEAU_OWNER_UID": owner.uid}
    if devices := count_devices(resources):
        # What the driver lists may be the node's devices; the limit is what this pod was given.
        variables[DEVICES] = str(devices)
    return [{"name": name, "value": variables[name]} for name in sorted(variables)]


def _ports(grpc: bool) -> list[Object]:
    numbers = {
        "http": INFERENCE_PORT,
        "management": MANAGEMENT_PORT,
        "metrics": METRICS_PORT,
    }
    if grpc:
        numbers["grpc"] = GRPC_PORT
    return [
        {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in numbers.items()
    ]


def _probes() -> Object:
    """Return the probes.

    `/live` answers as soon as the process listens, so that no download, however slow, costs a pod
    its life; `/ready` waits for the models. A stopping pod need not fail a probe: Kubernetes takes
    it out of the Service when it begins to stop, and the drain delay covers the way there.
    """
    return {
        "startupProbe": _probe("/live", period=1, timeout=5, failures=180),
        "livenessProbe": _probe("/live", period=10, timeout=5, failures=6),
        "readinessProbe": _probe("/ready", period=2, timeout=5, failures=2),
    }


def _probe(path: str, *, period: int, timeout: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": MANAGEMENT_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _resources(resources: Resources) -> Object:
    found: Mapping[str, Mapping[str, str]] = {
        "requests": resources.requests,
        "limits": resources.limits,
    }
    return {
        kind: {name: amounts[name] for name in sorted(amounts)}
        for kind, amounts in found.items()
        if amounts
    }


def _scheduling(name: str, scheduling: Scheduling) -> Object:
    found: Object = {}
    if scheduling.node_selector:
        found["nodeSelector"] = dict(sorted(scheduling.node_selector.items()))
    if scheduling.tolerations:
        found["tolerations"] = [
            each.model_dump(by_alias=True, exclude_none=True) for each in scheduling.tolerations
        ]
    if scheduling.priority_class_name:
        found["priorityClassName"] = scheduling.priority_class_name
    if scheduling.topology_spread == "Auto":
        found["topologySpreadConstraints"] = [_spread_over_nodes(name)]
        found["affinity"] = _away_from_a_zone(name)
    if scheduling.affinity:
        found["affinity"] = scheduling.affinity
    return found


def _away_from_a_zone(name: str) -> Object:
    """Return the wish for other zones.

    It is no second spread constraint: those count only nodes that have the labels of all of them,
    and where nodes have no zones none would be left to spread over.
    """
    term = {
        "topologyKey": "topology.kubernetes.io/zone",
        "labelSelector": {"matchLabels": pod_selector(name)},
    }
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _spread_over_nodes(name: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        # A wish, never a reason not to run.
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": pod_selector(name)},
        # Old and new pods of a rolling Deployment are not weighed against each other.
        "matchLabelKeys": ["pod-template-hash"],
    }


def count_devices(resources: Resources) -> int:
    """Return how many accelerators of kinds that PyTorch numbers a pod is given."""
    return sum(
        int(amount)
        for name, amount in resources.limits.items()
        if _is_numbered(name) and amount.isdecimal()
    )


def has_accelerators(resources: Resources) -> bool:
    """Tell whether pods take devices of a node, which are few: a second pod may find none left."""
    named: Sequence[str] = (*resources.requests, *resources.limits)
    return any("/" in each and not each.startswith("kubernetes.io/") for each in named)


def _is_numbered(resource: str) -> bool:
    return resource.startswith("nvidia.com/") or resource == "amd.com/gpu"
