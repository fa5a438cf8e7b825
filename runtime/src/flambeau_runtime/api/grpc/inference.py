"""TorchServe's inference service: Ping, Predictions, and the two ways to stream."""

from __future__ import annotations

import asyncio

from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from flambeau_runtime.api import asgi
from flambeau_runtime.api.door import Version
from flambeau_runtime.api.grpc.calls import Call
from flambeau_runtime.api.grpc.pieces import Pieces
from flambeau_runtime.api.grpc.predicting import Predictor
from flambeau_runtime.api.grpc.protos.inference_pb2 import (
    PredictionResponse,
    PredictionsRequest,
    TorchServeHealthResponse,
)
from flambeau_runtime.api.grpc.refusals import Refused, missing
from flambeau_runtime.api.inference import is_healthy
from flambeau_runtime.protocol import NamedPart
from flambeau_runtime.serving.catalogue import Catalogue

STALL_TIMEOUT_S = 30.0
"""A client that reads nothing of a stream for so long is given up: its handler waits for it."""


class InferenceService:
    """`org.pytorch.serve.grpc.inference.InferenceAPIsService`."""

    def __init__(self, catalogue: Catalogue, predictor: Predictor) -> None:
        self._catalogue = catalogue
        self._predictor = predictor

    async def ping(self, _: Empty, __: Call) -> TorchServeHealthResponse:
        """Say whether the workers are well; open to everybody, as probes need it."""
        word = "Healthy" if is_healthy(self._catalogue) else "Unhealthy"
        return TorchServeHealthResponse(health=_text({"status": word}))

    async def predictions(self, request: PredictionsRequest, call: Call) -> PredictionResponse:
        """Answer one request."""
        self._predictor.admit(call)
        live = self._find(request)
        with self._predictor.asked(live, call, inputs_of(request)) as pieces:
            return PredictionResponse(prediction=bytes(await self._predictor.whole(pieces)))

    async def stream_predictions(self, request: PredictionsRequest, call: Call) -> None:
        """Answer one request, piece by piece."""
        self._predictor.admit(call)
        live = self._find(request)
        with self._predictor.asked(live, call, inputs_of(request)) as pieces:
            await _send(pieces, call)

    def _find(self, request: PredictionsRequest) -> Version:
        if not request.model_name:
            raise missing("model_name")
        return self._predictor.find(request.model_name, request.model_version)


def inputs_of(request: PredictionsRequest) -> list[NamedPart]:
    """Return the values of the handler's row; they have no content type, so nothing is decoded."""
    return [(name, "", value) for name, value in request.input.items()]


async def _send(pieces: Pieces, call: Call) -> None:
    """Write pieces as they come.

    Raises:
        Refused: the client reads nothing any more.
    """
    while (piece := await pieces.read()) is not None:
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await call.write(PredictionResponse(prediction=bytes(piece)))
        except TimeoutError:
            message = f"Nothing of the stream was read for {STALL_TIMEOUT_S:g} s."
            raise Refused(StatusCode.CANCELLED, message) from None


def _text(value: object) -> str:
    """Return JSON as TorchServe prints it here: indented, without a final newline."""
    return asgi.pretty(value).decode().removesuffix("\n")
