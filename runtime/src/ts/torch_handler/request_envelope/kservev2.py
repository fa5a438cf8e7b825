"""The envelope `kservev2`: the Open Inference Protocol's tensors, one request at a time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ts.torch_handler.request_envelope.base import BaseEnvelope

_DATATYPES = {
    "bool": "BOOL",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "byte": "BYTES",
    "object": "BYTES",
    "U": "BYTES",
}
"""numpy's name of a type, or of its kind where the name has a length in it → the protocol's."""


class KServev2Envelope(BaseEnvelope):
    """`{"inputs": [tensor, …]}` in; `{"id", "model_name", "model_version", "outputs"}` out.

    The handler gets the inputs of the first request of a batch, each with its `data` in the shape
    that it names, and answers with one result per input: leave batchSize at 1. Meanwhile
    `context.input_names` has their names, and `context.input_request_id` the client's id, if any.
    """

    def parse_input(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the inputs of the first request; of BYTES the first element alone."""
        body: Any = data[0].get("data") or data[0].get("body")
        if isinstance(body, (bytes, bytearray)):
            body = json.loads(body)
        inputs = [_shaped(tensor) for tensor in body["inputs"]]
        self.context.input_names = [tensor["name"] for tensor in inputs]
        said = body.get("id")
        self.context.input_request_id = said if said and said.strip() else None
        return inputs

    def format_output(self, data: list[Any]) -> list[dict[str, Any]]:
        """Return one answer; its outputs bear the names of the inputs, and are flat."""
        context = self.context
        model = context.manifest["model"]
        answer = {
            "id": context.input_request_id or context.get_request_id(0),
            "model_name": model.get("modelName"),
            "model_version": model.get("modelVersion"),
            "outputs": [_output(result, context.input_names[at]) for at, result in enumerate(data)],
        }
        return [answer]


def _shaped(tensor: dict[str, Any]) -> dict[str, Any]:
    values = tensor["data"]
    if tensor["datatype"] == "BYTES":
        return {**tensor, "data": values[0]}
    return {**tensor, "data": np.array(values).reshape(tuple(tensor["shape"])).tolist()}


def _output(result: Any, name: str) -> dict[str, Any]:  # noqa: ANN401  numbers, nested or not, or text
    flat = np.array(result).flatten()
    kind = str(flat.dtype)
    return {
        "name": name,
        "datatype": _DATATYPES[kind if kind in _DATATYPES else flat.dtype.kind],
        "data": flat.tolist(),
        "shape": list(flat.shape),
    }
