"""Where docker works: the cluster of another tool, kind (https://kind.sigs.k8s.io)."""

import json
import shutil
import subprocess
from pathlib import Path

from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault
from e2e.cluster.place import Place
from e2e.cluster.progress import Say

NAME = "flambeau"
NODE = f"{NAME}-control-plane"
UP_WITHIN_S = 300


def works() -> bool:
    """Whether docker answers, and kind and kubectl are here to use it."""
    if not all(shutil.which(program) for program in ("docker", "kind", "kubectl")):
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def up(place: Place, say: Say, nodes: int = 1) -> Cluster:
    """Have a cluster of kind's; one that runs already is used."""
    if NAME not in _kind("get", "clusters").split():
        say(f"kind makes the cluster {NAME!r}: some minutes, the first time")
        place.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (place.root / "kind").touch()  # it is ours to delete
        kubeconfig = f"--kubeconfig={place.kubeconfig}"
        create = ["create", "cluster", f"--name={NAME}", kubeconfig, f"--wait={UP_WITHIN_S}s"]
        if nodes == 1:
            _kind(*create)
        else:
            _kind(*create, "--config=-", given=json.dumps(_config(nodes)))
    return existing(place)


def _config(nodes: int) -> dict[str, object]:
    # Beside others, kind keeps the control plane's node free of pods.
    roles = ["control-plane", *["worker"] * nodes]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": role} for role in roles],
    }


def existing(place: Place) -> Cluster:
    """Return the cluster of our name."""
    if not place.kubeconfig.exists():
        raise ClusterFault(f"kind runs a cluster {NAME!r} that is not of our making")
    prefix = ("docker", "exec", "--interactive", NODE)
    loading = ("kind", "load", "image-archive", f"--name={NAME}")
    kubectl = Path(shutil.which("kubectl") or "kubectl")
    return Cluster(place.kubeconfig, kubectl, 2, prefix, (loading,))


def ours(place: Place) -> bool:
    """Whether the cluster was made by `up`."""
    return (place.root / "kind").exists()


def down(place: Place, say: Say) -> None:
    """Delete it."""
    say(f"kind deletes the cluster {NAME!r}")
    _kind("delete", "cluster", f"--name={NAME}", f"--kubeconfig={place.kubeconfig}")
    shutil.rmtree(place.root)


def _kind(*words: str, given: str | None = None) -> str:
    argv = ["kind", *words]
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterFault(f"kind {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
