"""`densenet_handler`: a tensor's file in, the model's answer as a tensor's file out."""

from __future__ import annotations

import io
import time
from typing import Any, TypeAlias

import torch

from ts.torch_handler.base_handler import BaseHandler

Anything: TypeAlias = Any


class DenseNetHandler(BaseHandler):
    """Takes what torch.save wrote of a tensor, in `data` or `body`; one request at a time."""

    def handle(self, data: Anything, context: Anything) -> list[torch.Tensor]:
        """Answer with the model's output for the tensors [N, …] of the batch."""
        begun = time.perf_counter()
        self.context = context
        files = [io.BytesIO(row.get("data") or row.get("body")) for row in data]
        tensors = [torch.load(file, weights_only=True) for file in files]
        answer = self.inference(torch.stack(tensors))
        spent_ms = (time.perf_counter() - begun) * 1000
        context.metrics.add_time("HandlerTime", round(spent_ms, 2), None, "ms")
        return [answer]
