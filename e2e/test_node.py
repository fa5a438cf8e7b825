"""Tier 2 carries what later tests put on it: pods that run, find each other and are restricted."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from e2e.cluster import isolation, stock
from e2e.cluster.faults import ClusterFault

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)


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
    _until(lambda: _ask(cluster, namespace, "http://web/"))
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


@pytest.mark.usefixtures("service")
def test_pods_are_measured(cluster, namespace):
    _until(lambda: "Mi" in cluster.run("-n", namespace, "top", "pod", "-l", "app=web"))


def test_an_image_that_was_built_here_needs_no_registry(cluster, namespace, tmp_path):
    name = "localhost/flambeau-loaded:test"
    archive = tmp_path / "image.tar"
    stock.write_archive(
        cluster.kubectl.resolve().with_name("stock"), archive, {name: ["/stock", "pause"]}
    )
    cluster.load(archive)
    pod = {"securityContext": stock.RESTRICTED, "name": "loaded", "image": name}
    overrides = json.dumps({"spec": {"containers": [pod]}})
    never = ["--image-pull-policy=Never", f"--image={name}", f"--overrides={overrides}"]
    cluster.run("-n", namespace, "run", "loaded", *never)
    cluster.run("-n", namespace, "wait", "pod/loaded", "--for=condition=Ready", "--timeout=60s")


def test_the_machine_outside_notices_nothing(cluster):
    inside = cluster.inside("ip", "-brief", "link")
    assert "node0" in inside
    assert "pods0" in inside
    outside = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)
    assert not {"node0", "pods0"} & {line.split()[0] for line in outside.stdout.splitlines()}
    assert "flambeau" not in Path("/proc/self/mounts").read_text()
    covered = cluster.inside("cat", "/proc/self/mounts")
    assert all(f" /proc/sys/{name} " in covered for name in isolation.TUNABLES)


def test_the_node_outlives_its_api_server(cluster, namespace, service):
    _ask(cluster, namespace, f"http://{service}/before")
    address = cluster.run(
        "-n", namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"
    )
    with cluster.without("kube-apiserver"):
        get = [
            str(cluster.kubectl.resolve().with_name("stock")),
            "get",
            f"http://{address}/meanwhile",
        ]
        assert "answers /meanwhile" in cluster.inside(*get)
    _until(lambda: _ask(cluster, namespace, f"http://{service}/after"))


def _ask(cluster, namespace, url):
    arguments = ["get", url]
    return cluster.run("-n", namespace, "exec", "deployment/web", "--", "/stock", *arguments)


def _until(true):
    # Of a cluster, most becomes true a moment later: kube-proxy, for one, sends requests to a new
    # Service a second after its pods are ready.
    deadline = time.monotonic() + 60
    while True:
        try:
            if true():
                return
        except ClusterFault:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _pods(cluster, namespace):
    names = "jsonpath={.items[*].metadata.name}"
    return cluster.run("-n", namespace, "get", "pods", "-l", "app=web", "-o", names).split()


def _web():
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": stock.STOCK,
        "args": ["serve", ":8080"],
        "securityContext": stock.RESTRICTED,
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
