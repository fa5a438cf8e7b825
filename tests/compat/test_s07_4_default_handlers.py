"""Section 7.4: the default handlers, by models whose answers are known from their weights."""

from __future__ import annotations

import base64
import io
import json

import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.torch_models import (
    CLASSIFIER,
    DETECTOR,
    SEGMENTER,
    TEXTS,
    VOCABULARY,
    eager,
    picture,
    saved,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

EAGER = {"serializedFile": "weights.pt", "modelFile": "model.py"}
LABELS = json.dumps({str(n): ["id", f"thing {n}"] for n in range(10)})
TREES = json.dumps({"0": "bad", "1": "fair", "2": "good"})
IMAGE = picture()
OCTETS = {"Content-Type": "application/octet-stream"}

# A detector and a segmenter of their own answer the same whoever asks; the classifier's recipe is
# spelt out here once more, so that neither server is the judge of the other.
PREPARED = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)(Image.open(io.BytesIO(IMAGE)))[None]


def run(code, *inputs):
    with torch.inference_mode():
        return eager(code).model(*inputs)


def best(logits, count=5):
    found = logits[0].softmax(0).topk(count)
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return {f"thing {index}": pytest.approx(share, abs=1e-5) for index, share in pairs}


@pytest.fixture(scope="module")
def classifier(ts):
    files = eager(CLASSIFIER, index_to_name__json=LABELS).files
    with ts.registered("", handler="image_classifier", files=files, **EAGER) as model:
        yield model


@pytest.mark.row("7.4-image-classifier")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(IMAGE, OCTETS, id="bytes"),
        pytest.param(IMAGE, {}, id="bytes of no content type"),
        pytest.param(IMAGE, {"Content-Type": "image/jpeg"}, id="an image by its type"),
        pytest.param(base64.b64encode(IMAGE), {"Content-Type": "text/plain"}, id="base64 text"),
        pytest.param(
            json.dumps({"data": 1})
            .encode()
            .replace(b'{"data": 1}', b'"%s"' % base64.b64encode(IMAGE)),
            {"Content-Type": "application/json"},
            id="base64 in a JSON string",
        ),
        pytest.param(
            b'--x\r\nContent-Disposition: form-data; name="data"; filename="a.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n" + IMAGE + b"\r\n--x--\r\n",
            {"Content-Type": "multipart/form-data; boundary=x"},
            id="a file of a form",
        ),
    ],
)
def test_an_image_is_answered_by_its_five_best_classes(ts, classifier, body, headers):
    answer = ts.predict(classifier, body, headers)
    assert answer.json == best(run(CLASSIFIER, PREPARED))
    assert list(answer.json) == list(best(run(CLASSIFIER, PREPARED)))


@pytest.mark.row("7.4-image-classifier")
def test_an_image_that_is_numbers_already_is_taken_as_it_is(ts, classifier):
    numbers = [[[0.5, 0.25] * 16] * 32] * 3
    expected = best(run(CLASSIFIER, torch.tensor([numbers])))
    assert ts.predict(classifier, json.dumps(numbers).encode()).json == expected


@pytest.mark.row("7.4-image-classifier")
def test_what_is_no_image_is_a_failed_prediction(ts, classifier):
    answer = ts.predict(classifier, b"no image", OCTETS)
    assert answer.status == 503
    assert answer.json["message"].startswith("Prediction failed")


@pytest.mark.row("7.4-image-classifier")
def test_an_image_is_explained_by_what_each_of_its_values_adds(ts, classifier):
    small = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    body = json.dumps(small.tolist()).encode()
    headers = {"Content-Type": "application/json"}
    answer = ts.inference("POST", f"/explanations/{classifier}", body, headers)
    found = torch.tensor(answer.json)
    assert found.shape == (3, 16, 16)
    gained = run(CLASSIFIER, small[None]) - run(CLASSIFIER, torch.zeros(1, 3, 16, 16))
    assert found.sum().item() == pytest.approx(gained[0, 0].item(), abs=0.05)


@pytest.mark.row("7.4-image-classifier")
def test_a_derived_class_changes_what_becomes_of_an_image_and_how_many_classes_are_told(ts):
    own = """
        from torchvision import transforms
        from ts.torch_handler.image_classifier import ImageClassifier

        class Small(ImageClassifier):
            topk = 2
            image_processing = transforms.Compose(
                [transforms.Resize((32, 32)), transforms.ToTensor()]
            )
    """
    files = eager(CLASSIFIER, index_to_name__json=LABELS).files
    with ts.registered(own, files=files, **EAGER) as model:
        answer = ts.predict(model, IMAGE, OCTETS)
    small = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    expected = run(CLASSIFIER, small(Image.open(io.BytesIO(IMAGE)))[None])
    assert answer.json == best(expected, 2)


@pytest.mark.row("7.4-object-detector")
def test_a_detector_tells_class_box_and_score_of_what_it_is_sure_of(ts):
    files = eager(DETECTOR, index_to_name__json=json.dumps({"1": "cat", "2": "dog"})).files
    with ts.registered("", handler="object_detector", files=files, **EAGER) as model:
        answer = ts.predict(model, IMAGE, OCTETS)
    assert answer.json == [
        {"cat": [0.0, 0.0, 4.0, 4.0], "score": 0.75},
        {"dog": [1.0, 1.0, 2.0, 2.0], "score": 0.5},
    ]


@pytest.mark.row("7.4-image-segmenter")
def test_a_segmenter_tells_class_and_probability_of_every_pixel(serve):
    server = serve(config={"max_response_size": "65535000"})
    with server.registered(
        "", handler="image_segmenter", files=eager(SEGMENTER).files, **EAGER
    ) as model:
        found = torch.tensor(server.predict(model, IMAGE, OCTETS).json)
    shares = run(SEGMENTER, PREPARED)["out"][0].softmax(0).max(0)
    assert found.shape == (224, 224, 2)
    assert torch.equal(found[..., 0], shares.indices.float())
    assert torch.allclose(found[..., 1], shares.values, atol=1e-5)


@pytest.fixture(scope="module")
def texts(ts):
    files = eager(TEXTS, index_to_name__json=TREES, source_vocab__pt=saved(VOCABULARY)).files
    with ts.registered("", handler="text_classifier", files=files, **EAGER) as model:
        yield model


@pytest.mark.row("7.4-text-classifier")
@pytest.mark.parametrize("headers", [OCTETS, {"Content-Type": "text/plain"}], ids=["bytes", "text"])
def test_a_text_is_answered_by_every_class_with_its_probability(ts, texts, headers):
    answer = ts.predict(texts, b"<i>It isn't!</i>", headers)
    indices = [VOCABULARY[token] for token in ("it", "is", "not", "it is", "is not")]
    shares = run(TEXTS, torch.tensor(indices), torch.tensor([0]))[0].softmax(0).tolist()
    named = zip(("bad", "fair", "good"), shares, strict=True)
    assert answer.json == {name: pytest.approx(share, abs=1e-5) for name, share in named}


@pytest.mark.row("7.4-text-classifier")
def test_a_text_is_explained_word_by_word(ts, texts):
    answer = ts.inference("POST", f"/explanations/{texts}", b"It isn't!", OCTETS)
    assert list(answer.json) == ["importances", "words"]
    assert answer.json["words"] == ["it", "is", "not"]
    norm = torch.linalg.vector_norm(torch.tensor(answer.json["importances"]).sum(-1))
    assert norm.item() == pytest.approx(1, abs=1e-5)


IMPORTS = """
    from ts.torch_handler.base_handler import BaseHandler
    from ts.torch_handler.image_classifier import ImageClassifier
    from ts.torch_handler.object_detector import ObjectDetector
    from ts.torch_handler.vision_handler import VisionHandler
    from ts.torch_handler.text_handler import TextHandler

    def handle(data, context):
        return data and [
            [it.__name__ for it in (BaseHandler, ImageClassifier, ObjectDetector, VisionHandler,
                                    TextHandler)]
        ]
"""
THE_OTHERS = """
    from ts.context import Context
    from ts.handler_utils.micro_batching import MicroBatching
    from ts.handler_utils.timer import timed
    from ts.handler_utils.utils import import_class
    from ts.metrics.dimension import Dimension
    from ts.metrics.metric import Metric
    from ts.metrics.metric_type_enum import MetricTypes
    from ts.handler_utils.utils import send_intermediate_predict_response
    from ts.protocol.otf_message_handler import send_intermediate_predict_response
    from ts.service import emit_metrics
    from ts.torch_handler.distributed.base_deepspeed_handler import BaseDeepSpeedHandler
    from ts.torch_handler.image_segmenter import ImageSegmenter
    from ts.torch_handler.request_envelope.json import JSONEnvelope
    from ts.torch_handler.text_classifier import TextClassifier
    from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext
    from ts.utils.util import (
        PredictionException, check_valid_pt2_backend, list_classes_from_module,
        load_label_mapping, map_class_to_label,
    )
    from ts.torch_handler.image_classifier import ImageClassifier

    class Handler(ImageClassifier):
        def __init__(self):
            super().__init__()
            self.handle = MicroBatching(self)

        def initialize(self, context):
            super().initialize(context)
            asked = context.model_yaml_config["micro_batching"]
            self.handle.parallelism = asked["parallelism"]
            self.handle.micro_batch_size = asked["micro_batch_size"]

        @timed
        def preprocess(self, data):
            assert import_class("Context", "ts.context") is Context
            assert self.handle.get_micro_batch_idx() == 0
            return super().preprocess(data)
"""
MICRO = "micro_batching: {micro_batch_size: 2, parallelism: {preprocess: 2, postprocess: 1}}\n"


@pytest.mark.row("7.4-imports")
def test_the_imports_that_nearly_every_handler_has(ts):
    with ts.registered(IMPORTS) as model:
        assert ts.predict(model).json == [
            "BaseHandler",
            "ImageClassifier",
            "ObjectDetector",
            "VisionHandler",
            "TextHandler",
        ]


@pytest.mark.row("7.4-imports-rest", "5-micro-batching")
def test_the_other_imports_and_a_handler_that_works_in_parts(ts):
    files = eager(CLASSIFIER, index_to_name__json=LABELS).files
    with ts.registered(THE_OTHERS, files=files, config=MICRO, **EAGER) as model:
        answer = ts.predict(model, IMAGE, OCTETS)
    assert answer.json == best(run(CLASSIFIER, PREPARED))
