"""The second node: a network, a containerd and a kubelet of its own, and room for drained pods."""

import contextlib
import json
import time

import pytest

from e2e.cluster import stock
from e2e.cluster.faults import ClusterFault
from e2e.load import Question, load
from e2e.waiting import until

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def web(two_nodes, fresh_name):
    """Two pods with a Service and a PodDisruptionBudget, one pod on each of two nodes."""
    two_nodes.run("create", "namespace", fresh_name)
    two_nodes.run("-n", fresh_name, "apply", "-f", "-", given=json.dumps(_web()))
    available = ["deployment/web", "--for=condition=Available", "--timeout=60s"]
    two_nodes.run("-n", fresh_name, "wait", *available)
    assert len(set(_placed(two_nodes, fresh_name).values())) == 2
    yield fresh_name
    two_nodes.run("delete", "namespace", fresh_name, "--wait=false")


def test_pods_of_two_nodes_answer_each_other_by_their_own_addresses(two_nodes, web):
    for asking in _placed(two_nodes, web):
        get = ["exec", asking, "--", "/stock", "get", "-timeout=5s"]
        for name, address in _addresses(two_nodes, web).items():
            said = two_nodes.run("-n", web, *get, f"http://{address}:8080/direct")
            assert said == f"{name} answers /direct\n"


def test_a_service_answers_on_both_nodes_from_pods_of_both(two_nodes, web):
    for asking in _placed(two_nodes, web):
        get = ["exec", asking, "--", "/stock", "get", "http://web/"]
        until("its node knows the Service", lambda get=get: two_nodes.run("-n", web, *get))
        answers = {two_nodes.run("-n", web, *get).split()[0] for _ in range(20)}
        assert answers == set(_placed(two_nodes, web))  # one of them not: once in 500,000 runs


def test_an_image_is_given_to_every_node(two_nodes, fresh_name, tmp_path):
    two_nodes.run("create", "namespace", fresh_name)
    name, archive = f"localhost/flambeau-loaded:{fresh_name}", tmp_path / "image.tar"
    program = two_nodes.kubectl.resolve().with_name(stock.PROGRAM)
    stock.write_archive(program, archive, {name: ["/stock", "pause"]})
    two_nodes.load(archive)
    for node in two_nodes.nodes():
        there = json.dumps({"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}})
        image = [f"--image={name}", "--image-pull-policy=Never", f"--overrides={there}"]
        two_nodes.run("-n", fresh_name, "run", node, *image)
        ready = [f"pod/{node}", "--for=condition=Ready", "--timeout=60s"]
        two_nodes.run("-n", fresh_name, "wait", *ready)


def test_a_drained_node_loses_its_pods_and_no_request(two_nodes, web):
    stays, goes = two_nodes.nodes()[:2]
    drain = ["--ignore-daemonsets", "--pod-selector=app=web", "--timeout=120s"]
    with load(two_nodes, web, Question("http://web/"), node=stays) as clients:
        try:
            two_nodes.run("drain", goes, *drain, timeout_s=150)
            available = ["deployment/web", "--for=jsonpath={.status.readyReplicas}=2"]
            two_nodes.run("-n", web, "wait", *available, "--timeout=60s")
            assert set(_placed(two_nodes, web).values()) == {stays}
            clients.more(50)
        finally:
            two_nodes.run("uncordon", goes)
    assert clients.summary.failed == clients.summary.unsent == 0, clients.summary


def test_pods_of_every_node_can_be_looked_into_and_are_measured(two_nodes, web):
    pods = _placed(two_nodes, web)
    for pod in pods:
        assert two_nodes.run("-n", web, "logs", pod) == ""
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(ClusterFault):  # there are no figures yet
            measured = two_nodes.run("-n", web, "top", "pod", "-l=app=web")
            if all(pod in measured for pod in pods):
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _pods(cluster, namespace):
    found = json.loads(cluster.run("-n", namespace, "get", "pods", "-l=app=web", "-o", "json"))
    return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]


def _placed(cluster, namespace):
    return {p["metadata"]["name"]: p["spec"]["nodeName"] for p in _pods(cluster, namespace)}


def _addresses(cluster, namespace):
    return {p["metadata"]["name"]: p["status"]["podIP"] for p in _pods(cluster, namespace)}


def _web():
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": stock.STOCK,
        "args": ["serve", "-linger=5s", ":8080"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    pod = {"containers": [container], "topologySpreadConstraints": [spread]}
    deployment = {
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    kinds = [
        ("apps/v1", "Deployment", deployment),
        ("v1", "Service", service),
        ("policy/v1", "PodDisruptionBudget", budget),
    ]
    items = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": spec}
        for version, kind, spec in kinds
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}
