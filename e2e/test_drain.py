"""A node is emptied as its owner does it, and no request fails."""

import json

import pytest

from e2e.flambeau import echo
from e2e.waiting import until

pytestmark = pytest.mark.timeout(420)


def test_a_drained_node_costs_no_request(tenant, archives, load, two_nodes):
    tenant.apply(archives("1.0"), echo())
    tenant.wait("RolledOut")
    nodes = {pod["spec"]["nodeName"] for pod in tenant.pods()}
    assert len(nodes) == 2, "topologySpread puts them on different nodes"
    emptied = next(node for node in sorted(nodes) if node != _node_of_operator(tenant))
    with load(tenant.url()) as asking:
        try:
            words = ["drain", emptied, "--ignore-daemonsets", "--delete-emptydir-data"]
            # Nothing but the models' pods: what the tests themselves run there stays.
            chosen = "--pod-selector=serving.flambeau.dev/name"
            two_nodes.run(*words, chosen, "--timeout=120s", timeout_s=130)
            until("two ready pods elsewhere", lambda: _ready_elsewhere(tenant, emptied) == 2, 90)
            asking.more(100)
        finally:
            two_nodes.run("uncordon", emptied)
    assert not asking.summary.failed, asking.summary


def test_the_budget_holds_the_last_ready_pod_until_there_is_room(tenant, archives, load, two_nodes):
    """Both nodes are cordoned: the pod that is evicted first finds no room, so the other stays."""
    tenant.apply(archives("1.0"), echo())
    tenant.wait("RolledOut")
    nodes = two_nodes.run("get", "nodes", "-o", "name").split()
    pods = [pod["metadata"]["name"] for pod in tenant.pods()]
    with load(tenant.url()) as asking:
        try:
            for node in nodes:
                two_nodes.run("cordon", node)
            _evict(tenant, pods[0])
            until("one pod is left", lambda: tenant.get()["status"].get("readyReplicas") == 1, 60)
            with pytest.raises(Exception, match="disruption budget"):
                _evict(tenant, pods[1])
            asking.more(100)
        finally:
            for node in nodes:
                two_nodes.run("uncordon", node)
        tenant.wait("RolledOut")
    assert not asking.summary.failed, asking.summary


def _evict(tenant, pod):
    namespace = tenant.namespace
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    tenant.cluster.run("create", "--raw", path, "-f", "-", given=json.dumps(body))


def _ready_elsewhere(tenant, emptied):
    return sum(
        pod["spec"].get("nodeName") != emptied
        and any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pod["status"]["conditions"]
        )
        for pod in tenant.pods()
    )


def _node_of_operator(tenant):
    return tenant.flambeau.operators()[0]["spec"]["nodeName"]
