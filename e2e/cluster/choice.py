"""Which cluster: one that is named, else kind where docker works, else one that we build.

`FLAMBEAU_CLUSTER` decides when it is set: `kind`, `built`, or the path of a kubeconfig.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster import kind, launch
from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault, MissingPrograms
from e2e.cluster.place import Place
from e2e.cluster.progress import Say

VARIABLE = "FLAMBEAU_CLUSTER"


def up(tier: int, place: Place, say: Say, nodes: int = 1) -> Cluster:
    """Leave a cluster running behind, or find the one that is named."""
    with launch.alone(place, say):
        wish = _wish()
        if wish == "kind":
            return kind.up(place, say, nodes)
        if wish == "built":
            return launch.up(tier, place, say, nodes)
        return _enough(_named(Path(wish)), nodes)


def down(place: Place, say: Say) -> None:
    """Remove what `up` left behind; a cluster that was named is not ours to touch."""
    with launch.alone(place, say):
        if kind.ours(place):
            kind.down(place, say)
        else:
            launch.down(place, say)


@contextlib.contextmanager
def running(tier: int, folder: Path, say: Say, nodes: int = 1) -> Iterator[Cluster]:
    """Have a cluster for the length of a test run."""
    wish = _wish()
    if wish == "built":
        with launch.running(tier, Place(folder / "cluster"), say, nodes) as cluster:
            yield cluster
    elif wish == "kind":
        place = Place(folder / "cluster")
        yield kind.up(place, say, nodes)
        if kind.ours(place):
            kind.down(place, say)
    else:
        yield _named(Path(wish))


def _wish() -> str:
    return os.environ.get(VARIABLE) or ("kind" if kind.works() else "built")


def _named(kubeconfig: Path) -> Cluster:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise MissingPrograms(
            ["kubectl"], "a cluster that is named is used with the kubectl of its version"
        )
    if not kubeconfig.is_file():
        raise ClusterFault(f"{VARIABLE}={kubeconfig} is neither kind, nor built, nor a kubeconfig")
    cluster = Cluster(kubeconfig.absolute(), Path(kubectl), 2)
    cluster.run("get", "--raw=/readyz", timeout_s=15)
    return cluster


def _enough(cluster: Cluster, nodes: int) -> Cluster:
    # One is not asked for: who names a control plane alone knows why.
    if nodes > 1 and len(cluster.nodes()) < nodes:
        raise ClusterFault(f"{cluster.kubeconfig} has nodes {cluster.nodes()}; {nodes} are wanted")
    return cluster
