"""A cluster that can be used, wherever it came from."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from e2e.cluster import tools
from e2e.cluster.faults import ClusterFault, NotPermitted, NotReady
from e2e.cluster.place import Place
from e2e.cluster.progress import on_stderr


@dataclass(frozen=True, slots=True)
class Cluster:
    """How a cluster is spoken to.

    Args:
        kubeconfig: the administrator's, or whose it shall be.
        kubectl: the kubectl to use.
        tier: 1 for a control plane alone, 2 with a node.
        prefix: the words that take a command into its network; none where that is not to be had.
        loading: for each node the words before the path of an image archive that give it to it.
        place: the folder of a cluster that we built.
    """

    kubeconfig: Path
    kubectl: Path
    tier: int
    prefix: tuple[str, ...] = ()
    loading: tuple[tuple[str, ...], ...] = ()
    place: Place | None = None

    def run(self, *words: str, given: str | None = None, timeout_s: float = 60) -> str:
        """Run kubectl and return what it printed; raise ClusterFault with its own words."""
        argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *words]
        return _output(argv, given, timeout_s)

    def helm(self, *words: str, timeout_s: float = 300) -> str:
        """Run helm and return what it printed; the first time it may have to be built."""
        argv = [str(tools.helm(on_stderr)), *words, f"--kubeconfig={self.kubeconfig}"]
        # Nobody's own settings: a namespace or a context of theirs above all.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HELM_")}
        return _output(argv, None, timeout_s, kept)

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""
        return self.run("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()

    def inside(self, *argv: str, given: str | None = None, timeout_s: float = 60) -> str:
        """Run a command in the cluster's network and return what it printed."""
        if not self.prefix:
            raise NotPermitted("the network of this cluster cannot be entered: use a pod")
        return _output([*self.prefix, *argv], given, timeout_s)

    def load(self, archive: Path) -> None:
        """Give an OCI archive's images to every node, under the names that they have in there."""
        if not self.loading:
            raise NotPermitted("images cannot be given to this cluster: push them to its registry")
        for words in self.loading:
            _output([*words, str(archive)], None, 600)

    def config(self) -> dict[str, Any]:
        """Return the kubeconfig as it is used, with everything that it refers to in it."""
        view = ("config", "view", "--raw", "--minify", "--flatten", "--output=json")
        return cast("dict[str, Any]", json.loads(self.run(*view)))

    def kubeconfig_for(self, namespace: str, account: str, folder: Path | None = None) -> Path:
        """Write a kubeconfig that speaks as a ServiceAccount, with a token for an hour.

        Args:
            namespace: the ServiceAccount's.
            account: its name.
            folder: where the file goes; a cluster that we built has a folder of its own for it.
        """
        if folder is None and self.place is None:
            raise NotPermitted("this cluster has no folder of ours for kubeconfigs: name one")
        here = folder or self.place.root  # type: ignore[union-attr]
        token = self.run("-n", namespace, "create", "token", account, "--duration=1h").strip()
        config = self.config()
        config["users"][0]["user"] = {"token": token}
        path = here / f"{namespace}.{account}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=2))
        return path

    def speaking_as(self, namespace: str, account: str, folder: Path | None = None) -> "Cluster":
        """Return the same cluster, spoken to as a ServiceAccount."""
        return replace(self, kubeconfig=self.kubeconfig_for(namespace, account, folder))

    @contextlib.contextmanager
    def without(self, program: str) -> Iterator[None]:
        """Have a program of the cluster killed, and started again at the end of the block.

        Args:
            program: as its log is called: `kube-apiserver`, `etcd`, `kubelet`, …
        """
        place = self._place_of(program)
        with _wish(place, f"{program}.stop", f"{program} is stopped"):
            yield

    @contextlib.contextmanager
    def frozen(self, program: str) -> Iterator[None]:
        """Have a program of the cluster stand still: its connections stay, and say nothing.

        Args:
            program: as its log is called.
        """
        place = self._place_of(program)
        with _wish(place, f"{program}.freeze", f"{program} stands still"):
            yield

    def _place_of(self, program: str) -> Place:
        if self.place is None:
            raise NotPermitted("the programs of this cluster are not ours to stop")
        if not (self.place.logs / f"{program}.log").exists():
            raise ClusterFault(f"no program {program!r} runs in this cluster")
        return self.place


@contextlib.contextmanager
def _wish(place: Place, name: str, what: str) -> Iterator[None]:
    wish, granted = place.wish(name), place.granted(name)
    wish.touch()
    try:
        _await(what, granted.exists)
        yield
    finally:
        wish.unlink()
        _await(f"{what}, no longer", lambda: not granted.exists())


def _await(what: str, true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise NotReady(what, seconds)
        time.sleep(0.02)


def _output(
    argv: Sequence[str],
    given: str | None,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> str:
    try:
        done = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as late:
        raise NotReady(" ".join(argv), timeout_s) from late
    if done.returncode:
        raise ClusterFault(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
