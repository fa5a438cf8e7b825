"""`python -m e2e.cluster up | down | status | build`: what the make targets call."""

import argparse
import signal
import sys

from e2e.cluster import choice, hyperkube, kind, kstatus, launch, registry, tools
from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault
from e2e.cluster.place import Place, default_place
from e2e.cluster.progress import on_stderr


def main() -> int:
    """Run one command; faults become one message and status 1."""
    arguments = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        COMMANDS[arguments.command](arguments)
    except ClusterFault as fault:
        on_stderr(f"error: {fault}")
        return 1
    except KeyboardInterrupt:
        on_stderr("stopped; nothing is left behind")
        return 130
    return 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring a cluster up and leave it running")
    up.add_argument(
        "--tier",
        type=int,
        choices=(1, 2),
        default=2,
        help="1: control plane; 2: with a node (root)",
    )
    up.add_argument(
        "--nodes",
        type=int,
        choices=range(1, 5),
        default=1,
        help="of tier 2; each further one has a network, a containerd and a kubelet of its own",
    )
    commands.add_parser("down", help="remove it and every trace")
    commands.add_parser("status", help="say how to use the one that runs")
    commands.add_parser("build", help="build what a cluster is made of, so that up is quick")
    return parser


def _up(arguments: argparse.Namespace) -> None:
    cluster = choice.up(arguments.tier, default_place(), on_stderr, arguments.nodes)
    _explain(cluster, default_place())


def _down(_: argparse.Namespace) -> None:
    choice.down(default_place(), on_stderr)
    on_stderr("no cluster is left")


def _status(_: argparse.Namespace) -> None:
    place = default_place()
    cluster = kind.existing(place) if kind.ours(place) else launch.existing(place)
    if cluster is None:
        ended = launch.last_words(place)
        raise ClusterFault(f"the cluster has ended:\n{ended}" if ended else "no cluster runs")
    _explain(cluster, place)


def _build(_: argparse.Namespace) -> None:
    for build in (hyperkube.built, tools.built, registry.registry, kstatus.kstatus):
        on_stderr(str(build(on_stderr)))


def _explain(cluster: Cluster, place: Place) -> None:
    lines = [
        "",
        f"A cluster of tier {cluster.tier} is up. To use it:",
        "",
        f"    export KUBECONFIG={cluster.kubeconfig}",
    ]
    if cluster.place is not None:
        comment = f"# kubectl {hyperkube.version()}"
        lines += [f'    export PATH="{cluster.kubectl.parent}:$PATH"    {comment}']
    if cluster.prefix:
        lines += ["", "Pods and Services answer inside its network only; to go there:", ""]
        lines += [f"    {' '.join(cluster.prefix)} bash"]
    if cluster.place is not None:
        lines += ["", f"Its logs are in {place.logs}."]
    sys.stdout.write("\n".join([*lines, ""]) + "\n")


COMMANDS = {"up": _up, "down": _down, "status": _status, "build": _build}

if __name__ == "__main__":
    sys.exit(main())
