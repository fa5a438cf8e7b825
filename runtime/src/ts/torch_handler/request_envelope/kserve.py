"""The envelope `kserve`: KServe's first protocol, one request at a time."""

from __future__ import annotations

import json
from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope


class KServeEnvelope(BaseEnvelope):
    """`{"instances": […]}` in; `{"predictions": […]}` out, or `explanations`.

    It reads the first request of a batch and no other: leave batchSize at 1.
    """

    def parse_input(self, data: list[dict[str, Any]]) -> Any:  # noqa: ANN401  whatever the client sent
        """Return the instances of the first request."""
        body: Any = data[0].get("data") or data[0].get("body")
        if isinstance(body, (bytes, bytearray)):
            body = json.loads(body)
        return body.get("instances")

    def format_output(self, data: list[Any]) -> list[dict[str, Any]]:
        """Return one answer with all results."""
        explained = self.context and self.context.get_request_header(0, "explain") == "True"
        return [{"explanations" if explained else "predictions": data}]
