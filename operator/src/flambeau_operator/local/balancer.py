"""The one address of a deployment on this machine: spreads TCP connections over the ready pods.

It stands on the path of every request and knows no HTTP: bytes go through as they come, each side
slowed down to the pace of the other. If no pod is ready for a while, it says so itself: 503.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from flambeau_operator.errors import PortInUse
from flambeau_operator.local.relay import Client, Side, Upstream

log = logging.getLogger(__name__)

RETRY_CONNECT_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a pod takes predictions."""

    name: str
    host: str
    port: int


class Balancer:
    """Listens on one port and joins each connection to the ready pod that has the fewest.

    Args:
        host: the loopback address; with 127.0.0.1, ::1 is served too where there is one.
        port: 0 takes a free one.
        hold_s: how long a connection waits for a pod before it is answered with 503.
    """

    def __init__(self, host: str, port: int, *, hold_s: float = 5.0) -> None:
        self._host = host
        self._port = port
        self._hold_s = hold_s
        self._servers: list[asyncio.Server] = []
        self._backends: dict[str, Backend] = {}
        self._open: Counter[str] = Counter()  # connections per backend, those of a leaving one too
        self._turns: dict[str, int] = {}  # when a backend was last chosen, to rotate among equals
        self._turn = 0
        self._changed = asyncio.Event()  # replaced whenever backends or connections change
        self._greeters: set[asyncio.Task[None]] = set()
        self._sides: set[Side] = set()

    @property
    def url(self) -> str:
        """The address people use."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def port(self) -> int:
        """The port that is bound."""
        return self._port

    async def listen(self) -> None:
        """Bind and start to accept.

        Raises:
            PortInUse: somebody else has the port, or we may not have it.
        """
        wanted = self._port
        first = await self._bind(self._host, wanted)
        self._port = first.sockets[0].getsockname()[1]
        self._servers.append(first)
        if self._host == "127.0.0.1" and socket.has_ipv6:
            try:
                self._servers.append(await self._bind("::1", self._port))
            except PortInUse as error:
                taken = isinstance(error.__cause__, OSError) and (
                    error.__cause__.errno == errno.EADDRINUSE
                )
                if wanted and taken:  # `localhost` would lead some clients to a stranger
                    await self.stop_listening()
                    raise

    async def stop_listening(self) -> None:
        """Take no new connection; those that are open go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close(self) -> None:
        """Stop listening and cut what is still open."""
        await self.stop_listening()
        for greeter in self._greeters:
            greeter.cancel()
        await asyncio.gather(*self._greeters, return_exceptions=True)
        for side in tuple(self._sides):
            side.abort()
        await asyncio.sleep(0)  # transports tell their protocols in the next turn of the loop

    def use(self, backends: Iterable[Backend]) -> None:
        """Send new connections to exactly these from now on; open ones stay where they are."""
        self._backends = {backend.name: backend for backend in backends}
        self._wake()

    def connections(self, name: str) -> int:
        """Return how many connections a pod holds, also after it left `use`."""
        return self._open[name]

    async def until_free(self, name: str) -> None:
        """Wait until a pod that left has no connection any more."""
        while self._open[name]:
            await self._changed.wait()

    async def _bind(self, host: str, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(lambda: Client(self), host, port, backlog=1024)
        except (OSError, OverflowError) as error:
            raise PortInUse(host, port, getattr(error, "strerror", None) or str(error)) from error

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _choose(self, tried: set[str]) -> Backend | None:
        """Return the ready pod with the fewest connections; among equals, the one longest idle."""
        free = [backend for backend in self._backends.values() if backend.name not in tried]
        if not free:
            return None
        chosen = min(free, key=lambda each: (self._open[each.name], self._turns.get(each.name, 0)))
        self._turn += 1
        self._turns[chosen.name] = self._turn
        return chosen

    def greet(self, client: Client) -> None:
        """Find a pod for a connection that was just accepted."""
        self._sides.add(client)
        greeter = asyncio.get_running_loop().create_task(self._join(client))
        self._greeters.add(greeter)
        greeter.add_done_callback(self._greeters.discard)

    async def _join(self, client: Client) -> None:
        """Connect a client to a pod, trying every ready one, for as long as a client is held."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._hold_s
        tried: set[str] = set()
        while not client.gone:
            backend = self._choose(tried)
            if backend is not None:
                if await self._connect(client, backend):
                    return
                tried.add(backend.name)
            elif loop.time() < deadline:
                await self._pause(tried, deadline)
                tried.clear()
            else:
                client.turn_away()
                return

    async def _pause(self, tried: set[str], deadline: float) -> None:
        """Wait for another pod, but only a moment if there are some that took no connection."""
        loop = asyncio.get_running_loop()
        until = min(deadline, loop.time() + RETRY_CONNECT_S) if tried else deadline
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _connect(self, client: Client, backend: Backend) -> bool:
        loop = asyncio.get_running_loop()
        self._open[backend.name] += 1  # before the wait, so that a burst spreads
        try:
            await loop.create_connection(
                lambda: Upstream(self, client, backend.name), backend.host, backend.port
            )
        except OSError as error:
            self.release(backend.name)
            log.debug("pod took no connection", extra={"pod": backend.name, "why": str(error)})
            return False
        except asyncio.CancelledError:
            self.release(backend.name)
            raise
        return True

    def release(self, name: str) -> None:
        """Count one connection less."""
        self._open[name] -= 1
        if self._open[name] <= 0:
            del self._open[name]
            if name not in self._backends:
                self._turns.pop(name, None)
        self._wake()

    def adopt(self, side: Side) -> None:
        """Remember an open end, to cut it when all is closed."""
        self._sides.add(side)

    def forget(self, side: Side) -> None:
        """The end is closed."""
        self._sides.discard(side)
