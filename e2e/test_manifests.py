"""An API server takes the manifests as they are, and twice as well as once."""

from __future__ import annotations

import json
import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from tests.controlplane.golden import cases

from flambeau_operator.plan.patch import patched, problems

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

# Kubernetes 1.34 does not serve image volumes unless it is told to.
SITE = replace(cases.SITE, image_volumes_served=False)
HIGH = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "high"},
    "value": 1000,
}
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def manifests(case: str, namespace: str) -> list[dict[str, Any]]:
    """Return the manifests of a case for a namespace, without the owner, who is not there."""
    made = deepcopy(cases.manifests(case, SITE))
    for each in made:
        each["metadata"]["namespace"] = namespace
        del each["metadata"]["ownerReferences"]
    return made


def apply(cluster, objects: list[dict[str, Any]]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    how = ("apply", "--server-side", "--field-manager=flambeau", "-f", "-")
    cluster.run(*how, given=json.dumps(items))


def versions(cluster, objects: list[dict[str, Any]]) -> dict[str, str]:
    """Return the resourceVersion of each object."""
    found = {}
    for each in objects:
        namespace, kind = each["metadata"]["namespace"], each["kind"]
        live = cluster.run("-n", namespace, "get", kind, each["metadata"]["name"], "-o", "json")
        found[kind] = json.loads(live)["metadata"]["resourceVersion"]
    return found


@pytest.fixture
def namespace(control_plane, fresh_name):
    """A namespace that takes no pod but a restricted one."""
    control_plane.run("create", "namespace", fresh_name)
    control_plane.run("label", "namespace", fresh_name, RESTRICTED)
    control_plane.run("apply", "--server-side", "-f", "-", given=json.dumps(HIGH))
    yield fresh_name
    control_plane.run("delete", "namespace", fresh_name, "--wait=false")


@pytest.mark.parametrize("case", cases.CASES)
def test_applying_twice_changes_nothing(control_plane, namespace, case):
    """Controllers write the status of what is new, so a second apply may have to be a third."""
    objects = manifests(case, namespace)
    apply(control_plane, objects)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = versions(control_plane, objects)
        apply(control_plane, objects)
        after = versions(control_plane, objects)
        if before == after:
            return
    raise AssertionError(f"applied again, these are changed each time: {before} {after}")


@pytest.mark.parametrize("case", cases.CASES)
def test_pods_are_admitted_where_only_restricted_ones_are(control_plane, namespace, case):
    objects = manifests(case, namespace)
    apply(control_plane, objects)
    wanted = next(each for each in objects if each["kind"] == "Deployment")["spec"]["replicas"]
    control_plane.run(
        "-n",
        namespace,
        "wait",
        "deployment/vision",
        f"--for=jsonpath={{.status.replicas}}={wanted}",
        "--timeout=60s",
    )


PATCHES = {
    "a label": {"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}},
    "a variable": {
        "spec": {"containers": [{"name": "runtime", "env": [{"name": "X", "value": "1"}]}]}
    },
    "a variable that is taken out": {
        "spec": {
            "containers": [
                {"name": "runtime", "env": [{"name": "FLAMBEAU_OWNER_UID", "$patch": "delete"}]}
            ]
        }
    },
    "a second container": {
        "spec": {"containers": [{"name": "side", "image": "s", "args": ["a", "b"]}]}
    },
    "an init container": {"spec": {"initContainers": [{"name": "init", "image": "i"}]}},
    "a volume and its mount": {
        "spec": {
            "containers": [
                {"name": "runtime", "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}  # noqa: S108  a folder inside the pod
            ],
            "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
        }
    },
    "one topology is dropped": {
        "spec": {
            "topologySpreadConstraints": [
                {"topologyKey": "topology.kubernetes.io/zone", "$patch": "delete"}
            ]
        }
    },
    "lists without keys": {
        "spec": {
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "securityContext": {"supplementalGroups": [1, 2]},
            "dnsConfig": {"nameservers": ["1.1.1.1"]},
        }
    },
    "lists with keys of their own": {
        "spec": {
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
            "imagePullSecrets": [{"name": "pull"}],
        }
    },
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_of_the_pod_template_does_what_kubectls_does(control_plane, name):
    made = cases.manifests("minimal", SITE)
    deployment = next(each for each in made if each["kind"] == "Deployment")
    patch = PATCHES[name]
    assert problems(patch) == ()
    told = control_plane.run(
        "patch",
        "--local",
        "--type=strategic",
        "-f",
        "-",
        "-o",
        "json",
        f"--patch={json.dumps({'spec': {'template': patch}})}",
        given=json.dumps(deployment),
    )
    theirs = json.loads(told)["spec"]["template"]
    ours = patched(deployment["spec"]["template"], patch)
    assert in_order(without_nothing(ours)) == in_order(without_nothing(theirs))


def in_order(value: Any) -> Any:
    """Sort lists of objects: where a new item stands is not what a patch says."""
    if isinstance(value, dict):
        return {key: in_order(each) for key, each in value.items()}
    if isinstance(value, list):
        items = [in_order(each) for each in value]
        objects = all(isinstance(each, dict) for each in items)
        return sorted(items, key=json.dumps) if objects else items
    return value


def without_nothing(value: Any) -> Any:
    """Leave out what kubectl adds or drops of its own: empty mappings and nulls."""
    if isinstance(value, dict):
        kept = {key: without_nothing(each) for key, each in value.items()}
        return {key: each for key, each in sorted(kept.items()) if each not in ({}, None)}
    if isinstance(value, list):
        return [without_nothing(each) for each in value]
    return value
