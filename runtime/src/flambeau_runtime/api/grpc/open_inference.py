"""The Open Inference Protocol, version 2, on gRPC: under TorchServe's name and under its own.

A handler gets an inference request as the JSON body that the protocol has on REST, and answers
with such a body. The two names differ in one matter: TorchServe hands elements of BYTES to the
handler in base64, and gives back the JSON text of what it returns; under the protocol's own name
they are UTF-8 text both ways, as on REST.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import orjson
from grpc import StatusCode

from flambeau_runtime.api.grpc import tensors
from flambeau_runtime.api.grpc.calls import Call
from flambeau_runtime.api.grpc.predicting import Predictor
from flambeau_runtime.api.grpc.protos.open_inference_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from flambeau_runtime.api.grpc.refusals import INTERNAL, Refused, missing, not_there
from flambeau_runtime.api.grpc.tensors import BadTensor, Elements
from flambeau_runtime.errors import ModelNotFound, VersionNotFound
from flambeau_runtime.serving.arena import BIG_BODY_BYTES
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.desired import ModelSpec, VersionSpec

SERVER_NAME = "Torchserve"
SERVER_VERSION = "0.12.0"
EXTENSIONS = ("kserve", "kubeflow")
JSON = "application/json"

T = TypeVar("T")

Inferred = dict[str, Any]
"""The JSON object of an inference request or response."""


class OpenInferenceService:
    """`GRPCInferenceService`, under one of its names."""

    def __init__(self, catalogue: Catalogue, predictor: Predictor, *, torchserves: bool) -> None:
        """Begin.

        Args:
            catalogue: which models there are.
            predictor: who asks them.
            torchserves: whether BYTES are TorchServe's (base64, JSON text) or the protocol's
                own (text).
        """
        self._catalogue = catalogue
        self._predictor = predictor
        self._torchserves = torchserves

    async def server_live(self, _: ServerLiveRequest, __: Call) -> ServerLiveResponse:
        """Say that the server runs."""
        return ServerLiveResponse(live=True)

    async def server_ready(self, _: ServerReadyRequest, __: Call) -> ServerReadyResponse:
        """Say whether the server takes requests."""
        return ServerReadyResponse(ready=self._catalogue.report().ready)

    async def server_metadata(self, _: ServerMetadataRequest, __: Call) -> ServerMetadataResponse:
        """Say what the server is."""
        return ServerMetadataResponse(
            name=SERVER_NAME, version=SERVER_VERSION, extensions=EXTENSIONS
        )

    async def model_ready(self, request: ModelReadyRequest, __: Call) -> ModelReadyResponse:
        """Say whether a model can answer."""
        if not request.name:
            raise missing("name")
        _, spec = self._known(request.name, request.version)
        live = self._catalogue.live(spec.model, spec.version)
        return ModelReadyResponse(ready=live is not None and live.counts().ready > 0)

    async def model_metadata(
        self, request: ModelMetadataRequest, call: Call
    ) -> ModelMetadataResponse:
        """Say which versions of a model there are."""
        self._predictor.admit(call)
        if not request.name:
            raise missing("model_name")
        model, _ = self._known(request.name, request.version)
        versions = [spec.version for spec in model.versions]
        return ModelMetadataResponse(name=request.name, versions=versions)

    async def model_infer(self, request: ModelInferRequest, call: Call) -> ModelInferResponse:
        """Answer one inference request."""
        self._predictor.admit(call)
        if not request.model_name:
            raise missing("model_name")
        live = self._predictor.find(request.model_name, request.model_version, call)
        named = bool(request.model_version)
        body = await _aside(request.ByteSize(), lambda: self._body_of(request))
        with self._predictor.asked(live, call, [("body", JSON, body)], named=named) as pieces:
            answer = bytes(await self._predictor.whole(pieces))
        return await _aside(len(answer), lambda: self._response(request, answer, live.spec.version))

    def _known(self, name: str, version: str) -> tuple[ModelSpec, VersionSpec]:
        model = self._catalogue.model(name)
        if model is None:
            raise not_there(ModelNotFound(name))
        chosen = version or self._catalogue.default_of(name)
        for spec in model.versions:
            if spec.version == chosen:
                return model, spec
        raise not_there(VersionNotFound(name, version))

    # from a request to the handler's body

    def _body_of(self, request: ModelInferRequest) -> bytes:
        raw = request.raw_input_contents
        if raw and len(raw) != len(request.inputs):
            raise _invalid(
                f"raw_input_contents has {len(raw)} items for {len(request.inputs)} inputs"
            )
        body: Inferred = {
            "model_name": request.model_name,
            "inputs": [
                self._input(tensor, raw[index] if raw else None)
                for index, tensor in enumerate(request.inputs)
            ],
            "id": request.id,
        }
        if request.parameters:
            body["parameters"] = _plain(request.parameters)
        if request.outputs:
            body["outputs"] = [_named(output.name, output.parameters) for output in request.outputs]
        return _dumps(body)

    def _input(self, tensor: ModelInferRequest.InferInputTensor, raw: bytes | None) -> Inferred:
        shown: Inferred = {"shape": list(tensor.shape)}
        try:
            elements = _elements(tensor, raw)
            if elements is not None:
                shown["data"] = self._for_json(tensor.datatype, elements)
        except BadTensor as bad:
            raise _invalid(f"input {tensor.name!r}: {bad}") from bad
        shown |= {"datatype": tensor.datatype, **_named(tensor.name, tensor.parameters)}
        return shown

    def _for_json(self, datatype: str, elements: Elements) -> Elements:
        if datatype != "BYTES":
            return elements
        return tensors.mapped(elements, _base64 if self._torchserves else _utf8)

    # from the handler's answer to a response

    def _response(
        self, request: ModelInferRequest, answer: bytes, version: str
    ) -> ModelInferResponse:
        try:
            said = _object(answer)
            outputs = _objects(said.get("outputs"))
            response = ModelInferResponse(
                model_name=str(said.get("model_name", request.model_name)),
                model_version=str(said.get("model_version", version)),
                id=str(said.get("id", request.id)),
            )
            _note(response.parameters, said.get("parameters"))
            self._add_outputs(response, outputs, raw=bool(request.raw_input_contents))
        except (BadTensor, TypeError, ValueError) as bad:
            message = (
                f"Model {request.model_name} did not answer in the form of the Open Inference"
                f" Protocol: {bad}."
            )
            raise Refused(StatusCode.INTERNAL, message, INTERNAL) from bad
        return response

    def _add_outputs(
        self, response: ModelInferResponse, outputs: list[Inferred], *, raw: bool
    ) -> None:
        """Add the tensors: raw if those of the request were, or if one can be nothing else."""
        raw = raw or any(tensors.only_raw(str(output.get("datatype"))) for output in outputs)
        for output in outputs:
            datatype = str(output.get("datatype", ""))
            name = str(output.get("name", ""))
            tensor = response.outputs.add(
                name=name, datatype=datatype, shape=output.get("shape") or ()
            )
            _note(tensor.parameters, output.get("parameters"))
            try:
                elements = self._from_json(datatype, tensors.flat(output.get("data", [])))
                if raw:
                    response.raw_output_contents.append(tensors.to_raw(datatype, elements))
                else:
                    tensor.contents.CopyFrom(tensors.to_contents(datatype, elements))
            except BadTensor as bad:
                raise BadTensor(f"output {name!r}: {bad}") from bad

    def _from_json(self, datatype: str, elements: Elements) -> Elements:
        if datatype != "BYTES":
            return elements
        return tensors.mapped(elements, _json_text if self._torchserves else _encoded)


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Do the work here, or in a thread where it is long: meanwhile others are answered."""
    return work() if size < BIG_BODY_BYTES else await asyncio.to_thread(work)


def _elements(tensor: ModelInferRequest.InferInputTensor, raw: bytes | None) -> Elements | None:
    if raw is None:
        return tensors.from_contents(tensor.datatype, tensor.contents)
    if tensor.HasField("contents"):
        raise BadTensor("it has contents although raw_input_contents has its data")
    return tensors.from_raw(tensor.datatype, tensor.shape, raw)


def _invalid(message: str) -> Refused:
    return Refused(StatusCode.INVALID_ARGUMENT, message)


def _plain(parameters: Mapping[str, InferParameter]) -> dict[str, object]:
    return {
        name: getattr(parameter, chosen)
        for name, parameter in parameters.items()
        if (chosen := parameter.WhichOneof("parameter_choice")) is not None
    }


def _named(name: str, parameters: Mapping[str, InferParameter]) -> Inferred:
    return {"name": name, "parameters": _plain(parameters)} if parameters else {"name": name}


def _note(target: MutableMapping[str, InferParameter], said: object) -> None:
    """Take over the parameters of a handler's answer."""
    if not isinstance(said, dict):
        return
    for name, value in said.items():
        if isinstance(value, bool):
            target[name].bool_param = value
        elif isinstance(value, int):
            target[name].int64_param = value
        else:
            target[name].string_param = str(value)


def _dumps(body: Inferred) -> bytes:
    """Return JSON; orjson would write null for NaN and infinities."""
    for tensor in body["inputs"]:
        if tensor["datatype"] in {"FP16", "BF16", "FP32", "FP64"}:
            total = sum(tensor.get("data") or ())
            if total - total != 0.0:
                return json.dumps(body).encode()
    return orjson.dumps(body)


def _object(answer: bytes) -> Inferred:
    try:
        said = orjson.loads(answer)
    except orjson.JSONDecodeError:
        said = json.loads(answer)  # NaN and infinities
    if not isinstance(said, dict):
        raise BadTensor("it is not a JSON object")
    return said


def _objects(outputs: object) -> list[Inferred]:
    if not isinstance(outputs, list) or not all(isinstance(it, dict) for it in outputs):
        raise BadTensor("outputs is not a list of objects")
    return outputs


def _base64(element: bytes) -> str:
    return base64.b64encode(element).decode()


def _utf8(element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise BadTensor("an element of BYTES is not UTF-8 text; send it in base64") from None


def _json_text(element: object) -> bytes:
    return json.dumps(element, ensure_ascii=False).encode()


def _encoded(element: object) -> bytes:
    if not isinstance(element, str):
        raise BadTensor(f"its data is not BYTES: {element!r} is no text")
    return element.encode()
