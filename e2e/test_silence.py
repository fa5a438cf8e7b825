"""A watch can be made deaf, while new connections work; for pods and for processes outside."""

import contextlib
import select
import subprocess
import sys

import pytest

from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault
from e2e.cluster.silence import Relay, cut_off

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

ADDRESS = "10.245.0.77"
# Watches, from that address, and prints the events; ends with its input, since a signal would reach
# only the `nsenter` before it.
WATCH = """
import http.client, json, os, ssl, sys, threading
threading.Thread(target=lambda: [sys.stdin.read(), os._exit(0)], daemon=True).start()
token, host, port, path = sys.argv[1:]
untrusting = ssl._create_unverified_context()
api = http.client.HTTPSConnection(host, int(port), context=untrusting, source_address=(%r, 0))
api.request("GET", path, headers={"Authorization": "Bearer " + token})
answer = api.getresponse()
while line := answer.readline():
    print(json.loads(line)["object"]["metadata"]["name"], flush=True)
"""
SILENT_S = 2.0


@pytest.fixture
def address(cluster):
    """An address in the cluster that is nobody's yet."""
    cluster.inside("ip", "address", "add", f"{ADDRESS}/32", "dev", "node0")
    yield ADDRESS
    cluster.inside("ip", "address", "delete", f"{ADDRESS}/32", "dev", "node0")


def test_a_watch_that_is_cut_off_hears_nothing_while_a_new_one_does(cluster, fresh_name, address):
    cluster.run("create", "namespace", fresh_name)
    with _watching(cluster, fresh_name) as old:
        assert _next(old) == "kube-root-ca.crt"
        with cut_off(cluster, address):
            cluster.run("-n", fresh_name, "create", "configmap", "unheard")
            with _watching(cluster, fresh_name) as new:
                assert {_next(new), _next(new)} == {"kube-root-ca.crt", "unheard"}
            assert _next(old, SILENT_S) is None
        assert _next(old) == "unheard"


def test_who_has_no_connection_cannot_be_cut_off(cluster, address):
    with pytest.raises(ClusterFault, match="has no connection"), cut_off(cluster, address):
        pass


def test_a_relay_falls_silent_for_what_is_open_and_not_for_what_comes(
    control_plane, fresh_name, tmp_path
):
    control_plane.run("create", "namespace", fresh_name)
    with Relay(control_plane) as relay:
        through = Cluster(relay.kubeconfig(tmp_path), control_plane.kubectl, 1)
        with _kubectl_watching(through, fresh_name) as old:
            assert _next(old) == "configmap/kube-root-ca.crt"
            assert relay.fall_silent() >= 1
            control_plane.run("-n", fresh_name, "create", "configmap", "unheard")
            assert "unheard" in through.run("-n", fresh_name, "get", "configmaps")
            assert _next(old, SILENT_S) is None
            assert old.poll() is None


@contextlib.contextmanager
def _watching(cluster, namespace):
    config = cluster.config()
    token = config["users"][0]["user"]["token"]
    port = config["clusters"][0]["cluster"]["server"].rpartition(":")[2]
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=true"
    argv = [sys.executable, "-c", WATCH % ADDRESS, token, "10.245.0.1", port, path]
    with _started([*cluster.prefix, *argv]) as process:
        yield process


@contextlib.contextmanager
def _kubectl_watching(cluster, namespace):
    words = ["-n", namespace, "get", "configmaps", "--watch", "--output=name"]
    with _started([cluster.kubectl, f"--kubeconfig={cluster.kubeconfig}", *words]) as process:
        yield process


@contextlib.contextmanager
def _started(argv):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, bufsize=0, **pipes) as process:
        try:
            yield process
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # kubectl reads no input
                process.wait(timeout=1)
            process.kill()


def _next(process, within_s=30.0):
    """Return the next line of a process, None if there is none in time."""
    if select.select([process.stdout], [], [], within_s)[0]:
        return process.stdout.readline().decode().strip()
    return None
