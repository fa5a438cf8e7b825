"""One gRPC server: its services, its limits, its end. Imports grpc: not before HTTP answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from flambeau_runtime.api.grpc import health, reflection
from flambeau_runtime.api.grpc.calls import Calls
from flambeau_runtime.api.tls import Identity
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.settings import ConnectionAge
from flambeau_runtime.telemetry import Telemetry

MOST_STREAMS = 1024
"""Calls at once on one connection; a client keeps back what is beyond."""

LONGEST_MS = 2**31 - 1
"""gRPC takes it as never."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service under its full name, the object that has its methods, and how that ends."""

    descriptor: ServiceDescriptor
    servicer: object
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a server's connections and calls."""

    max_request_bytes: int
    age: ConnectionAge
    identity: Identity | None  # None: no TLS


class GrpcServer:
    """Services behind one address, with health and reflection beside them."""

    def __init__(
        self,
        target: str,
        services: Iterable[Service],
        catalogue: Catalogue,
        telemetry: Telemetry,
        limits: Limits,
    ) -> None:
        self._target = target
        self._limits = limits
        self._calls = Calls(telemetry)
        self._services = tuple(services)
        self._hurried = asyncio.Event()
        names = [service.descriptor.full_name for service in self._services]
        names += [health.SERVICE.full_name, reflection.SERVICE.full_name]
        self._common = (
            Service(health.SERVICE, health.HealthService(catalogue, names)),
            Service(reflection.SERVICE, reflection.ReflectionService(names)),
        )
        self._server: grpc.aio.Server | None = None

    async def open(self) -> None:
        """Accept calls.

        Raises:
            InvalidSettings: the address was lost to somebody else, or the certificate is unfit.
        """
        server = self._server = grpc.aio.server(options=self._options())
        server.add_generic_rpc_handlers(
            tuple(
                self._calls.handler(service.descriptor, service.servicer)
                for service in (*self._services, *self._common)
            )
        )
        try:
            self._listen(server)
        except RuntimeError as error:
            raise InvalidSettings(f"gRPC cannot listen on {self._target}: {error}") from None
        await server.start()

    def hurry(self) -> None:
        """Let a `close`, under way or to come, end without waiting for answers."""
        self._hurried.set()

    async def close(self, grace_s: float) -> None:
        """Accept no more; let what was asked be answered for so long, then end it."""
        self._calls.close()
        if self._server is not None:
            async with asyncio.TaskGroup() as tasks:
                hurrying = tasks.create_task(self._stop_at_once(self._server))
                await self._calls.quiet()
                await self._server.stop(grace_s)
                hurrying.cancel()
        for service in self._services:
            if service.close is not None:
                await service.close()

    async def _stop_at_once(self, server: grpc.aio.Server) -> None:
        await self._hurried.wait()
        await server.stop(None)

    def _listen(self, server: grpc.aio.Server) -> None:
        identity = self._limits.identity
        if identity is None:
            server.add_insecure_port(self._target)
        else:
            pair = identity.private_key, identity.certificates
            server.add_secure_port(self._target, grpc.ssl_server_credentials([pair]))

    def _options(self) -> list[tuple[str, Any]]:
        ages = {
            "grpc.max_connection_age_ms": self._limits.age.max_s,
            "grpc.max_connection_age_grace_ms": self._limits.age.grace_s,
        }
        return [
            ("grpc.so_reuseport", 0),  # else two servers could share a port, and its calls
            ("grpc.max_receive_message_length", self._limits.max_request_bytes),
            ("grpc.max_send_message_length", -1),  # answers are bounded where workers give them
            ("grpc.max_concurrent_streams", MOST_STREAMS),
            *(
                (name, min(round(seconds * 1000), LONGEST_MS))
                for name, seconds in ages.items()
                if seconds is not None
            ),
        ]
