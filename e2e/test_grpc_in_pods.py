"""Predictions over gRPC through the Service of a ModelDeployment that asks for it."""

import pytest

from e2e.flambeau import echo

pytestmark = pytest.mark.timeout(300)

CLIENT = """
import sys

import grpc
from flambeau_runtime.api.grpc.protos import inference_pb2 as messages

service = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
predict = grpc.insecure_channel(sys.argv[1]).unary_unary(
    f"/{service}/Predictions",
    request_serializer=messages.PredictionsRequest.SerializeToString,
    response_deserializer=messages.PredictionResponse.FromString,
)
question = messages.PredictionsRequest(model_name="echo", input={"body": b"{}"})
print(predict(question, timeout=30, wait_for_ready=True).prediction.decode())
"""


def test_a_pod_asks_by_grpc_and_its_port_is_for_predictions_alone(tenant, archives):
    tenant.apply(archives("1.0"), echo(replicas=2, runtime={"grpc": True}))
    tenant.wait("RolledOut")
    name = tenant.get()["metadata"]["name"]
    (asking, other) = (pod["metadata"]["name"] for pod in tenant.pods())
    address = f"{name}.{tenant.namespace}.svc:7070"
    for pod in (asking, other):
        said = tenant.kubectl("exec", pod, "--", "python3", "-c", CLIENT, address)
        assert '"version": "1.0"' in said
    connected = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 7071)) == 0)"
    assert tenant.kubectl("exec", asking, "--", "python3", "-c", connected).strip() == "False"
