"""The process inside: starts the programs in their order, says when they are ready, watches them.

It runs until its standard input ends. For tier 2 it is the first process of its namespaces.
"""

import contextlib
import os
import signal
import sys
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import dns, isolation, metrics, node
from e2e.cluster.control_plane import USERS, ControlPlane
from e2e.cluster.faults import ClusterFault
from e2e.cluster.place import Place
from e2e.cluster.programs import OwnerGone, Programs


@dataclass(frozen=True, slots=True)
class Order:
    """What the keeper asks of the supervisor; travels on the command line."""

    tier: int
    nodes: int
    place: Path
    binaries: Path
    port: int
    listener: int = -1

    def words(self) -> list[str]:
        """Return the order as arguments."""
        return [
            str(self.tier),
            str(self.nodes),
            str(self.place),
            str(self.binaries),
            str(self.port),
            str(self.listener),
        ]


def main() -> int:
    """Carry out the order on the command line."""
    tier, nodes, place, binaries, port, listener = sys.argv[1:]
    order = Order(int(tier), int(nodes), Path(place), Path(binaries), int(port), int(listener))
    # The keeper decides when it is over, by closing our input; a Ctrl-C reaches it too. Not
    # SIG_IGN: that would be inherited, down to the containers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    try:
        if order.tier > 1:
            isolation.arrange()
        with _programs(Place(order.place)) as programs:
            START[order.tier](order, programs)
            _announce(Place(order.place))
            while True:
                programs.obey()
                programs.check(0.2)
    except OwnerGone:
        return 0
    except ClusterFault as fault:
        sys.stderr.write(f"{fault}\n")
    return 1


@contextlib.contextmanager
def _programs(place: Place) -> Iterator[Programs]:
    programs = Programs(place, owner=0)
    try:
        yield programs
    finally:
        programs.kill()


def _start_control_plane(order: Order, programs: Programs) -> None:
    control_plane = ControlPlane(Place(order.place), order.binaries, order.port)
    control_plane.write_identities(USERS)
    control_plane.start(programs)


def _start_all(order: Order, programs: Programs) -> None:
    place = Place(order.place)
    everywhere = "0.0.0.0"  # noqa: S104  the network is the cluster's own
    control_plane = ControlPlane(place, order.binaries, order.port, everywhere, node.ADDRESS)
    cgroup = Place(Path(os.environ[isolation.FOLDER])).cgroup
    nodes = [node.Node(control_plane, cgroup, number) for number in range(order.nodes)]
    for each in nodes:
        each.make(programs)
    users = [USERS, dns.USERS, metrics.USERS, *(each.users for each in nodes)]
    control_plane.write_identities(dict(ChainMap(*users)))
    for each in nodes:
        each.start_containers(programs)
    control_plane.start(programs)
    for each in nodes:
        each.start(programs)
    for each in nodes:
        each.await_ready(programs)
    dns.start(control_plane, node.ADDRESS, programs)
    metrics.start(control_plane, node.ADDRESS, programs)
    _open_door(order, programs)


def _open_door(order: Order, programs: Programs) -> None:
    # The same address inside and outside, so that one kubeconfig fits both.
    words = ["relay", f"-fd={order.listener}", f"-to=127.0.0.1:{order.port}"]
    programs.start("relay", [order.binaries / "hyperkube", *words], keep=(order.listener,))


def _announce(place: Place) -> None:
    unfinished = place.root / "ready.part"
    unfinished.touch()
    unfinished.rename(place.ready)


START = {1: _start_control_plane, 2: _start_all}

if __name__ == "__main__":
    sys.exit(main())
