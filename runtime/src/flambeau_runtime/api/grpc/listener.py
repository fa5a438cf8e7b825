"""A gRPC address: claimed when the process starts, opened once HTTP answers.

grpc takes a while to import, and it binds by itself: until then the address is held, so that
nobody is surprised late by a port that was taken all along.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flambeau_runtime.api import asgi
from flambeau_runtime.api.authorisation import InferenceGate
from flambeau_runtime.api.tls import Identity
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.settings import Address, Settings
from flambeau_runtime.telemetry import Telemetry


class Server(Protocol):
    """What is behind an address; `api.grpc.server.GrpcServer` is one."""

    async def open(self) -> None:
        """Accept calls."""

    async def close(self, grace_s: float) -> None:
        """Accept no more; let what was asked be answered for so long."""

    def hurry(self) -> None:
        """Let a `close` under way end without waiting for answers."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What the services behind gRPC addresses work on."""

    settings: Settings
    catalogue: Catalogue
    telemetry: Telemetry
    management: asgi.App
    gate: InferenceGate | None
    identity: Identity | None


MakeServer = Callable[[str], Server]
"""Takes host and port as gRPC writes them."""


class GrpcListener:
    """One address and the server on it; it may be closed before it was opened."""

    def __init__(self, claim: socket.socket, drain_timeout_s: float) -> None:
        self._claim = claim
        self._drain_timeout_s = drain_timeout_s
        self._server: Server | None = None
        host, port = claim.getsockname()[:2]
        self.target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def open(self, make_server: MakeServer) -> None:
        """Accept calls; imports what that needs in a thread, while the loop goes on.

        Raises:
            InvalidSettings: the server cannot have the address after all, or its certificate.
        """
        self._server = await asyncio.to_thread(make_server, self.target)
        await self._server.open()
        self._claim.close()

    async def close(self) -> None:
        """Accept no more, let what was asked be answered, close every connection."""
        self._claim.close()
        if self._server is not None:
            await self._server.close(self._drain_timeout_s)

    def hurry(self) -> None:
        """Let a `close` under way end without waiting for answers."""
        if self._server is not None:
            self._server.hurry()


def claim(key: str, address: Address) -> socket.socket:
    """Return a socket that holds an address without listening on it.

    Args:
        key: the keys of config.properties that name the address begin like this.
        address: where; port 0 takes a free one.

    Raises:
        InvalidSettings: naming key, address and what to do.
    """
    six = ":" in address.host
    held = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    # gRPC sets the same on its own socket, and may then bind beside this one, which never listens.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((address.host, address.port))
    except OSError as error:
        held.close()
        raise InvalidSettings(f"{key}_port={address.port}: {_why(error, key, address)}") from None
    return held


def _why(error: OSError, key: str, address: Address) -> str:
    flag = f"--{key.replace('_', '-')}-address"
    if error.errno == errno.EADDRINUSE:
        return (
            f"the port is taken by another process; stop that one, or set another port with"
            f" {key}_port or {flag}"
        )
    if error.errno == errno.EACCES:
        return f"the port needs more rights; take one above 1023 with {key}_port or {flag}"
    why = error.strerror or str(error)
    return (
        f"cannot listen on {address.host} ({why}); set an address of this machine with"
        f" {key}_address"
    )
