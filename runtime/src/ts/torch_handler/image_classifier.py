"""`image_classifier`: an image in, its likeliest classes with their probabilities out."""

from __future__ import annotations

import torch

from flambeau_runtime.worker import imagenet
from ts.handler_utils.timer import timed
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label


class ImageClassifier(VisionHandler):
    """Answers each image with a dict of its `topk` likeliest classes → probability.

    Classes bear the names of index_to_name.json; without it, their index.
    """

    topk = 5
    image_processing = imagenet.processing("image_classifier")

    def set_max_result_classes(self, topk: int) -> None:
        """Set how many classes an answer has."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """Return how many classes an answer has."""
        return self.topk

    @timed
    def postprocess(self, data: torch.Tensor) -> list[dict[str, float]]:
        """Return one dict per row of logits [N, classes]."""
        best = torch.topk(torch.softmax(data, dim=1), self.topk, dim=1)
        return map_class_to_label(best.values.tolist(), self.mapping, best.indices.tolist())
