"""Local mode as a whole: files become deployments, deployments become processes, one address each.

What `watch` is on Kubernetes, this is on one machine: it feeds the work queue, and decides nothing.
The command line draws what `observe()` returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_operator import snapshot
from flambeau_operator.doors import Key, Ref, Result
from flambeau_operator.errors import StateDirInUse
from flambeau_operator.local import control
from flambeau_operator.local.cluster import RUNTIME, LocalCluster
from flambeau_operator.local.commands import Commands
from flambeau_operator.local.pod import LocalPod as PodProcess
from flambeau_operator.local.wards import Guard
from flambeau_operator.plan.plan import Event
from flambeau_operator.reconcile import Reconciler
from flambeau_operator.resources.observed import Snapshot
from flambeau_operator.runtime_client import HttpRuntimeClient, Signer
from flambeau_operator.work_queue import WorkQueue


@dataclass(frozen=True, slots=True)
class LocalPod:
    """One runtime process, for people."""

    name: str
    pid: int | None  # None while it waits for its restart
    phase: str  # Starting | NotReady | Ready | Draining | BackingOff
    restarts: int
    inference_url: str  # empty until the runtime listens
    management_url: str
    log_file: Path
    last_exit: str | None = None  # "exit code 3" or "killed by SIGKILL", of the last death


@dataclass(frozen=True, slots=True)
class LocalEvent:
    """Something that happened to a deployment, once."""

    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class LocalDeployment:
    """One deployment as it stands."""

    key: Key
    url: str  # the balanced address, "http://127.0.0.1:8080"
    generation: int
    status: Mapping[str, object]  # as API.md section 1, camelCase; {} before the first pass
    pods: tuple[LocalPod, ...]
    events: tuple[LocalEvent, ...]  # oldest first, the last 100
    problems: tuple[str, ...] = ()  # what the last pass could not do


@dataclass(frozen=True, slots=True)
class _Running:
    """The parts of an open session."""

    cluster: LocalCluster
    queue: WorkQueue
    reconciler: Reconciler


class LocalSession:
    """ModelDeployments served by processes of this machine for as long as the block lasts.

    Args:
        state_dir: where objects, logs and the runtimes' state lie; None takes a temporary folder
            that vanishes with the session. A folder serves one session at a time.
        base_port: port of the first deployment's address, the next one gets the next; 0 takes any.
        host: loopback address to listen on; with 127.0.0.1, ::1 is served too where there is one.
        command: how to start a runtime, without its flags; None is the one that is installed.

    Raises (on entering):
        StateDirInUse: another session works in `state_dir`.
    """

    def __init__(
        self,
        state_dir: Path | None = None,
        *,
        base_port: int = 8080,
        host: str = "127.0.0.1",
        command: tuple[str, ...] | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._base_port = base_port
        self._host = host
        self._command = command or RUNTIME
        self._stack = AsyncExitStack()
        self._parts: _Running | None = None
        self._problems: dict[Key, tuple[str, ...]] = {}
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Start the work queue; no pod yet."""
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(_state_dir(self._state_dir))
            meeting_point = stack.enter_context(_meeting_point())
            temporary = [folder] if self._state_dir is None else []
            guard = await stack.enter_async_context(Guard(remove=[*temporary, meeting_point]))
            signer = Signer(Ed25519PrivateKey.generate(), _now)
            runtimes = await stack.enter_async_context(HttpRuntimeClient(signer))
            cluster = LocalCluster(
                folder,
                runtimes=runtimes,
                public_key=signer.public_key,
                clock=_now,
                wards=guard,
                changed=self._pod_changed,
                host=self._host,
                command=self._command,
            )
            reconciler = Reconciler(cluster, runtimes, _now)
            queue = WorkQueue(self._pass, reconciler.wait_for_change, dice=random.random)
            self._parts = _Running(cluster, queue, reconciler)
            await stack.enter_async_context(cluster)

            async def facts(ref: Ref) -> Snapshot:
                return (await snapshot.take(cluster, runtimes, ref, {}))[0]

            answer = Commands(cluster, facts).answer
            await stack.enter_async_context(control.listening(meeting_point, answer))
            await stack.enter_async_context(_working(queue))  # ends first, then the pods
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the pods in order (drain, SIGTERM, grace, SIGKILL), remove what was temporary."""
        await self._stack.__aexit__(kind, error, traceback)

    async def apply(self, body: Mapping[str, Any]) -> Key:
        """Create or update one deployment from a manifest; nothing changes if it raises.

        Raises:
            InvalidSpec: the manifest is wrong; every problem at once.
            PortInUse: its address cannot be bound.
        """
        key = await self._running.cluster.apply(body, self._free_port())
        self._running.queue.add(key)
        self._news.set()
        return key

    async def delete(self, key: Key) -> None:
        """Stop serving one deployment and forget it."""
        await self._running.cluster.delete(key)
        self._problems.pop(key, None)
        self._news.set()

    def observe(self) -> tuple[LocalDeployment, ...]:
        """Return every deployment as it stands, in the order they were first applied."""
        self._news.clear()
        cluster = self._running.cluster
        return tuple(self._deployment(cluster, key) for key in cluster.applied())

    async def wait_change(self) -> None:
        """Return when something that `observe` shows has changed since it was last called."""
        await self._news.wait()

    def _free_port(self) -> int:
        """Return the lowest port from the first one on that no deployment of ours has."""
        if not self._base_port:
            return 0
        cluster = self._running.cluster
        taken = {urlsplit(cluster.url(key)).port for key in cluster.applied()}
        return next(port for port in itertools.count(self._base_port) if port not in taken)

    @property
    def _running(self) -> _Running:
        if self._parts is None:
            raise RuntimeError("the session is used outside its block")
        return self._parts

    async def _pass(self, key: Key) -> Result:
        """Make one pass, and let people see what came of it."""
        result = await self._running.reconciler.reconcile(key)
        if not result.gone:
            self._problems[key] = tuple(
                f"{each.action} {each.target}: {each.error}" for each in result.failures
            )
        self._news.set()
        return result

    def _pod_changed(self, key: Key) -> None:
        self._running.queue.add(key)
        self._news.set()

    def _deployment(self, cluster: LocalCluster, key: Key) -> LocalDeployment:
        body = cluster.read_now(key)
        return LocalDeployment(
            key=key,
            url=cluster.url(key),
            generation=int(body["metadata"]["generation"]),
            status=body.get("status", {}),
            pods=tuple(_pod(pod) for pod in cluster.pods(key)),
            events=tuple(LocalEvent(told.at, told.event) for told in cluster.events(key)),
            problems=self._problems.get(key, ()),
        )


def _pod(pod: PodProcess) -> LocalPod:
    return LocalPod(
        name=pod.name,
        pid=pod.pid,
        phase=pod.phase,
        restarts=pod.restarts,
        inference_url=pod.inference_url,
        management_url=pod.facts().address,
        log_file=pod.log_file,
        last_exit=pod.last_exit,
    )


def _now() -> datetime:
    return datetime.now(UTC)


@contextlib.contextmanager
def _state_dir(wanted: Path | None) -> Iterator[Path]:
    """Hold a folder for this session alone; a temporary one is removed in the end."""
    if wanted is None:
        with tempfile.TemporaryDirectory(prefix="flambeau-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    folder = wanted.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateDirInUse(str(folder)) from None
        yield folder


@contextlib.contextmanager
def _meeting_point() -> Iterator[Path]:
    """Make the folder in which commands find this session."""
    folder = control.control_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _working(queue: WorkQueue) -> AsyncIterator[None]:
    """Run the queue for as long as the block lasts; the block's own error leaves as it came."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        passes = tasks.create_task(queue.run(), name="work queue")
        try:
            yield
        except BaseException as error:  # noqa: BLE001  raised again below, not in a group
            failure = error
        finally:
            passes.cancel()
    if failure is not None:
        raise failure
