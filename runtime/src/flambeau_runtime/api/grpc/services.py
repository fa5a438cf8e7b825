"""Which services are behind which gRPC address."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from flambeau_runtime.api.grpc.inference import InferenceService
from flambeau_runtime.api.grpc.listener import Behind
from flambeau_runtime.api.grpc.management import ManagementService
from flambeau_runtime.api.grpc.open_inference import OpenInferenceService
from flambeau_runtime.api.grpc.predicting import Predictor
from flambeau_runtime.api.grpc.protos import (
    inference_pb2,
    management_pb2,
    open_inference_pb2,
    open_inference_v2_pb2,
)
from flambeau_runtime.api.grpc.server import GrpcServer, Limits, Service
from flambeau_runtime.serving.modes import SequenceHeaders
from flambeau_runtime.settings import ModelApi

INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["InferenceAPIsService"]
MANAGEMENT = management_pb2.DESCRIPTOR.services_by_name["ManagementAPIsService"]
OPEN_INFERENCE = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
OPEN_INFERENCE_V2 = open_inference_v2_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


def make_server(behind: Behind, roles: Collection[str], target: str) -> GrpcServer:
    """Return the server of one address.

    Args:
        behind: what the services work on.
        roles: inference, management, or both.
        target: host and port, as gRPC writes them.
    """
    settings = behind.settings
    ages = {"inference": settings.grpc_inference_age, "management": settings.grpc_management_age}
    limits = Limits(
        settings.limits.max_request_bytes,
        ages["inference" if "inference" in roles else "management"],
        behind.identity,
    )
    services: list[Service] = []
    if "inference" in roles:
        services += _inference_services(behind)
    if "management" in roles:
        management = ManagementService(
            behind.management, api_is_off=settings.model_api is ModelApi.OFF
        )
        services.append(Service(MANAGEMENT, management, management.close))
    return GrpcServer(target, services, behind.catalogue, behind.telemetry, limits)


def _inference_services(behind: Behind) -> Iterator[Service]:
    catalogue = behind.catalogue
    settings = behind.settings
    predictor = Predictor(catalogue, behind.gate, settings.limits.max_response_bytes)
    headers = SequenceHeaders(
        settings.sequence_id_header, settings.sequence_start_header, settings.sequence_end_header
    )
    yield Service(INFERENCE, InferenceService(catalogue, predictor, headers))
    for descriptor in (OPEN_INFERENCE, OPEN_INFERENCE_V2):
        torchserves = descriptor is OPEN_INFERENCE
        open_inference = OpenInferenceService(catalogue, predictor, torchserves=torchserves)
        yield Service(descriptor, open_inference)
