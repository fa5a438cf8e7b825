"""Connections to the API server that fall silent: nothing arrives any more, and nobody is told.

So it is when a packet filter on the way has forgotten a connection: a watch seems quiet, and is
deaf. New connections work. For a pod `cut_off`; for a process outside a `Relay` on its way.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault, NotPermitted


@contextlib.contextmanager
def cut_off(cluster: Cluster, address: str) -> Iterator[None]:
    """Have the connections that an address has with the API server just now fall silent.

    At the end of the block they carry again what was sent meanwhile, if both sides still wait.

    Args:
        cluster: one of our building, with a node.
        address: a pod's.
    """
    if cluster.place is None or not cluster.prefix:
        raise NotPermitted("the network of this cluster is not ours to disturb")
    _, port = _server(cluster)
    between = f"( sport = :{port} and dst {address} )"
    found = cluster.inside("ss", "-Htn", "state", "established", between)
    ports = [line.split()[-1].rpartition(":")[2] for line in found.splitlines()]
    if not ports:
        raise ClusterFault(f"{address} has no connection with the API server")
    with contextlib.ExitStack() as rules:
        for port in ports:
            for rule in _rules(address, port):
                cluster.inside("iptables", "--wait", "--insert", *rule)
                rules.callback(cluster.inside, "iptables", "--wait", "--delete", *rule)
        yield


def _rules(address: str, port: str) -> list[list[str]]:
    # Where the API server runs: what a pod sends has its final destination there already.
    there = ["INPUT", "--protocol", "tcp", "--source", address, "--source-port", port]
    back = ["OUTPUT", "--protocol", "tcp", "--destination", address, "--destination-port", port]
    return [[*rule, "--jump", "DROP"] for rule in (there, back)]


class Relay:
    """A way to a cluster's API server, from outside, that can fall silent.

    Args:
        cluster: whose.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._server = _server(cluster)
        self._open: list[_Carried] = []

    def __enter__(self) -> Self:
        self._door = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for each in self._open:
            each.close()

    def kubeconfig(self, folder: Path) -> Path:
        """Write the administrator's kubeconfig that takes this way."""
        config = self._cluster.config()
        url = f"https://127.0.0.1:{self._door.getsockname()[1]}"
        config["clusters"][0]["cluster"]["server"] = url
        path = folder / "relay.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def fall_silent(self) -> int:
        """Carry nothing more of what is open now, in either direction; return how many that are."""
        heard = [each for each in self._open if not each.silent]
        for each in heard:
            each.silent = True
        return len(heard)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the door is closed
            while True:
                near, _ = self._door.accept()
                self._open.append(_Carried(near, socket.create_connection(self._server)))


class _Carried:
    """Two connections, and what goes between them."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = (near, far)
        self.silent = False
        for way in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=way, daemon=True).start()

    def close(self) -> None:
        """Close both."""
        for end in self._ends:
            with contextlib.suppress(OSError):  # it is closed already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, come: socket.socket, go: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := come.recv(65536):
                if not self.silent:
                    go.sendall(said)
            if not self.silent:
                go.shutdown(socket.SHUT_WR)


def _server(cluster: Cluster) -> tuple[str, int]:
    url = urlsplit(cluster.config()["clusters"][0]["cluster"]["server"])
    return url.hostname or "", url.port or 443
