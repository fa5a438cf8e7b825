"""Tier 1 carries what later tests put on it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.cluster.keeper import CHECKOUT
from e2e.cluster.place import Place, process_start

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

KEEP_ONE = """
import sys, pathlib
from e2e.cluster import launch
with launch.running(1, pathlib.Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.read()
"""


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


def test_a_cluster_dies_with_the_process_that_wanted_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KEEP_ONE, str(tmp_path)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        while process.stdout.readline() != "up\n":
            assert process.poll() is None
        place = Place(tmp_path / "cluster")
        keeper = place.keeper()
        programs = _programs_of(place)
        assert keeper.alive
        assert len(programs) == 6  # keeper, supervisor, and the control plane's four
        process.send_signal(signal.SIGKILL)
    _until(lambda: not keeper.alive and not place.root.exists())
    assert all(process_start(pid) is None for pid in programs)


def _programs_of(place):
    needle = os.fsencode(place.root)
    return [
        int(entry.name)
        for entry in os.scandir("/proc")
        if entry.name.isdigit()
        and needle in _command_line(entry.path)
        and b"hyperkube" in _command_line(entry.path)
    ]


def _command_line(process):
    try:
        return Path(process, "cmdline").read_bytes()
    except OSError:
        return b""


def _until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
