"""What a test can do with a cluster: helm, a ServiceAccount's eyes, programs that fall silent."""

import json
import subprocess
import time

import pytest

from e2e.cluster import tools
from e2e.cluster.faults import ClusterFault, NotReady

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}", namespace: "{{ .Release.Namespace }}"}
data: {word: "{{ .Values.word }}"}
"""


@pytest.fixture
def chart(tmp_path):
    """A chart with one ConfigMap."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 0.1.0}")
    (tmp_path / "values.yaml").write_text("word: first")
    (tmp_path / "templates" / "map.yaml").write_text(TEMPLATE)
    return str(tmp_path)


def test_helm_installs_upgrades_and_uninstalls(control_plane, fresh_name, chart, monkeypatch):
    monkeypatch.setenv("HELM_NAMESPACE", "somebody-elses")
    there = ["--namespace", fresh_name]
    control_plane.helm("install", "small", chart, *there, "--create-namespace")
    control_plane.helm("upgrade", "small", chart, *there, "--set=word=second")
    word = ["get", "configmap", "small", "-o", "jsonpath={.data.word}"]
    assert control_plane.run("-n", fresh_name, *word) == "second"
    control_plane.helm("uninstall", "small", *there)
    with pytest.raises(ClusterFault, match="not found"):
        control_plane.run("-n", fresh_name, *word)


def test_helm_of_our_build_names_the_version_that_was_asked_for():
    helm = tools.built(print) / "helm"
    told = subprocess.run([helm, "version", "--short"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith(tools.MODULE.wanted)


def test_a_cluster_can_be_spoken_to_as_a_service_account(control_plane, fresh_name):
    control_plane.run("create", "namespace", fresh_name)
    control_plane.run("-n", fresh_name, "create", "serviceaccount", "reader")
    role = ["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]
    control_plane.run("-n", fresh_name, *role)
    binding = ["create", "rolebinding", "reader", "--role=reader"]
    control_plane.run("-n", fresh_name, *binding, f"--serviceaccount={fresh_name}:reader")
    reader = control_plane.speaking_as(fresh_name, "reader")
    who = json.loads(reader.run("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
    assert who == f"system:serviceaccount:{fresh_name}:reader"
    _until(lambda: reader.run("-n", fresh_name, "auth", "can-i", "list", "configmaps"))
    reader.run("-n", fresh_name, "get", "configmaps")
    with pytest.raises(ClusterFault, match='cannot list resource "secrets"'):
        reader.run("-n", fresh_name, "get", "secrets")


def test_a_program_that_is_frozen_says_nothing_and_goes_on_afterwards(control_plane):
    with control_plane.frozen("kube-apiserver"), pytest.raises(NotReady):
        control_plane.run("get", "--raw=/readyz", timeout_s=2)
    assert control_plane.run("get", "--raw=/readyz") == "ok"


def test_a_program_that_does_not_exist_cannot_be_frozen(control_plane):
    with pytest.raises(ClusterFault, match="no program 'kubelit'"), control_plane.frozen("kubelit"):
        pass


def _until(true):
    # The API server hears of a new binding up to 2 s after it was made.
    deadline = time.monotonic() + 30
    while True:
        try:
            if true():
                return
        except ClusterFault:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)
