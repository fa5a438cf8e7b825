"""Nodes whose pods only pretend to run: hundreds of them cost nothing but their objects.

kwok plays the kubelet. A pod on such a node is Ready at once, and gone as soon as it is deleted.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.cluster import tools
from e2e.cluster.access import Cluster
from e2e.cluster.faults import NotReady, ProgramDied, tail
from e2e.cluster.progress import on_stderr

LABEL = "flambeau.test/pretended"
PODS = "10.248.0.0/16"  # the addresses of pods that have their own
NODE_READY = """
conditions:
- {type: Ready, status: "True", reason: Pretended, message: kwok plays the kubelet,
   lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }}}
allocatable: {cpu: "1000", memory: 4Ti, pods: "500", ephemeral-storage: 4Ti}
capacity: {cpu: "1000", memory: 4Ti, pods: "500", ephemeral-storage: 4Ti}
"""
OWN_ADDRESS = (
    """{{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}"""
)
POD_READY = """
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
podIP: "ADDRESS"
podIPs: [{ip: "ADDRESS"}]
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
"""


@contextlib.contextmanager
def pretended(
    cluster: Cluster, folder: Path, nodes: int = 1, address: str | None = None
) -> Iterator[list[str]]:
    """Have nodes that pretend, for the length of a block; yields their names.

    Beside real nodes they are tainted: a pod comes here by a nodeSelector for `LABEL: "yes"` and a
    toleration of that taint. What still is here at the end goes with the nodes, a minute later.

    Args:
        cluster: where.
        folder: for kwok's configuration and log.
        nodes: how many; each takes up to 500 pods.
        address: every pod's; without one each pod has its own, and nobody answers there.
    """
    names = [f"pretended-{number}" for number in range(nodes)]
    taints = [{"key": LABEL, "value": "yes", "effect": "NoSchedule"}] if cluster.nodes() else []
    items = [_node(name, taints) for name in names]
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    with _kwok(cluster, folder, address) as (process, log):
        try:
            cluster.run("create", "-f", "-", given=objects)
            _await_ready(cluster, names, process, log)
            yield names
        finally:
            cluster.run("delete", "-f", "-", "--ignore-not-found", given=objects)


@contextlib.contextmanager
def _kwok(
    cluster: Cluster, folder: Path, address: str | None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    stages, log = folder / "stages.yaml", folder / "kwok.log"
    stages.write_text("\n---\n".join(json.dumps(stage) for stage in _stages(address)))
    words = [f"--kubeconfig={cluster.kubeconfig}", f"--config={stages}", f"--cidr={PODS}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tools.kwok(on_stderr), *words, f"--manage-nodes-with-label-selector={LABEL}=yes"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_ready(
    cluster: Cluster, names: list[str], process: subprocess.Popen[bytes], log: Path
) -> None:
    ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    deadline = time.monotonic() + 60
    while any(cluster.run("get", "node", name, "-o", ready) != "True" for name in names):
        if process.poll() is not None:
            raise ProgramDied("kwok", process.returncode, log)
        if time.monotonic() > deadline:
            raise NotReady("the pretended nodes are ready", 60, tail(log))
        time.sleep(0.1)


def _node(name: str, taints: list[dict[str, str]]) -> dict[str, Any]:
    labels = {LABEL: "yes", "kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints},
    }


def _stages(address: str | None) -> list[dict[str, Any]]:
    ready = {"key": '.status.conditions.[] | select( .type == "Ready" ) | .status'}
    alive = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    unready = ready | {"operator": "NotIn", "values": ["True"]}
    leaving = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    pod = POD_READY.replace("ADDRESS", address or OWN_ADDRESS)
    return [
        _stage("Node", "node-ready", [unready], {"statusTemplate": NODE_READY}),
        _stage("Pod", "pod-ready", [alive, unready], {"statusTemplate": pod}),
        _stage("Pod", "pod-gone", [leaving], {"delete": True, "finalizers": {"empty": True}}),
    ]


def _stage(
    kind: str, name: str, when: list[dict[str, Any]], following: dict[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": when},
            "next": following,
        },
    }
