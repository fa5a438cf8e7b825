"""Listening: a socket per address, a clear word when there is none, and protocols on it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket

import uvicorn

from flambeau_runtime.api import asgi
from flambeau_runtime.api.bounded_http import BoundedHttp
from flambeau_runtime.api.hot_path import HotPath
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Address

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Longer than the 60 s after which common proxies drop an idle connection: they go first."""


def bind(key: str, address: Address) -> socket.socket:
    """Return a socket that listens already: clients may connect, and wait for the loop.

    Args:
        key: the key of config.properties that names the address, for the error.
        address: where to listen; port 0 takes a free one.

    Raises:
        InvalidSettings: naming key, address and what to do.
    """
    where = f"{key}={url_of(address.host, address.port)}"
    try:
        bound = _bind(address)
    except OSError as error:
        raise InvalidSettings(f"{where}: {_why(error, key, address)}") from None
    bound.setblocking(False)
    return bound


def _bind(address: Address) -> socket.socket:
    six = ":" in address.host
    try:
        return socket.create_server(
            (address.host, address.port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        if address.host == "::" and error.errno == errno.EAFNOSUPPORT:
            # Every address, on a machine without IPv6: those of IPv4.
            return socket.create_server(("0.0.0.0", address.port), backlog=BACKLOG)  # noqa: S104
        raise


def _why(error: OSError, key: str, address: Address) -> str:
    flag = f"--{key.replace('_', '-')}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {address.port} is taken by another process; stop that one,"
            f" or set another port with {key} or {flag}"
        )
    if error.errno == errno.EACCES:
        return f"port {address.port} needs more rights; take one above 1023 with {key} or {flag}"
    return f"cannot listen there ({error.strerror}); set an address of this machine with {key}"


def url_of(host: str, port: int) -> str:
    """Return `http://host:port`, IPv6 hosts in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def reachable_url(listening: socket.socket) -> str:
    """Return an address under which a client on this machine reaches the socket."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return url_of(host, port)


class Listener:
    """One socket with uvicorn's protocols on it; signals are not its business.

    `headers` are on every answer of its application, and on what uvicorn's protocol refuses.
    """

    def __init__(
        self,
        bound: socket.socket,
        app: asgi.App,
        protocol: type[asyncio.Protocol] | None,
        drain_timeout_s: float,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        config = uvicorn.Config(
            app,
            http=protocol or BoundedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Otherwise a proxy's header would make a foreign caller a local one.
            proxy_headers=False,
            headers=list(headers),
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
        )
        self.url = reachable_url(bound)
        self._bound = bound
        self._server = uvicorn.Server(config)

    async def open(self) -> None:
        """Accept connections; those that came before are served first."""
        # Server.serve would take the signals, and tick ten times a second for a date header.
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        self._server.server_state.default_headers = config.encoded_headers
        await self._server.startup(sockets=[self._bound])

    def close_idle(self, seconds: float) -> None:
        """Close the connections on which nothing was asked for so long."""
        for connection in tuple(self._server.server_state.connections):
            if isinstance(connection, HotPath):
                connection.close_if_idle(seconds)

    async def close(self) -> None:
        """Stop accepting, let what was asked be answered, close every connection."""
        await self._server.shutdown(sockets=[self._bound])

    def hurry(self) -> None:
        """Let a `close` under way end without waiting for answers."""
        self._server.force_exit = True
