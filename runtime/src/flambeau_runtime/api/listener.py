"""Listening: a socket per address, a clear word when there is none, and protocols on it.

An address is `http://host:port`, `https://host:port` or `unix:/path`.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from pathlib import Path

import uvicorn

from flambeau_runtime.api import asgi
from flambeau_runtime.api.bounded_http import BoundedHttp
from flambeau_runtime.api.hot_path import HotPath
from flambeau_runtime.api.parting import has_unread
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Address

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Longer than the 60 s after which common proxies drop an idle connection: they go first."""

TURNS_OF_ACCEPTING = 5
"""Turns of a loop from a connection that was accepted to its protocol: four in asyncio's."""
TURNS_TO_ACCEPT = 1000


def bind(key: str, address: Address) -> socket.socket:
    """Return a socket that listens already: clients may connect, and wait for the loop.

    Args:
        key: the key of config.properties that names the address, for the error.
        address: where to listen; port 0 takes a free one.

    Raises:
        InvalidSettings: naming key, address and what to do.
    """
    try:
        bound = _bind(address) if address.path is None else _bind_unix(address.path)
    except OSError as error:
        why = _why(error, key, address) if address.path is None else _why_not_unix(error, key)
        raise InvalidSettings(f"{key}={url_of_address(address)}: {why}") from None
    bound.setblocking(False)
    return bound


def _bind_unix(path: Path) -> socket.socket:
    """Listen on a path; a socket that nobody listens on any more gives way."""
    if path.is_socket():
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "somebody listens there")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        return asking.connect_ex(str(path)) == 0


def _why_not_unix(error: OSError, key: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            "the path is taken; stop the process that listens there, remove the file if it is no"
            f" socket, or set another path with {key}"
        )
    reason = error.strerror or str(error)
    return f"cannot listen there ({reason}); set a path in a folder of your own with {key}"


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


def url_of(host: str, port: int, scheme: str = "http") -> str:
    """Return `http://host:port`, IPv6 hosts in brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def url_of_address(address: Address) -> str:
    """Return an address as config.properties writes it."""
    if address.path is not None:
        return f"unix:{address.path}"
    return url_of(address.host, address.port, "https" if address.tls else "http")


def reachable_url(listening: socket.socket, *, tls: bool = False) -> str:
    """Return an address under which a client on this machine reaches the socket."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return url_of(host, port, "https" if tls else "http")


def _remove(listening: socket.socket) -> None:
    Path(listening.getsockname()).unlink(missing_ok=True)


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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._is_unix = bound.family == socket.AF_UNIX
        config = uvicorn.Config(
            asgi.Local(app) if self._is_unix else app,
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
        self.url = reachable_url(bound, tls=tls is not None)
        self._bound = bound
        self._tls = tls
        self._server = uvicorn.Server(config)

    async def open(self) -> None:
        """Accept connections; those that came before are served first."""
        # Server.serve would take the signals, and tick ten times a second for a date header.
        config, server = self._server.config, self._server
        config.load()
        server.lifespan = config.lifespan_class(config)
        server.server_state.default_headers = config.encoded_headers
        if self._tls is None:
            await server.startup(sockets=[self._bound])
        else:
            # Imported here: few have TLS, and everybody waits for the start.
            from flambeau_runtime.api.tls_door import TlsDoor  # noqa: PLC0415

            door = TlsDoor(self._bound, self._tls, self._make_connection)
            door.open()
            server.servers = [door]  # type: ignore[list-item]  # it is only closed

    def _make_connection(self) -> asyncio.Protocol:
        config, server = self._server.config, self._server
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=server.server_state, app_state={}
        )

    def close_idle(self, seconds: float) -> None:
        """Close the connections on which nothing was asked for so long."""
        for connection in tuple(self._server.server_state.connections):
            if isinstance(connection, HotPath):
                connection.close_if_idle(seconds)

    async def close(self) -> None:
        """Stop accepting, let what was asked be answered, close every connection."""
        if self._is_unix:
            _remove(self._bound)
        if self._tls is None:
            await self._take_in()
        await self._server.shutdown(sockets=[self._bound])

    async def _take_in(self) -> None:
        """Accept who has connected already: closing the socket would reset them."""
        turns = 0
        for _ in range(TURNS_TO_ACCEPT):
            turns = 0 if has_unread(self._bound.fileno()) else turns + 1
            if turns == TURNS_OF_ACCEPTING:
                return
            await asyncio.sleep(0)

    def hurry(self) -> None:
        """Let a `close` under way end without waiting for answers."""
        self._server.force_exit = True
