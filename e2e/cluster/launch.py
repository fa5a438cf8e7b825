"""Bring a built cluster up and down, from outside: by hand or for the length of a test."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

from e2e.cluster import hyperkube, isolation, keeper, node
from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault, NotReady, Occupied, tail
from e2e.cluster.place import Keeper, Place, child_of
from e2e.cluster.progress import Say

UP_WITHIN_S = 300.0
DOWN_WITHIN_S = 300.0
"""It takes seconds, and minutes on a machine that is busy with much else."""


@contextlib.contextmanager
def alone(place: Place, say: Say) -> Iterator[None]:
    """Keep every other `up` and `down` of the folder out for the length of a block."""
    place.root.parent.mkdir(parents=True, exist_ok=True)
    door = os.open(place.root.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command works on the cluster: waiting for it")
            fcntl.flock(door, fcntl.LOCK_EX)
        yield
    finally:
        place.forget()
        os.close(door)


@contextlib.contextmanager
def running(tier: int, place: Place, say: Say, nodes: int = 1) -> Iterator[Cluster]:
    """Have a cluster for the length of a block; it dies with this process, however that ends."""
    process = _launch(tier, nodes, place, keeper.ATTACHED, say)
    try:
        yield _await(process, place, say)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(DOWN_WITHIN_S)


def up(tier: int, place: Place, say: Say, nodes: int = 1) -> Cluster:
    """Leave a cluster running behind; one that runs already is returned as it is."""
    found = existing(place)
    if found is not None:
        if found.tier < tier or (tier > 1 and len(found.loading) < nodes):
            raise Occupied(
                f"a smaller cluster (tier {found.tier}, nodes: {len(found.loading)}) runs in "
                f"{place.root}: make cluster-down first"
            )
        say("it runs already")
        return found
    down(place, say)
    process = _launch(tier, nodes, place, keeper.DETACHED, say)
    try:
        return _await(process, place, say)
    except BaseException:
        process.terminate()
        process.wait(DOWN_WITHIN_S)
        raise


def existing(place: Place) -> Cluster | None:
    """Return the cluster that runs in a folder."""
    kept = place.keeper()
    if kept is None or not kept.alive or not place.ready.exists():
        return None
    return _cluster(kept, place)


def last_words(place: Place) -> str | None:
    """Return why a cluster ended on its own, if one did in this folder."""
    return tail(place.progress) if place.progress.exists() else None


def down(place: Place, say: Say) -> None:
    """Remove a cluster and every trace of it; without one, do nothing."""
    kept = place.keeper()
    if kept is not None and kept.alive:
        say(f"stopping the cluster in {place.root}")
        os.kill(kept.pid, signal.SIGTERM)
        _await_end(kept)
    if place.root.exists():
        say(f"removing what a cluster left in {place.root}")
        keeper.sweep(place)


def _launch(tier: int, nodes: int, place: Place, how: str, say: Say) -> subprocess.Popen[bytes]:
    if tier > 1:
        isolation.check()
        node.check_programs()
    binaries = hyperkube.built(say)
    place.make()
    place.kubectl.symlink_to(binaries / "hyperkube")
    words = [str(tier), str(nodes), str(place.root), str(binaries), how]
    with place.progress.open("wb") as progress:
        return subprocess.Popen(
            [sys.executable, "-B", "-m", "e2e.cluster.keeper", *words],
            cwd=keeper.CHECKOUT,
            stdin=subprocess.PIPE if how == keeper.ATTACHED else subprocess.DEVNULL,
            stdout=progress,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await(process: subprocess.Popen[bytes], place: Place, say: Say) -> Cluster:
    deadline = time.monotonic() + UP_WITHIN_S
    # Held open: a keeper that fails removes the folder, and with it the file's name.
    with place.progress.open() as progress:
        while not place.ready.exists():
            _pass_on(progress, say)
            if process.poll() is not None:
                raise ClusterFault(
                    "\n".join(["the cluster did not come up", *progress.read().splitlines()])
                )
            if time.monotonic() > deadline:
                raise NotReady("the cluster is ready", UP_WITHIN_S)
            time.sleep(0.05)
        _pass_on(progress, say)
    kept = place.keeper()
    if kept is None:
        raise ClusterFault("the cluster came up and has ended again")
    return _cluster(kept, place)


def _pass_on(progress: IO[str], say: Say) -> None:
    for line in progress.read().splitlines():
        say(line)


def _cluster(kept: Keeper, place: Place) -> Cluster:
    if kept.tier == 1:
        return Cluster(place.kubeconfig, place.kubectl, kept.tier, place=place)
    prefix = tuple(isolation.entering(_first_inside(kept.pid)))
    loading = tuple((*prefix, *node.import_words(number)) for number in range(kept.nodes))
    return Cluster(place.kubeconfig, place.kubectl, kept.tier, prefix, loading, place)


def _first_inside(keeper_pid: int) -> int:
    unshare = child_of(keeper_pid)
    first = child_of(unshare) if unshare is not None else None
    if first is None:
        raise ClusterFault("the cluster's first process is gone")
    return first


def _await_end(kept: Keeper, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while kept.alive:
        if time.monotonic() > deadline:
            os.kill(kept.pid, signal.SIGKILL)
            deadline = time.monotonic() + seconds
        time.sleep(0.05)
