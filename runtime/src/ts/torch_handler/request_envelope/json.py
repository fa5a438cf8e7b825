"""The envelope `json`: `{"instances": […]}` in, `{"predictions": […]}` out, as TensorFlow Serving.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from itertools import islice
from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope

BINARY = ["b64"]
"""The keys of an object that stands for bytes."""


class JSONEnvelope(BaseEnvelope):
    """Joins the instances of all requests into one batch, and splits its results again."""

    def __init__(self, handle_fn: Callable[[Any, Any], Any]) -> None:
        super().__init__(handle_fn)
        self._lengths: list[int] = []

    def parse_input(self, data: list[dict[str, Any]]) -> list[Any]:
        """Return the instances of all requests; `{"b64": …}` is decoded to bytes."""
        groups = [_instances(row) for row in data]
        self._lengths = [len(group) for group in groups]
        return [instance for group in groups for instance in group]

    def format_output(self, data: list[Any]) -> list[str]:
        """Return for each request its own results, as JSON on one line."""
        rest = iter(data)
        groups = [list(islice(rest, length)) for length in self._lengths]
        return [json.dumps({"predictions": group}) for group in groups]


def _instances(row: dict[str, Any]) -> list[Any]:
    body = row.get("data") or row.get("body") or row
    if isinstance(body, (bytes, bytearray)):
        body = json.loads(body)
    instances = body["instances"]
    if not isinstance(instances[0], dict):
        return list(instances)
    return [_decoded(instance) for instance in instances]


def _decoded(instance: dict[str, Any]) -> Any:  # noqa: ANN401  bytes, or a dict with bytes in it
    if list(instance) == BINARY:
        return b64decode(instance["b64"])
    return {
        name: b64decode(value["b64"])
        if isinstance(value, dict) and list(value) == BINARY
        else value
        for name, value in instance.items()
    }
