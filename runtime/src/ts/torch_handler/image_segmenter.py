"""`image_segmenter`: an image in, the likeliest class of every pixel out."""

from __future__ import annotations

from typing import Any

import torch

from flambeau_runtime.worker import imagenet
from ts.torch_handler.vision_handler import VisionHandler


class ImageSegmenter(VisionHandler):
    """Answers each image with [H][W][class, probability].

    That is about 2 MB of JSON for one image of 224 by 224: raise max_response_size.
    """

    image_processing = imagenet.processing("image_segmenter")

    def postprocess(self, data: Any) -> list[Any]:  # noqa: ANN401  a dict, as torchvision's models answer
        """Return the best class of every pixel from logits `out` [N, classes, H, W]."""
        best = torch.softmax(data["out"], dim=1).max(dim=1)
        pairs = torch.stack([best.indices.to(best.values.dtype), best.values], dim=3)
        results: list[Any] = pairs.tolist()
        return results
