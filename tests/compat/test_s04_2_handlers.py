"""Section 4.2: the keys that concern handlers of archives that say little."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

FUNCTION = """
def handle(data, context):
    if data is not None:
        return ["the default handler" for _ in data]
"""
SEES_IMAGES = """
from PIL import Image
from ts.torch_handler.image_classifier import ImageClassifier

class Sees(ImageClassifier):
    def handle(self, data, context):
        return [{"limit": Image.MAX_IMAGE_PIXELS} for _ in data]
"""
NETWORK = """
import torch

class Network(torch.nn.Module):
    def forward(self, images):
        return images
"""


@pytest.fixture(scope="module")
def told(serve_module):
    return serve_module(
        config={"default_service_handler": "handler.py:handle", "limit_max_image_pixels": "false"}
    )


@pytest.mark.row("4.2-default-handler")
def test_an_archive_without_a_handler_gets_the_default_one(told):
    with told.registered(FUNCTION, handler=None) as name:
        assert told.predict(name).text == "the default handler"


@pytest.mark.row("4.2-image-pixels")
def test_the_limit_of_images_can_be_lifted(ts, told):
    eager = {"files": {"model.py": NETWORK}, "modelFile": "model.py"}
    with told.registered(SEES_IMAGES, **eager) as name:
        assert told.predict(name).json == {"limit": None}
    with ts.registered(SEES_IMAGES, **eager) as name:
        assert ts.predict(name).json["limit"] > 0
