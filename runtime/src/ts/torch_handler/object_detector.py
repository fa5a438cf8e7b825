"""`object_detector`: an image in, the objects seen in it with their boxes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flambeau_runtime.worker.extras import need
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label

Detection = dict[str, Any]


class ObjectDetector(VisionHandler):
    """Answers each image with a list of `{class: [x1, y1, x2, y2], "score": s}`.

    Only what the model is at least `threshold` sure of; classes bear the names of
    index_to_name.json.
    """

    image_processing = need("torchvision.transforms", "object_detector").ToTensor()
    threshold = 0.5

    def postprocess(self, data: Any) -> list[list[Detection]]:  # noqa: ANN401  torchvision's detections
        """Return the detections of each image from its `boxes`, `labels` and `scores`."""
        return [list(self._sure(detected)) for detected in data]

    def _sure(self, detected: Any) -> Iterator[Detection]:  # noqa: ANN401  a dict of tensors
        sure = detected["scores"] >= self.threshold
        boxes, labels, scores = (
            detected[key][sure].tolist() for key in ("boxes", "labels", "scores")
        )
        for box, label, score in zip(boxes, labels, scores, strict=True):
            named: Detection = dict(map_class_to_label([[box]], self.mapping, [[label]])[0])
            yield {**named, "score": score}
