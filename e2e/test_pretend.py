"""Pods that pretend to run: for what is about numbers, not about what runs."""

import json

import pytest

from e2e.cluster.pretend import LABEL, pretended
from e2e.waiting import until

# The first run on a machine builds Kubernetes, and kwok.
pytestmark = pytest.mark.timeout(1800)


def test_a_hundred_pods_are_ready_without_a_process_and_go_when_deleted(
    control_plane, fresh_name, tmp_path
):
    control_plane.run("create", "namespace", fresh_name)
    here = ("-n", fresh_name)
    with pretended(control_plane, tmp_path, nodes=2) as nodes:
        control_plane.run(*here, "create", "deployment", "web", "--image=nowhere", "--replicas=100")
        all_ready = "--for=jsonpath={.status.readyReplicas}=100"
        control_plane.run(
            *here, "wait", "deployment/web", all_ready, "--timeout=120s", timeout_s=150
        )
        pods = json.loads(control_plane.run(*here, "get", "pods", "-o", "json"))["items"]
        assert {pod["spec"]["nodeName"] for pod in pods} == set(nodes)
        assert len({pod["status"]["podIP"] for pod in pods}) == 100
        control_plane.run(*here, "delete", "deployment", "web")
        control_plane.run(*here, "wait", "pod", "-l=app=web", "--for=delete", "--timeout=60s")
    assert not set(nodes) & set(control_plane.nodes())


def test_pods_that_pretend_can_share_an_address_where_somebody_answers(
    control_plane, fresh_name, tmp_path
):
    control_plane.run("create", "namespace", fresh_name)
    with pretended(control_plane, tmp_path, address="127.0.0.1"):
        control_plane.run("-n", fresh_name, "create", "deployment", "web", "--image=nowhere")
        there = "--for=jsonpath={.status.readyReplicas}=1"
        control_plane.run("-n", fresh_name, "wait", "deployment/web", there, "--timeout=60s")
        address = ["get", "pods", "-o", "jsonpath={.items[0].status.podIP}"]
        assert control_plane.run("-n", fresh_name, *address) == "127.0.0.1"
        control_plane.run("-n", fresh_name, "delete", "deployment", "web")


def test_nodes_that_pretend_renew_their_leases_or_their_pods_would_count_as_lost(
    control_plane, tmp_path
):
    with pretended(control_plane, tmp_path) as nodes:
        lease = ["-n", "kube-node-lease", "get", "lease", *nodes]
        renewed = [*lease, "-o", "jsonpath={.spec.renewTime}"]
        first = until("there is a lease", lambda: control_plane.run(*renewed))
        until("it is renewed", lambda: control_plane.run(*renewed) != first)


def test_beside_real_nodes_only_who_asks_for_it_pretends(cluster, fresh_name, tmp_path):
    cluster.run("create", "namespace", fresh_name)
    account = ["-n", fresh_name, "get", "serviceaccount", "default", "-o", "name"]
    until("the namespace has its account", lambda: cluster.run(*account))
    asks = {"nodeSelector": {LABEL: "yes"}, "tolerations": [{"key": LABEL, "operator": "Exists"}]}
    with pretended(cluster, tmp_path) as nodes:
        for name, spec in {"real": {}, "asks": asks}.items():
            overrides = json.dumps({"spec": spec})
            image = ["--image=nowhere", "--image-pull-policy=Never", f"--overrides={overrides}"]
            cluster.run("-n", fresh_name, "run", name, *image)
        cluster.run("-n", fresh_name, "wait", "pod/asks", "--for=condition=Ready")
        cluster.run("-n", fresh_name, "wait", "pod/real", "--for=condition=PodScheduled")
        on = ["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]
        placed = cluster.run("-n", fresh_name, *on).split()
        assert placed[0] == nodes[0]
        assert placed[1] not in nodes
        cluster.run("-n", fresh_name, "delete", "pod", "--all", "--now")
