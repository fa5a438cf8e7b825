"""Tier 1 carries what later tests put on it."""

import json

import pytest

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)


def test_a_deployment_becomes_pods_that_wait_for_a_node(control_plane, fresh_name):
    control_plane.run("create", "namespace", fresh_name)
    control_plane.run(
        "-n", fresh_name, "create", "deployment", "web", "--image=web", "--replicas=2"
    )
    two = "jsonpath={.status.replicas}=2"
    control_plane.run("-n", fresh_name, "wait", "deployment/web", f"--for={two}", "--timeout=30s")
    pods = json.loads(control_plane.run("-n", fresh_name, "get", "pods", "-o", "json"))["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Pending", "Pending"]


def test_what_belongs_to_a_deleted_owner_is_collected(control_plane, fresh_name):
    control_plane.run("create", "namespace", fresh_name)
    control_plane.run("-n", fresh_name, "create", "deployment", "web", "--image=web")
    control_plane.run(
        "-n",
        fresh_name,
        "wait",
        "deployment/web",
        "--for=jsonpath={.status.replicas}=1",
        "--timeout=30s",
    )
    control_plane.run("-n", fresh_name, "delete", "deployment", "web")
    control_plane.run(
        "-n", fresh_name, "wait", "pod", "-l", "app=web", "--for=delete", "--timeout=30s"
    )
