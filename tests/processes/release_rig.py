"""A local cluster of real pods whose operator can be killed alone, and archives that wait.

`LocalSession` keeps operator and pods together; here the pods outlive the operator, as they do on
Kubernetes. An archive holds a release at one of its phases until its gate is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_operator.doors import Key
from flambeau_operator.local.cluster import LocalCluster
from flambeau_operator.local.pod import LocalPod
from flambeau_operator.local.wards import Guard
from flambeau_operator.reconcile import Reconciler
from flambeau_operator.resources.pod_state import PodState
from flambeau_operator.runtime_client import HttpRuntimeClient, Signer
from flambeau_operator.work_queue import WorkQueue

KEY = Key("default", "echo")
LOOK_EVERY_S = 0.02
MIB = 1 << 20

# Answers with its version; waits for the gate where it is told to.
HANDLER = """
import pathlib
import time

def wait_for_gate(gate={gate!r}):
    pathlib.Path(gate).with_suffix(".waiting").touch()
    while not pathlib.Path(gate).exists():
        time.sleep(0.02)

class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]
        if {held!r} == "Loading":
            wait_for_gate()

    def handle(self, data, context):
        for row in data:
            body = row.get("body") or {{}}
            if "hold" in body:
                wait_for_gate(body["hold"])
            if "warm" in body and {held!r} == "Warming":
                wait_for_gate()
        return [{{"version": self.version}} for _ in data]
"""
BULKY = 128 * MIB  # of nothing: takes a moment to verify and to extract


class Gate:
    """What an archive waits for; opening it twice is opening it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.gate"
        self.waiting = self.file.with_suffix(".waiting")
        self.opened = threading.Event()

    def open(self) -> None:
        self.file.touch()
        self.opened.set()


def write_archive(folder: Path, version: str, gate: Gate, held: str = "") -> Path:
    """Write `echo-VERSION.mar`, which holds a release in the phase `held` until its gate opens."""
    file = folder / f"echo-{version}.mar"
    model = {"modelName": "echo", "modelVersion": version, "handler": "handler.py"}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("handler.py", HANDLER.format(gate=str(gate.file), held=held))
        if held == "Verifying":
            with archive.open("weights.bin", "w") as entry:
                for _ in range(BULKY // MIB):
                    entry.write(bytes(MIB))
    return file


class Archives(ThreadingHTTPServer):
    """Serves the archives of a folder; one whose gate is closed is not sent yet."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Sender)
        self.folder = folder
        self.gates: dict[str, Gate] = {}

    def uri(self, file: Path) -> str:
        return f"http://127.0.0.1:{self.server_port}/{file.name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A pod that is killed while it waits is part of the tests."""


class _Sender(BaseHTTPRequestHandler):
    server: Archives

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        content = (self.server.folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.flush()
        if gate := self.server.gates.get(name):
            gate.opened.wait()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving_archives(folder: Path) -> Iterator[Archives]:
    """Serve a folder's archives for as long as the block lasts."""
    server = Archives(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        for gate in server.gates.values():
            gate.open()
        server.shutdown()
        server.server_close()
        thread.join()


class _HeldAfterCommit:
    """The cluster, whose `commit` can be made to return late: what follows it comes later."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.armed = False
        self.reached, self.release = asyncio.Event(), asyncio.Event()

    def hold_after_commit(self) -> None:
        """Hold the next commit."""
        self.armed = True
        self.reached, self.release = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def commit(self, *args: Any) -> None:
        await self._cluster.commit(*args)
        if self.armed:
            self.armed = False
            self.reached.set()
            await self.release.wait()


class Rig:
    """Pods, and an operator that comes and goes."""

    def __init__(self, cluster: LocalCluster, runtimes: HttpRuntimeClient) -> None:
        self.cluster, self.runtimes = cluster, runtimes
        self.door = _HeldAfterCommit(cluster)
        self.queue: WorkQueue | None = None
        self._operator: asyncio.Task[None] | None = None

    def start_operator(self) -> None:
        """Start one that knows nothing but what it reads."""
        reconciler = Reconciler(self.door, self.runtimes, now)
        self.queue = WorkQueue(reconciler.reconcile, reconciler.wait_for_change, dice=random.random)
        self.queue.add(KEY)
        self._operator = asyncio.create_task(self.queue.run())

    async def kill_operator(self) -> None:
        """End it wherever it is."""
        if self._operator is not None:
            self._operator.cancel()
            await asyncio.wait({self._operator})
            self._operator = self.queue = None

    def changed(self, key: Key) -> None:
        if self.queue is not None:
            self.queue.add(key)

    async def apply(self, body: Mapping[str, Any]) -> None:
        await self.cluster.apply(body, 0)

    @property
    def status(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.cluster.read_now(KEY).get("status", {})
        return found

    @property
    def model(self) -> Mapping[str, Any]:
        return next(iter(self.status.get("models", ())), {})

    @property
    def pods(self) -> list[LocalPod]:
        return sorted(self.cluster.pods(KEY), key=lambda pod: pod.name)

    @property
    def url(self) -> str:
        return self.cluster.url(KEY)

    async def states(self) -> dict[str, PodState]:
        """Return what every pod says."""
        return {pod.name: await self.runtimes.get_state(pod.facts()) for pod in self.pods}

    async def until(self, holds: Callable[[], object], what: str, within_s: float = 45) -> None:
        """Wait until something holds."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():  # noqa: ASYNC110  processes do it
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            told = json.dumps(self.status, indent=1)
            raise AssertionError(f"not within {within_s} s: {what}\n{told}") from None

    def kill(self, pod: LocalPod) -> float:
        """Kill a pod's process; it is started again. Returns when, on the loop's clock."""
        assert pod.pid is not None
        os.kill(pod.pid, signal.SIGKILL)
        return asyncio.get_running_loop().time()


def now() -> datetime:
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def a_rig(folder: Path) -> AsyncIterator[Rig]:
    """Run a cluster and an operator for as long as the block lasts."""
    signer = Signer(Ed25519PrivateKey.generate(), now)
    rig: Rig | None = None

    def changed(key: Key) -> None:
        if rig is not None:
            rig.changed(key)

    async with Guard() as guard, HttpRuntimeClient(signer) as runtimes:
        cluster = LocalCluster(
            folder,
            runtimes=runtimes,
            public_key=signer.public_key,
            clock=now,
            wards=guard,
            changed=changed,
        )
        rig = Rig(cluster, runtimes)
        async with cluster:
            rig.start_operator()
            try:
                yield rig
            finally:
                await rig.kill_operator()
