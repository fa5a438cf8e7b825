"""Specs whose manifests are kept as files, so that no release changes them by accident.

A pod template that changes for an unchanged spec rolls every model of every user. Run this module
to write files for new cases; a file that exists is rewritten only by deleting it first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from flambeau_operator.plan.children import desired_children
from flambeau_operator.plan.manifests import make_manifests
from flambeau_operator.plan.site import Live, OwnerRef, Site
from tests.builders import UID, a_deployment

FOLDER = Path(__file__).parent
OWNER = OwnerRef("team-a", "vision", UID)
SITE = Site(
    operator_namespace="flambeau-system",
    default_image="registry.example/flambeau-runtime:1",
    image_pull_secrets=("pull",),
    image_volumes_served=True,
    queues_served=True,
)

CASES: dict[str, dict[str, Any]] = {
    "minimal": {},
    "everything": {
        "replicas": 3,
        "runtime": {
            "image": "registry.example/mine:2",
            "pullPolicy": "Always",
            "config": {"job_queue_size": "100", "default_response_timeout": "60"},
        },
        "resources": {
            "requests": {"memory": "8Gi", "cpu": 2},
            "limits": {"nvidia.com/gpu": 2, "memory": "8Gi"},
        },
        "scheduling": {
            "nodeSelector": {"pool": "gpu", "arch": "amd64"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpread": "None",
            "priorityClassName": "high",
            "queueName": "team-a",
        },
        "storage": {"modelStore": {"persistentVolumeClaim": {"claimName": "store"}}},
        "configMaps": [{"name": "b-archives"}, {"name": "a-archives"}],
        "claims": [{"name": "models"}],
        "service": {"type": "LoadBalancer", "port": 8000, "annotations": {"b": "2", "a": "1"}},
        "disruption": {"terminationGracePeriod": "200s", "drainDelay": "1500ms"},
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}},
            "spec": {
                "containers": [
                    {"name": "runtime", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}]},
                    {
                        "name": "sidecar",
                        "image": "registry.example/sidecar:1",
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    },
                ],
                "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}],
            },
        },
    },
    "grpc": {"runtime": {"grpc": True}},
    "sources": {
        "credentials": [
            {"name": "s3-read", "secretRef": {"name": "b-keys"}},
            {"name": "hub", "secretRef": {"name": "a-token"}},
        ],
        "storage": {"cache": {"persistentVolumeClaim": {"claimName": "cache"}}},
    },
    "autoscaled": {
        "autoscaling": {"hpa": {"min": 2, "max": 8}},
        "storage": {"modelStore": {"image": {"reference": "registry.example/models:1"}}},
        "networkPolicy": "None",
        "disruption": {"podDisruptionBudget": "None"},
    },
}


def manifests(name: str, site: Site = SITE) -> list[dict[str, Any]]:
    """Return the manifests of one case, as they are made before anything exists."""
    children = desired_children(a_deployment(**CASES[name]))
    return list(make_manifests(OWNER, children, site, Live()))


def golden(name: str) -> list[dict[str, Any]]:
    """Return the manifests of one case as they are kept."""
    return list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()))


def main() -> None:
    """Write the files that are missing."""
    for name in CASES:
        path = FOLDER / f"{name}.yaml"
        if not path.exists():
            path.write_text(yaml.safe_dump_all(manifests(name), sort_keys=False))


if __name__ == "__main__":
    main()
