"""A cluster that can be used, wherever it came from."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.faults import ClusterFault, NotPermitted, NotReady
from e2e.cluster.place import Place

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """How a cluster is spoken to.

    Args:
        kubeconfig: the administrator's.
        kubectl: the kubectl to use.
        tier: 1 for a control plane alone, 2 with a node.
        prefix: the words that take a command into its network; none where that is not to be had.
        loading: the words before the path of an image archive that give it to the node.
        place: the folder of a cluster that we built.
    """

    kubeconfig: Path
    kubectl: Path
    tier: int
    prefix: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    place: Place | None = None

    def run(self, *words: str, given: str | None = None, timeout_s: float = 60) -> str:
        """Run kubectl and return what it printed; raise ClusterFault with its own words."""
        argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *words]
        return _output(argv, given, timeout_s)

    def inside(self, *argv: str, given: str | None = None, timeout_s: float = 60) -> str:
        """Run a command in the cluster's network and return what it printed."""
        if not self.prefix:
            raise NotPermitted("the network of this cluster cannot be entered: use a pod")
        return _output([*self.prefix, *argv], given, timeout_s)

    def load(self, archive: Path) -> None:
        """Give an OCI archive's images to the node, under the names that they have in there."""
        if not self.loading:
            raise NotPermitted("images cannot be given to this cluster: push them to its registry")
        _output([*self.loading, str(archive)], None, 600)

    @contextlib.contextmanager
    def without(self, program: str) -> Iterator[None]:
        """Have a program of the cluster killed, and started again at the end of the block.

        Args:
            program: as its log is called: `kube-apiserver`, `etcd`, `kubelet`, …
        """
        if self.place is None:
            raise NotPermitted("the programs of this cluster are not ours to stop")
        if not (self.place.logs / f"{program}.log").exists():
            raise ClusterFault(f"no program {program!r} runs in this cluster")
        wish, stopped = self.place.stop_wish(program), self.place.stopped(program)
        wish.touch()
        try:
            _await(f"{program} is stopped", stopped.exists)
            yield
        finally:
            wish.unlink()
            _await(f"{program} is started again", lambda: not stopped.exists())


def _await(what: str, true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise NotReady(what, seconds)
        time.sleep(0.02)


def _output(argv: Sequence[str], given: str | None, timeout_s: float) -> str:
    try:
        done = subprocess.run(
            argv, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise NotReady(" ".join(argv), timeout_s) from late
    if done.returncode:
        raise ClusterFault(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
