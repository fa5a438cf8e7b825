"""Tells the kubelet whether this operator is alive and ready, and Prometheus what it measures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from flambeau_operator.errors import PortInUse

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Check = Callable[[], str | None]
"""Returns what is wrong, or None."""


@asynccontextmanager
async def serving(
    port: int, checks: Mapping[str, Check], metrics: Callable[[], bytes]
) -> AsyncIterator[int]:
    """Answer GET on each check's path and on /metrics; yields the port.

    Raises:
        PortInUse: somebody else listens there.
    """
    app = web.Application()
    for path, check in checks.items():
        app.router.add_get(path, _answering(check))

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": METRICS_TYPE})

    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        # None is every address of every family.
        site = web.TCPSite(runner, None, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            raise PortInUse("*", port, str(error.strerror or error)) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _answering(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

    return answer


class Heartbeat:
    """Notices when the loop does not come round.

    The probe itself is answered by the same loop, so a loop that stands still fails it by silence;
    this catches one that is so busy that it comes round late.
    """

    def __init__(self, every_s: float = 1.0, late_s: float = 20.0) -> None:
        self._every_s = every_s
        self._late_s = late_s
        self._worst_s = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + self._every_s
            await asyncio.sleep(self._every_s)
            self._worst_s = max(clock() - due, self._worst_s / 2)

    def wrong(self) -> str | None:
        """Return what is wrong, if anything is."""
        if self._worst_s > self._late_s:
            return f"the event loop came round {self._worst_s:.0f} s late"
        return None
