"""The Lease around everything that writes: one operator of several works, the others stay warm.

It only avoids double work; what makes a stale operator harmless is the fence of the documents.
Nobody's clock is compared with another's: a lease is over when it has not changed for as long as it
says, by the watch of whoever looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flambeau_operator.errors import Conflict, DoorFault
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Api, Object

log = logging.getLogger(__name__)

LEASE: Final = "flambeau-operator"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease lasts, and how often it is looked at."""

    duration_s: int = 15  # unchanged for so long, it is anybody's
    renew_s: float = 5.0
    give_up_s: float = 10.0  # not renewed for so long, the holder stops: before others may start
    retry_s: float = 1.0  # after a renewal that failed
    look_s: float = 2.0


class Leader:
    """Holds the Lease whenever it can, and works only meanwhile.

    Args:
        api: the API server.
        namespace: of the Lease.
        identity: who we are, different for each process.
        clock: the wall clock, for what people read in the Lease.
        terms: the periods.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        identity: str,
        clock: Callable[[], datetime],
        terms: Terms | None = None,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._path = kinds.LEASES.path(namespace, LEASE)
        self._identity = identity
        self._clock = clock
        self._terms = terms or Terms()
        self._seen: tuple[str, float] = ("", 0.0)  # resourceVersion, and since when it is that
        self.leads = False

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work whenever the Lease is ours, until cancelled; then give it back."""
        while True:
            held = await self._acquired()
            log.info("leading", extra={"identity": self._identity})
            self.leads = True
            try:
                await self._work_while_held(held, work)
            finally:
                self.leads = False
                await self._release()
            log.warning("no longer leading", extra={"identity": self._identity})

    async def _acquired(self) -> Object:
        """Return the Lease once it is ours."""
        while True:
            with contextlib.suppress(DoorFault):
                held = await self._try()
                if held is not None:
                    return held
            await asyncio.sleep(self._terms.look_s)

    async def _try(self) -> Object | None:
        """Take the Lease if nobody holds it."""
        found = await self._api.get(self._path)
        if found is None:
            body = self._body({}, transitions=0)
            return await self._api.create(kinds.LEASES.path(self._namespace), body)
        if not self._is_free(found):
            return None
        transitions = int(found["spec"].get("leaseTransitions", 0)) + 1
        return await self._api.replace(self._path, self._body(found["metadata"], transitions))

    def _is_free(self, found: Object) -> bool:
        """Whether its holder has let go, or has not been heard of for the time it asked for."""
        version, now = str(found["metadata"]["resourceVersion"]), time.monotonic()
        if version != self._seen[0]:
            self._seen = (version, now)
        spec = found.get("spec", {})
        holder = spec.get("holderIdentity")
        lasts_s = float(spec.get("leaseDurationSeconds") or self._terms.duration_s)
        return not holder or holder == self._identity or now - self._seen[1] > lasts_s

    async def _work_while_held(self, held: Object, work: Callable[[], Awaitable[None]]) -> None:
        """Work, and stop at once when the Lease cannot be renewed."""
        working = asyncio.create_task(_running(work), name="leading")
        renewing = asyncio.create_task(self._renew(held), name="renewing the lease")
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
        if not working.cancelled() and working.exception() is not None:
            raise working.exception() or RuntimeError

    async def _renew(self, held: Object) -> None:
        """Renew until that fails for too long, or somebody else has the Lease."""
        clock = asyncio.get_running_loop().time
        renewed_at, wait_s = clock(), self._terms.renew_s
        while clock() + wait_s < renewed_at + self._terms.give_up_s:
            await asyncio.sleep(wait_s)
            asked_at = clock()
            try:
                async with asyncio.timeout_at(renewed_at + self._terms.give_up_s):
                    held = await self._renewed(held)
                renewed_at, wait_s = asked_at, self._terms.renew_s
            except Conflict as conflict:
                log.warning("the lease was taken", extra={"why": str(conflict)})
                return
            except (DoorFault, TimeoutError) as fault:
                log.warning("the lease is not renewed", extra={"why": str(fault)})
                wait_s = self._terms.retry_s

    async def _renewed(self, held: Object) -> Object:
        transitions = int(held["spec"].get("leaseTransitions", 0))
        body = self._body(held["metadata"], transitions, held["spec"].get("acquireTime"))
        try:
            return await self._api.replace(self._path, body)
        except Conflict:
            # Our own renewal may have arrived although its answer did not.
            found = await self._api.get(self._path)
            if found is not None and found["spec"].get("holderIdentity") == self._identity:
                return found
            raise

    async def _release(self) -> None:
        """Let the next one start at once."""
        with contextlib.suppress(DoorFault, TimeoutError):
            async with asyncio.timeout(2):
                found = await self._api.get(self._path)
                if found is None or found["spec"].get("holderIdentity") != self._identity:
                    return
                spec = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._api.replace(self._path, {**found, "spec": spec})

    def _body(
        self, metadata: Mapping[str, Any], transitions: int, since: str | None = None
    ) -> Object:
        now = self._clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        read = {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}
        return {
            "apiVersion": kinds.LEASES.api_version,
            "kind": kinds.LEASES.kind,
            "metadata": {"name": LEASE, "namespace": self._namespace, **read},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._terms.duration_s,
                "acquireTime": since or now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }


async def _running(work: Callable[[], Awaitable[None]]) -> None:
    await work()
