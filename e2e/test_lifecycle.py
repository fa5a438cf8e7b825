"""A cluster comes and goes without a trace, whoever ends it and however."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.cluster import cgroups
from e2e.cluster.faults import ClusterFault
from e2e.cluster.keeper import CHECKOUT
from e2e.cluster.place import Place, process_start

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

SIZES = [(1, 1), (2, 1), (2, 2)]
KEEP_ONE = """
import sys
from pathlib import Path
from e2e.cluster import launch
from e2e.cluster.place import Place
tier, nodes, folder = sys.argv[1:]
with launch.running(int(tier), Place(Path(folder)), lambda _: None, int(nodes)):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def command(tmp_path):
    """Run `python -m e2e.cluster` with a home of its own for the cluster, removed at the end."""

    def run(*words):
        where = _where(tmp_path)
        return subprocess.run(_argv(words), capture_output=True, text=True, check=False, **where)

    yield run
    run("down")


@pytest.fixture
def place(tmp_path):
    """Where that home's cluster is."""
    return Place(tmp_path / "flambeau" / "cluster")


@pytest.mark.parametrize(("tier", "nodes"), SIZES)
def test_a_cluster_dies_with_the_process_that_wanted_it(tmp_path, tier, nodes):
    place = Place(tmp_path / "cluster")
    argv = [sys.executable, "-c", KEEP_ONE, str(tier), str(nodes), str(place.root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=CHECKOUT, **pipes) as process:
        assert process.stdout.readline() == b"up\n"
        programs = _programs_of(place)
        assert len(programs) >= 4
        process.kill()
    _until(lambda: _gone(place, programs))


@pytest.mark.parametrize(("tier", "nodes"), SIZES)
def test_down_removes_what_a_killed_keeper_left(command, place, tier, nodes):
    assert command("up", "--tier", str(tier), "--nodes", str(nodes)).returncode == 0
    programs = _programs_of(place)
    os.kill(place.keeper().pid, signal.SIGKILL)
    assert command("down").returncode == 0
    _until(lambda: _gone(place, programs))
    assert not place.root.parent.exists()


def test_a_second_up_finds_the_first_ones_cluster(command, place):
    assert command("up", "--tier", "1").returncode == 0
    keeper = place.keeper()
    again = command("up", "--tier", "1")
    assert "it runs already" in again.stderr
    assert f"export KUBECONFIG={place.kubeconfig}" in again.stdout
    assert place.keeper() == keeper


def test_a_cluster_that_is_too_small_is_not_taken_for_a_larger_one(command, place):
    assert command("up", "--nodes", "1").returncode == 0
    larger = command("up", "--nodes", "2")
    assert larger.returncode == 1
    assert "a smaller cluster (tier 2, nodes: 1) runs in" in larger.stderr
    assert place.keeper().alive


def test_down_without_a_cluster_does_nothing(command, place):
    for _ in range(2):
        assert command("down").returncode == 0
    assert not place.root.parent.exists()


def test_ctrl_c_while_it_comes_up_leaves_nothing(tmp_path, place):
    argv = _argv(("up", "--tier", "1"))
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, **_where(tmp_path)) as process:
        _until((place.logs / "etcd.log").exists)
        programs = _programs_of(place)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert _gone(place, programs)
    assert not place.root.parent.exists()


def test_who_comes_back_to_a_cluster_that_broke_is_told_why(command, place):
    assert command("up", "--tier", "1").returncode == 0
    os.kill(_programs_of(place)["etcd"], signal.SIGKILL)
    _until(lambda: not place.keeper())
    told = command("status")
    assert told.returncode == 1
    assert re.search(r"etcd ended with status .*; its last lines:", told.stderr)
    assert command("up", "--tier", "1").returncode == 0


def test_a_program_can_be_taken_away_for_a_while(control_plane, fresh_name):
    control_plane.run("create", "namespace", fresh_name)
    with control_plane.without("kube-apiserver"), pytest.raises(ClusterFault, match="refused"):
        control_plane.run("get", "namespace", fresh_name)
    _until(lambda: _answers(control_plane))
    control_plane.run("get", "namespace", fresh_name)


def test_a_machine_without_a_nodes_programs_is_told_their_names_and_the_remedy(tmp_path):
    for name in ("unshare", "true"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    where = _where(tmp_path)
    where["env"] |= {"PATH": str(tmp_path)}
    asked = subprocess.run(_argv(["up"]), capture_output=True, text=True, check=False, **where)
    assert asked.returncode == 1
    assert re.search(r"not found: containerd, ctr, .*e2e/cluster/packages\.sh", asked.stderr)


def _argv(words):
    return [sys.executable, "-m", "e2e.cluster", *words]


def _where(home):
    environment = os.environ | {"XDG_STATE_HOME": str(home), "FLAMBEAU_CLUSTER": "built"}
    return {"cwd": CHECKOUT, "env": environment}


def _programs_of(place):
    """Return the pid of each of the cluster's processes, by name."""
    found, todo = {}, [place.keeper().pid]
    while todo:
        for pid in _children(todo.pop()):
            name = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1]
            found[f"{name} {pid}" if name in found else name] = pid  # one for each node, of some
            todo.append(pid)
    return found


def _children(parent):
    stats = {int(stat.parent.name): stat for stat in Path("/proc").glob("[0-9]*/stat")}
    return [pid for pid in stats if _parent(pid) == parent]


def _parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _gone(place, programs):
    groups = [root / place.cgroup for root in cgroups.hierarchies()]
    return not (
        place.root.exists()
        or any(process_start(pid) for pid in programs.values())
        or any(group.exists() for group in groups)
    )


def _answers(cluster):
    try:
        return cluster.run("get", "--raw=/readyz") == "ok"
    except ClusterFault:
        return False


def _until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
