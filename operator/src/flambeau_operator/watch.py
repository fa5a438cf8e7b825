"""The only code that imports kopf: it tells which ModelDeployment has changed, and nothing else.

kopf takes the loop it runs in for its own: it sets signal handlers, and when it ends it cancels
every task that was made after it began. So it gets a thread and a loop of its own, and is started
again should it ever end. `on.event` brings no finalizer, no annotation and no write of any kind.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import kopf

from flambeau_operator import names
from flambeau_operator.doors import Key
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Access

log = logging.getLogger(__name__)

AGAIN_S: Final = 2.0
STOPPING_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch event says of a ModelDeployment; what it is now is read from the API."""

    key: Key
    resource_version: str
    generation: int
    asked: tuple[str, int, str, str]  # what people can change: of no interest is our own status
    deleted: bool


class Endless:
    """Waits between attempts, for ever: an API server that is away for an hour comes back."""

    def __iter__(self) -> Iterator[float]:
        """Yield the waits, in seconds."""
        return itertools.chain((0.2, 0.5, 1.0, 2.0, 4.0), itertools.repeat(8.0))


class Watch:
    """Follows ModelDeployments for as long as the block lasts.

    Args:
        access: returns the credentials as they are now.
        namespaces: None is all of them.
        changed: called in the loop that entered the block.
    """

    def __init__(
        self,
        access: Callable[[], Awaitable[Access]],
        namespaces: Sequence[str] | None,
        changed: Callable[[Change], None],
    ) -> None:
        self._access = access
        self._namespaces = namespaces
        self._changed = changed
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Watch:
        """Start; the first events are of everything that exists."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop following."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, thread.join, STOPPING_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                asyncio.run(self._operate())
            except Exception:
                log.exception("the watch on ModelDeployments ended")
            self._stop.wait(AGAIN_S)

    async def _operate(self) -> None:
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(),
            standalone=True,
            clusterwide=self._namespaces is None,
            namespaces=self._namespaces or (),
            stop_flag=self._stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        group, version = names.API_VERSION.split("/")

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:  # noqa: ANN401  kopf's own signature
            return _connection(await self._ask_for_access())

        @kopf.on.event(group, version, kinds.MODEL_DEPLOYMENTS.plural, registry=registry)
        async def enqueue(event: Any, **_: Any) -> None:  # noqa: ANN401
            self._tell(event)

        return registry

    async def _ask_for_access(self) -> Access:
        """Ask in the loop that the API client lives in."""
        if self._loop is None:
            raise RuntimeError("the watch is used outside its block")

        async def ask() -> Access:
            return await self._access()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), self._loop))

    def _tell(self, event: Any) -> None:  # noqa: ANN401
        metadata = event["object"]["metadata"]
        change = Change(
            key=Key(metadata["namespace"], metadata["name"]),
            resource_version=str(metadata["resourceVersion"]),
            generation=int(metadata.get("generation", 0)),
            asked=_asked(metadata),
            deleted=event["type"] == "DELETED",
        )
        if self._loop is not None and not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._changed, change)


def _asked(metadata: Mapping[str, Any]) -> tuple[str, int, str, str]:
    return (
        str(metadata["uid"]),
        int(metadata.get("generation", 0)),
        json.dumps(metadata.get("annotations", {}), sort_keys=True),
        str(metadata.get("deletionTimestamp", "")),
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.networking.error_backoffs = Endless()
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.watching.inactivity_timeout = 70
    settings.queueing.idle_timeout = 1.0
    return settings


def _connection(access: Access) -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(
        server=access.server,
        ca_path=access.ca_path,
        ca_data=access.ca_data,
        insecure=access.insecure,
        token=access.token,
        certificate_path=access.certificate_path,
        private_key_path=access.private_key_path,
    )
