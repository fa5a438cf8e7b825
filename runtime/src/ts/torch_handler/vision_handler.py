"""`VisionHandler`: rows with images become one tensor; what all handlers of images share."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import torch

from flambeau_runtime.worker.extras import need
from ts.handler_utils.timer import timed
from ts.torch_handler.base_handler import BaseHandler

INTEGRATION_STEPS = 15

Anything: TypeAlias = Any


class VisionHandler(BaseHandler):
    """Reads images; a derived class says by `image_processing` what becomes of one.

    A row's `data` or `body` is an encoded image (bytes), the same in base64 (text), or an image
    that is numbers already (nested lists). All images of a batch need one shape.
    """

    image_processing: Callable[[Anything], torch.Tensor]

    def initialize(self, context: Anything) -> None:
        """Load the model; lift Pillow's limit of pixels where config.properties says so."""
        super().initialize(context)
        if not context.system_properties.get("limit_max_image_pixels"):
            need("PIL.Image", type(self).__name__).MAX_IMAGE_PIXELS = None

    @cached_property
    def ig(self) -> Anything:
        """Captum's integrated gradients of the model; made when first asked for."""
        return need("captum.attr", "an explanation").IntegratedGradients(self.model)

    @timed
    def preprocess(self, data: Anything) -> torch.Tensor:
        """Return the images as one tensor, float32 [N, C, H, W] as `image_processing` leaves it."""
        return torch.stack([self._read_image(row) for row in data]).to(self.device)

    def get_insights(
        self,
        tensor_data: Anything,
        raw_data: Anything,  # noqa: ARG002  the tensor has all that is needed
        target: Anything = 0,
    ) -> Anything:
        """Return how much every value of the images adds to the output `target`: nested lists."""
        return self.ig.attribute(tensor_data, target=target, n_steps=INTEGRATION_STEPS).tolist()

    def _read_image(self, row: Anything) -> torch.Tensor:
        image = row.get("data") or row.get("body")
        if isinstance(image, str):
            image = base64.b64decode(image)
        if not isinstance(image, (bytes, bytearray)):
            return torch.tensor(image, dtype=torch.float32)
        pillow = need("PIL.Image", type(self).__name__)
        return self.image_processing(pillow.open(io.BytesIO(image)))
