"""Which cluster is taken: the one that is named, else kind where docker works, else our own."""

import json
import os
import subprocess
import sys

import pytest

from e2e.cluster.keeper import CHECKOUT
from e2e.cluster.place import Place

pytestmark = pytest.mark.timeout(1800)

# kind needs docker and an image from a registry; what it is asked for can be seen without them.
KIND = """#!/bin/sh
echo "kind $*" >>"$0.asked"
case "$1 $2" in
"get clusters") if [ -e "$0.runs" ]; then echo flambeau; fi ;;
"create cluster")
    touch "$0.runs"
    : >"${4#--kubeconfig=}"
    case "$*" in *" --config=-") cat >"$0.given" ;; esac
    ;;
"delete cluster") rm "$0.runs" ;;
esac
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine where docker works and kind is installed; its programs note what they are asked."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"docker": "#!/bin/sh\n", "kubectl": "#!/bin/sh\n", "kind": KIND}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("FLAMBEAU_CLUSTER", raising=False)
    return programs


def test_kind_is_asked_once_for_a_cluster_and_deletes_what_it_made(machine, tmp_path):
    place = Place(tmp_path / "flambeau" / "cluster")
    for _ in range(2):
        assert f"export KUBECONFIG={place.kubeconfig}" in _cluster("up")
    _cluster("down")
    asked = (machine / "kind.asked").read_text().splitlines()
    create = f"kind create cluster --name=flambeau --kubeconfig={place.kubeconfig} --wait=300s"
    assert asked.count(create) == 1
    assert asked[-1].startswith("kind delete cluster --name=flambeau")
    assert not place.root.parent.exists()


def test_kind_is_given_as_many_nodes_as_are_wanted_besides_the_control_plane(machine):
    _cluster("up", "--nodes", "2")
    nodes = json.loads((machine / "kind.given").read_text())["nodes"]
    assert [node["role"] for node in nodes] == ["control-plane", "worker", "worker"]
    _cluster("down")


def test_a_named_cluster_with_too_few_nodes_is_said_so(machine, monkeypatch, control_plane):
    (machine / "kubectl").unlink()
    (machine / "kubectl").symlink_to(control_plane.kubectl.resolve())
    monkeypatch.setenv("FLAMBEAU_CLUSTER", str(control_plane.kubeconfig))
    assert "has nodes []; 2 are wanted" in _cluster("up", "--nodes", "2", status=1)


def test_somebody_elses_kind_cluster_is_left_alone(machine):
    (machine / "kind.runs").touch()
    assert "not of our making" in _cluster("up", status=1)
    _cluster("down")
    assert (machine / "kind.runs").exists()


def test_a_named_cluster_is_used_and_left_alone(machine, monkeypatch, control_plane):
    (machine / "kubectl").unlink()
    (machine / "kubectl").symlink_to(control_plane.kubectl.resolve())
    monkeypatch.setenv("FLAMBEAU_CLUSTER", str(control_plane.kubeconfig))
    assert f"export KUBECONFIG={control_plane.kubeconfig}" in _cluster("up")
    _cluster("down")
    assert control_plane.run("get", "--raw=/readyz") == "ok"
    assert not (machine / "kind.asked").exists()


def test_a_named_cluster_that_is_nowhere_is_said_so(machine, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CLUSTER", str(machine / "nothing"))
    assert "neither kind, nor built, nor a kubeconfig" in _cluster("up", status=1)


def _cluster(*words, status=0):
    argv = [sys.executable, "-m", "e2e.cluster", *words]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr
