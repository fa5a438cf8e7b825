"""Argo CD, kstatus and `kubectl wait` take an object of an API server for the same, in every phase.

The objects are those of tests/controlplane/recorded.
"""

import json
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.argo import SCRIPT, health
from tests.controlplane.recordings import RECORDINGS, Health

from e2e.cluster.faults import ClusterFault
from e2e.cluster.kstatus import Computed, computed

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

GUIDE = Path(__file__).parents[1] / "docs" / "gitops.md"
KIND = {"apiVersion": "serving.flambeau.dev/v1alpha1", "kind": "ModelDeployment"}
SETTING = "resource.customizations.health.serving.flambeau.dev_ModelDeployment"

# What kstatus says, and whether `kubectl wait --for=condition=RolledOut` ends well.
AGREED = {
    Health.HEALTHY: ("Current", True),
    Health.PROGRESSING: ("InProgress", False),
    Health.DEGRADED: ("Failed", False),
}
# They know no word for what rests because somebody wants it so.
AT_REST = {
    "paused": ("InProgress", False),
    "canary-paused": ("InProgress", False),
    "undecided": ("InProgress", False),
    "suspended": ("Current", False),
    "no-pods-wanted": ("InProgress", True),
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recorded objects as an API server has them, and what kstatus makes of them."""

    cluster: Any
    namespace: str
    objects: Mapping[str, Mapping[str, Any]]
    computed: Mapping[str, Computed]

    def rolled_out(self, name):
        """Tell whether `kubectl wait` ends well, asked once."""
        words = [f"mdep/{name}", "--for=condition=RolledOut", "--timeout=0"]
        try:
            self.cluster.run("-n", self.namespace, "wait", *words)
        except ClusterFault as fault:
            if "condition not met" not in str(fault):
                raise
            return False
        return True


@pytest.fixture(scope="module")
def recorded(crd):
    namespace = f"recorded-{secrets.token_hex(4)}"
    crd.run("create", "namespace", namespace)
    bodies = [each.read() for each in RECORDINGS]
    newest = max(body["metadata"]["generation"] for body in bodies)
    for generation in range(1, newest + 1):
        _apply(crd, namespace, [body for each in bodies for body in _edit(each, generation)])
    told = [
        {**KIND, "metadata": {"name": each["metadata"]["name"]}, "status": each["status"]}
        for each in bodies
        if "status" in each
    ]
    words = ["--server-side", "--subresource=status", "--validate=false"]  # a status has no spec
    _apply(crd, namespace, told, *words)
    stored = json.loads(crd.run("-n", namespace, "get", "mdep", "-o", "json"))["items"]
    objects = {each["metadata"]["name"]: each for each in stored}
    yield Recorded(crd, namespace, objects, computed(crd, namespace))
    crd.run("delete", "namespace", namespace, "--wait=false")


def _edit(body, generation):
    """Yield the object as it is applied for the n-th time, so that its generation counts up."""
    if generation < body["metadata"]["generation"]:
        rollout = {**body["spec"].get("rollout", {}), "progressDeadline": f"{100 + generation}s"}
        yield {**body, "spec": {**body["spec"], "rollout": rollout}, "status": None}
    elif generation == body["metadata"]["generation"]:
        yield {**body, "status": None}


def _apply(cluster, namespace, bodies, *words):
    body = {"apiVersion": "v1", "kind": "List", "items": bodies}
    cluster.run("-n", namespace, "apply", *words, "-f", "-", given=json.dumps(body))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_three_programs_agree_on_what_an_object_is(recorded, recording):
    name = recording.name
    stored = recorded.objects[name]
    assert health(stored).status == recording.health
    kstatus, rolled_out = AT_REST[name] if name in AT_REST else AGREED[recording.health]
    assert recorded.computed[name].status == kstatus, recorded.computed[name]
    assert recorded.rolled_out(name) is rolled_out


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_the_api_server_keeps_every_word_of_what_is_recorded(recorded, recording):
    body, stored = recording.read(), recorded.objects[recording.name]
    assert stored["metadata"]["generation"] == body["metadata"]["generation"]
    if "status" in body:
        assert stored["status"] == body["status"]


def test_what_is_at_rest_is_what_argo_cd_calls_suspended():
    assert {each.name for each in RECORDINGS if each.health is Health.SUSPENDED} == set(AT_REST)


def test_the_guides_command_gives_argo_cd_the_script_and_leaves_the_rest(control_plane):
    """The namespace has Argo CD's own name, as the command has it."""
    control_plane.run("create", "namespace", "argocd")
    known = ["--from-literal=url=https://argocd.example"]
    control_plane.run("-n", "argocd", "create", "configmap", "argocd-cm", *known)
    command = GUIDE.read_text().partition("```console\n$ ")[2].partition("```")[0]
    for _ in range(2):
        _shell(control_plane, command)
    found = json.loads(control_plane.run("-n", "argocd", "get", "cm", "argocd-cm", "-o", "json"))
    assert found["data"] == {"url": "https://argocd.example", SETTING: SCRIPT.read_text()}


def _shell(cluster, command):
    path = f"{cluster.kubectl.parent}:/usr/bin:/bin"
    environment = {"PATH": path, "KUBECONFIG": str(cluster.kubeconfig), "HOME": "/nonexistent"}
    words = ["bash", "-euo", "pipefail", "-c", command]
    folder = GUIDE.parents[1]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
