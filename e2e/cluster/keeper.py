"""The process outside: holds a cluster for as long as it is wanted, and removes what is left.

It stays in the host's namespaces, so it can sweep up after those of the cluster are gone: there no
mount of a pod lies below the folder any more.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster import cgroups, isolation
from e2e.cluster.place import Keeper, Place, process_start
from e2e.cluster.supervisor import Order

ATTACHED, DETACHED = "attached", "detached"
CHECKOUT = Path(__file__).parents[2]


def main() -> int:
    """Keep a cluster: `keeper TIER NODES FOLDER BINARIES attached|detached`.

    It ends with SIGTERM, with its supervisor or, attached, when its standard input ends.
    """
    tier, nodes, folder, binaries, how = sys.argv[1:]
    return _keep(int(tier), int(nodes), Place(Path(folder)), Path(binaries), how)


def _keep(tier: int, nodes: int, folder: Place, binaries: Path, how: str) -> int:
    folder.record(Keeper(os.getpid(), process_start(os.getpid()) or 0, tier, nodes=nodes))
    explain = False
    told, tell = os.pipe()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os.write(tell, b"!"))
    try:
        with _supervisor(tier, nodes, folder, binaries) as process:
            status = _hold(process, [told] if how == DETACHED else [told, 0])
            # Whoever comes back to a cluster that ended on its own wants to know why.
            explain = status != 0 and how == DETACHED and folder.ready.exists()
            return status
    finally:
        sweep(folder, keep_logs=explain)


@contextlib.contextmanager
def _supervisor(
    tier: int, nodes: int, folder: Place, binaries: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        if tier == 1:
            door.close()  # the API server itself takes the port
            order = Order(tier, nodes, folder.root, binaries, port)
            argv = _python(order)
        else:
            # The door stays this namespace's; whoever inherits it can answer from another one.
            order = Order(tier, nodes, isolation.INSIDE, binaries, port, door.fileno())
            argv = isolation.isolated(_python(order))
        process = subprocess.Popen(
            argv,
            cwd=CHECKOUT,
            env=os.environ | {isolation.FOLDER: str(folder.root)},
            stdin=subprocess.PIPE,
            pass_fds=[door.fileno()] if tier > 1 else [],
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _python(order: Order) -> list[str]:
    return [sys.executable, "-B", "-m", "e2e.cluster.supervisor", *order.words()]


def _hold(process: subprocess.Popen[bytes], reasons: list[int]) -> int:
    ended = os.pidfd_open(process.pid)
    try:
        ready, _, _ = select.select([ended, *reasons], [], [])
    finally:
        os.close(ended)
    return process.wait() if ended in ready else 0


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def sweep(folder: Place, *, keep_logs: bool = False) -> None:
    """Remove what a cluster that has ended left: its cgroups and its folder."""
    saved = os.environ.get("FLAMBEAU_CLUSTER_LOGS")
    if saved and folder.logs.is_dir():
        shutil.copytree(folder.logs, saved, dirs_exist_ok=True)
    cgroups.remove(folder.cgroup)
    if not folder.root.exists():
        return
    kept = {folder.logs, folder.progress} if keep_logs else set()
    for path in set(folder.root.iterdir()) - kept:
        _remove(path)
    if not keep_logs:
        folder.root.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    sys.exit(main())
