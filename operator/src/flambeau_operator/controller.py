"""The operator on Kubernetes as a whole: every part is built once, here, and ends in order.

Watches run from the start, so that whoever gets the Lease knows the cluster already; passes are
made only while it is held.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry

from flambeau_operator import health
from flambeau_operator.doors import Key, Pod, Result, RuntimeClient
from flambeau_operator.errors import DoorFault, Unavailable
from flambeau_operator.kubernetes import discovery, keys, kinds
from flambeau_operator.kubernetes.client import METADATA_LIST, Api, configuration
from flambeau_operator.kubernetes.cluster import KubernetesCluster
from flambeau_operator.kubernetes.following import Following
from flambeau_operator.leader import Leader
from flambeau_operator.plan.site import Site
from flambeau_operator.reconcile import Reconciler
from flambeau_operator.resources.pod_state import Document, PodState
from flambeau_operator.runtime_client import HttpRuntimeClient, Signer
from flambeau_operator.settings import Settings
from flambeau_operator.telemetry import Telemetry
from flambeau_operator.watch import Change, Watch
from flambeau_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

T = TypeVar("T")

RESYNC_S: Final = 600.0
RETRY_S: Final = 5.0
GRACE_S: Final = 30.0  # what a list shows, the watch must have told within
DEAF_S: Final = 300.0  # no bookmark, no event, no list for so long


async def operate(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    working = asyncio.create_task(_work(settings))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    try:
        await working
    except asyncio.CancelledError:
        log.info("stopped")


async def _work(settings: Settings) -> None:
    async with Api(await configuration(settings.kubeconfig)) as api:
        operator = Operator(api, settings)
        checks = {"/healthz": operator.sick, "/readyz": operator.unready}
        async with health.serving(settings.http_port, checks, operator.metrics) as port:
            log.info("listening", extra={"port": port})
            await operator.run()


class Operator:
    """Watches, leads and reconciles, until cancelled.

    Args:
        api: the API server.
        settings: of this process.
    """

    def __init__(self, api: Api, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._telemetry = Telemetry(CollectorRegistry())
        self._heartbeat = health.Heartbeat()
        self._leader = Leader(api, settings.namespace, settings.identity, _now)
        self._following = Following(
            api, settings.watch_namespaces, changed=self._due, dice=random.random
        )
        self._queue: WorkQueue | None = None  # while we lead
        self._heard: dict[Key, Change] = {}
        self._missed: dict[Key, float] = {}  # what a list showed and the watch has not told, since
        self._news: dict[Key, float] = {}  # specs that no pod has been told of, since
        self._ready = False

    # --- what probes ask ------------------------------------------------------------------------

    def sick(self) -> str | None:
        """Return why this process should be started again."""
        if wrong := self._heartbeat.wrong():
            return wrong
        if self._ready and (silent_s := self._following.silent_s()) > DEAF_S:
            return f"a watch has heard nothing for {silent_s:.0f} s"
        now = time.monotonic()
        deaf = [str(key) for key, since in self._missed.items() if now - since > GRACE_S]
        return f"the watch did not tell of {', '.join(deaf[:5])}" if deaf else None

    def unready(self) -> str | None:
        """Return why this process cannot take over yet."""
        return None if self._ready else "waiting for the CRD, or for the first lists"

    def metrics(self) -> bytes:
        """Return the page of metrics."""
        telemetry = self._telemetry
        telemetry.leader.set(self._leader.leads)
        telemetry.watch_silence_seconds.set(self._following.silent_s())
        telemetry.keys.set(self._queue.keys if self._queue else 0)
        telemetry.due.set(self._queue.due if self._queue else 0)
        return telemetry.page()

    # --- what it does ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow and lead until cancelled."""
        await discovery.until_served(self._api)
        signer = await _patiently(self._signer)
        site = await _patiently(self._site)
        namespaces = self._settings.watch_namespaces
        async with (
            HttpRuntimeClient(signer) as runtimes,
            asyncio.TaskGroup() as tasks,
            Watch(self._api.access, namespaces, self._told),
        ):
            tasks.create_task(self._heartbeat.run())
            tasks.create_task(self._following.run())
            tasks.create_task(self._resync())
            await self._following.until_synced()
            self._ready = True
            log.info("ready")
            cluster = KubernetesCluster(
                self._api,
                site=site,
                public_keys=[signer.public_key],
                pods_of=self._following.pods_of,
                clock=_now,
            )
            reconciler = Reconciler(cluster, _Reacting(runtimes, self._reacted), _now)
            await self._leader.run(lambda: self._lead(reconciler))

    async def _lead(self, reconciler: Reconciler) -> None:
        """Make passes for as long as we lead, over everything that exists to begin with."""

        async def one_pass(key: Key) -> Result:
            return await self._measured(reconciler.reconcile(key))

        queue = WorkQueue(one_pass, reconciler.wait_for_change, dice=random.random)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(queue.run(), name="work queue")
            self._queue = queue
            try:
                await self._enqueue_all(queue)
                await asyncio.Event().wait()
            finally:
                self._queue = None

    async def _enqueue_all(self, queue: WorkQueue) -> None:
        while True:
            try:
                for key in await self._list():
                    queue.add(key)
            except DoorFault as fault:
                log.warning("cannot list ModelDeployments", extra={"why": str(fault)})
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _measured(self, work: Awaitable[Result]) -> Result:
        begin = time.monotonic()
        result = await work
        self._telemetry.pass_seconds.observe(time.monotonic() - begin)
        how = "gone" if result.gone else "failed" if result.failures else "done"
        self._telemetry.passes.labels(how).inc()
        for each in result.failures:
            self._telemetry.actions_failed.labels(each.action).inc()
        return result

    def _due(self, key: Key) -> None:
        if self._queue is not None:
            self._queue.add(key)

    def _told(self, change: Change) -> None:
        """Take in what the watch says of a ModelDeployment.

        A mere change of its status was our own writing: to look at it would make every failure be
        tried again at once.
        """
        before = self._heard.get(change.key)
        self._missed.pop(change.key, None)
        if change.deleted:
            self._heard.pop(change.key, None)
            self._news.pop(change.key, None)
        else:
            self._heard[change.key] = change
            if before is not None and before.generation != change.generation:
                self._news[change.key] = time.monotonic()
        if change.deleted or before is None or before.asked != change.asked:
            self._due(change.key)

    def _reacted(self, document: Document) -> None:
        """Measure how long a changed spec took to reach a pod."""
        since = self._news.pop(Key(document.owner.namespace, document.owner.name), None)
        if since is not None:
            self._telemetry.reaction_seconds.observe(time.monotonic() - since)

    async def _resync(self) -> None:
        """List everything now and then: it shows what the watch has missed, and that it did."""
        while True:
            await asyncio.sleep(RESYNC_S * random.uniform(0.8, 1.2))  # noqa: S311  no secret
            try:
                listed = await self._list()
            except DoorFault as fault:
                log.warning("cannot resync", extra={"why": str(fault)})
                continue
            for key, version in listed.items():
                if self._is_news(key, version):
                    self._missed.setdefault(key, time.monotonic())
                self._due(key)
            for key in (self._heard.keys() | self._missed.keys()) - listed.keys():
                self._missed.pop(key, None)
                self._due(key)

    def _is_news(self, key: Key, version: str) -> bool:
        """Whether a list is ahead of the watch."""
        heard = self._heard.get(key)
        return heard is None or _number(version) > _number(heard.resource_version)

    async def _list(self) -> dict[Key, str]:
        """Return every ModelDeployment's resourceVersion."""
        found: dict[Key, str] = {}
        for namespace in self._settings.watch_namespaces or (None,):
            path = kinds.MODEL_DEPLOYMENTS.path(namespace)
            async for page in self._api.pages(path, accept=METADATA_LIST):
                for each in page.get("items") or ():
                    about = each["metadata"]
                    found[Key(about["namespace"], about["name"])] = str(about["resourceVersion"])
        return found

    async def _signer(self) -> Signer:
        return Signer(await keys.signing_key(self._api, self._settings.namespace), _now)

    async def _site(self) -> Site:
        settings = self._settings
        return Site(
            operator_namespace=settings.namespace,
            default_image=settings.runtime_image,
            default_pull_policy=settings.runtime_pull_policy,
            image_pull_secrets=settings.image_pull_secrets,
            image_volumes_served=await discovery.serves_image_volumes(self._api),
            queues_served=await discovery.serves_queues(self._api),
        )


class _Reacting:
    """The door to the pods, which tells when a document is handed over."""

    def __init__(self, runtimes: RuntimeClient, told: Callable[[Document], None]) -> None:
        self._runtimes = runtimes
        self._told = told

    async def get_state(self, pod: Pod, after: str | None = None, wait_s: float = 0) -> PodState:
        """See `doors.RuntimeClient`."""
        return await self._runtimes.get_state(pod, after, wait_s)

    async def put_state(self, pod: Pod, document: Document) -> None:
        """See `doors.RuntimeClient`."""
        self._told(document)
        await self._runtimes.put_state(pod, document)

    async def drain(self, pod: Pod) -> None:
        """See `doors.RuntimeClient`."""
        await self._runtimes.drain(pod)

    async def is_ready(self, pod: Pod) -> bool:
        """See `doors.RuntimeClient`."""
        return await self._runtimes.is_ready(pod)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer: at a cluster's start the API server may be late."""
    while True:
        try:
            return await ask()
        except Unavailable as fault:
            log.warning("not available yet", extra={"why": str(fault)})
            await asyncio.sleep(RETRY_S)


def _number(resource_version: str) -> int:
    return int(resource_version) if resource_version.isdecimal() else 0


def _now() -> datetime:
    return datetime.now(UTC)
