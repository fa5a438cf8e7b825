"""TorchServe's inference service: Ping, Predictions, and the two ways to stream."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AbstractContextManager

from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from flambeau_runtime.api.grpc.calls import Call
from flambeau_runtime.api.grpc.pieces import Pieces
from flambeau_runtime.api.grpc.predicting import Predictor
from flambeau_runtime.api.grpc.protos.inference_pb2 import (
    PredictionResponse,
    PredictionsRequest,
    TorchServeHealthResponse,
)
from flambeau_runtime.api.grpc.protos.status_pb2 import ErrorInfo, Status
from flambeau_runtime.api.grpc.refusals import Refused, missing
from flambeau_runtime.api.inference import is_healthy
from flambeau_runtime.api.problems import pretty
from flambeau_runtime.protocol import NamedPart
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.modes import SequenceHeaders

STALL_TIMEOUT_S = 30.0
"""A client that reads nothing of a stream for so long is given up: its handler waits for it."""


class InferenceService:
    """`org.pytorch.serve.grpc.inference.InferenceAPIsService`."""

    def __init__(
        self, catalogue: Catalogue, predictor: Predictor, headers: SequenceHeaders
    ) -> None:
        self._catalogue = catalogue
        self._predictor = predictor
        self._headers = headers

    async def ping(self, _: Empty, __: Call) -> TorchServeHealthResponse:
        """Say whether the workers are well; open to everybody, as probes need it."""
        word = "Healthy" if is_healthy(self._catalogue) else "Unhealthy"
        return TorchServeHealthResponse(health=_text({"status": word}))

    async def predictions(self, request: PredictionsRequest, call: Call) -> PredictionResponse:
        """Answer one request."""
        self._predictor.admit(call)
        with self._asked(request, call) as pieces:
            return PredictionResponse(prediction=bytes(await self._predictor.whole(pieces)))

    async def stream_predictions(self, request: PredictionsRequest, call: Call) -> None:
        """Answer one request, piece by piece."""
        self._predictor.admit(call)
        with self._asked(request, call) as pieces:
            await _send(pieces, call)

    async def stream_predictions2(self, call: Call) -> None:
        """Answer requests in order; what goes wrong with one is its reply, and the next is read."""
        self._predictor.admit(call)
        while (request := await call.read()) is not None:
            try:
                sequence_id, headers = self._sequence_of(request)
                with self._asked(request, call, headers) as pieces:
                    await _send(pieces, call, sequence_id)
            except Refused as refused:
                await call.write(PredictionResponse(status=status_of(refused)))

    def _asked(
        self, request: PredictionsRequest, call: Call, headers: bytes = b""
    ) -> AbstractContextManager[Pieces]:
        if not request.model_name:
            raise missing("model_name")
        live = self._predictor.find(request.model_name, request.model_version, call, headers)
        named = bool(request.model_version)
        return self._predictor.asked(live, call, inputs_of(request), named=named, headers=headers)

    def _sequence_of(self, request: PredictionsRequest) -> tuple[str | None, bytes]:
        """Return the id that a sequence was given here, if it was, and the headers that tell of it.

        Raises:
            Refused: the request names no sequence and begins none.
        """
        begins = _is_true(request, self._headers.start)
        given = None if request.sequence_id or not begins else f"ts-seq-{uuid.uuid4()}"
        sequence_id = given or request.sequence_id
        if not sequence_id or not sequence_id.isprintable():
            raise missing("sequenceId")
        said = {self._headers.id: sequence_id}
        if begins:
            said[self._headers.start] = "true"
        if _is_true(request, self._headers.end):
            said[self._headers.end] = "true"
        block = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        return given, block.encode()


def _is_true(request: PredictionsRequest, key: str) -> bool:
    return request.input.get(key, b"").lower() == b"true"


def status_of(refused: Refused) -> Status:
    """Return a refusal as one reply of a stream carries it."""
    number: int = refused.code.value[0]
    status = Status(code=number, message=refused.message)
    status.details.add().Pack(ErrorInfo(reason=refused.kind))
    return status


def inputs_of(request: PredictionsRequest) -> list[NamedPart]:
    """Return the values of the handler's row; they have no content type, so nothing is decoded."""
    return [(name, "", value) for name, value in request.input.items()]


async def _send(pieces: Pieces, call: Call, sequence_id: str | None = None) -> None:
    """Write pieces as they come.

    Raises:
        Refused: the client reads nothing any more.
    """
    while (piece := await pieces.read()) is not None:
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                reply = PredictionResponse(prediction=bytes(piece), sequence_id=sequence_id)
                await call.write(reply)
        except TimeoutError:
            message = f"Nothing of the stream was read for {STALL_TIMEOUT_S:g} s."
            raise Refused(StatusCode.CANCELLED, message) from None


def _text(value: object) -> str:
    """Return JSON as TorchServe prints it here: indented, without a final newline."""
    return pretty(value).decode().removesuffix("\n")
