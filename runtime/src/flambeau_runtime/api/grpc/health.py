"""`grpc.health.v1.Health`: whether this server takes calls, for probes and load balancers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from flambeau_runtime.api.grpc.calls import Call
from flambeau_runtime.api.grpc.refusals import Refused
from flambeau_runtime.serving.catalogue import Catalogue

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
LOOK_AGAIN_S = 3600.0


class HealthService:
    """The service "" and every other of this server are well while the runtime is ready."""

    def __init__(self, catalogue: Catalogue, services: Iterable[str]) -> None:
        self._catalogue = catalogue
        self._services = {"", *services}

    async def check(self, request: HealthCheckRequest, _: Call) -> HealthCheckResponse:
        """Say whether a service is well."""
        if request.service not in self._services:
            raise Refused(StatusCode.NOT_FOUND, f"There is no service {request.service!r} here.")
        return self._status(request.service)

    async def list(self, _: object, __: Call) -> Any:  # noqa: ANN401  younger than the oldest grpcio
        """Say it of every service."""
        statuses = {service: self._status(service) for service in self._services}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def watch(self, request: HealthCheckRequest, call: Call) -> None:
        """Say it now, and again whenever it changes, until the server closes or long after."""
        said: HealthCheckResponse | None = None
        try:
            async with call.until_closing():
                changed = True
                while changed:
                    seen = self._catalogue.revision
                    status = self._status(request.service)
                    if status != said:
                        await call.write(status)
                        said = status
                    changed = await self._catalogue.wait_changed(seen, LOOK_AGAIN_S)
        except TimeoutError:
            if request.service in self._services:
                await call.write(HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING))

    def _status(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        ready = self._catalogue.report().ready
        word = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=word)
