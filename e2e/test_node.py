"""Tier 2 carries what later tests put on it: pods that run, find each other and are restricted."""

import json
import time

import pytest

from e2e.cluster import stock
from e2e.cluster.faults import ClusterFault

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture
def namespace(cluster, fresh_name):
    """A namespace that admits restricted pods only."""
    cluster.run("create", "namespace", fresh_name)
    level = "pod-security.kubernetes.io/enforce=restricted"
    cluster.run("label", "namespace", fresh_name, level)
    yield fresh_name
    cluster.run("delete", "namespace", fresh_name, "--wait=false")


@pytest.fixture
def service(cluster, namespace):
    """A Service with two pods behind it."""
    cluster.run("-n", namespace, "apply", "-f", "-", given=json.dumps(_web()))
    available = ["deployment/web", "--for=condition=Available", "--timeout=60s"]
    cluster.run("-n", namespace, "wait", *available)
    _until_answered(cluster, namespace, "http://web/")
    return f"web.{namespace}.svc.cluster.local"


def test_a_pod_answers_another_pod_through_a_service_by_its_name(cluster, namespace, service):
    for url in ("http://web/short", f"http://{service}/long"):
        answer = _ask(cluster, namespace, url)
        assert answer.startswith("web-")
        assert answer.endswith(f"answers {url[url.rindex('/') :]}\n")


def test_both_pods_of_a_service_get_requests(cluster, namespace, service):
    names = {_ask(cluster, namespace, f"http://{service}/").split()[0] for _ in range(20)}
    assert len(names) == 2  # all of them to one pod: once in 500,000 runs


@pytest.mark.usefixtures("service")
def test_a_pod_can_be_looked_into_from_outside(cluster, namespace):
    assert cluster.run(
        "-n", namespace, "exec", "deployment/web", "--", "/stock", "get", "http://web/"
    )
    assert cluster.run("-n", namespace, "logs", "deployment/web") == ""


@pytest.mark.usefixtures("service")
def test_a_deleted_pod_is_replaced(cluster, namespace):
    before = _pods(cluster, namespace)
    cluster.run("-n", namespace, "delete", "pod", before[0])
    available = ["deployment/web", "--for=condition=Available", "--timeout=60s"]
    cluster.run("-n", namespace, "wait", *available)
    after = _pods(cluster, namespace)
    assert before[0] not in after
    assert before[1] in after
    assert len(after) == 2


def _ask(cluster, namespace, url):
    arguments = ["get", url]
    return cluster.run("-n", namespace, "exec", "deployment/web", "--", "/stock", *arguments)


def _until_answered(cluster, namespace, url):
    # kube-proxy sends requests to a new Service a second after its pods are ready.
    deadline = time.monotonic() + 30
    while True:
        try:
            _ask(cluster, namespace, url)
        except ClusterFault:
            assert time.monotonic() < deadline
        else:
            return


def _pods(cluster, namespace):
    names = "jsonpath={.items[*].metadata.name}"
    return cluster.run("-n", namespace, "get", "pods", "-l", "app=web", "-o", names).split()


def _web():
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": stock.STOCK,
        "args": ["serve", ":8080"],
        "securityContext": RESTRICTED,
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
    }
    deployment = {
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "web"},
                "spec": deployment,
            },
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
        ],
    }
