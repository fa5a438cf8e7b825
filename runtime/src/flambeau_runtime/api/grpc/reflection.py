"""`grpc.reflection.v1alpha.ServerReflection`: what this server offers, for tools like grpcurl."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from flambeau_runtime.api.grpc.calls import Call
from flambeau_runtime.api.grpc.protos.pool import POOL

SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class ReflectionService:
    """Answers from the pool that our messages are in."""

    def __init__(self, services: Iterable[str]) -> None:
        """Begin; `services` are the full names of what this server has."""
        for file in (health_pb2, reflection_pb2):
            POOL.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
        self._servicer: Any = reflection.aio.ReflectionServicer(services, pool=POOL)

    async def server_reflection_info(self, call: Call) -> None:
        """Answer questions until there are no more, or the server closes."""
        async for reply in self._servicer.ServerReflectionInfo(_questions(call), None):
            await call.write(reply)


async def _questions(call: Call) -> AsyncIterator[Any]:
    while (request := await call.read()) is not None:
        yield request
