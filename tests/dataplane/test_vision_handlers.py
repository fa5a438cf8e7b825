"""The default handlers of images: what they read, and what they answer."""

import base64
import io
import json
import sys

import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.handlers import process_as_it_was
from tests.torch_models import CLASSIFIER, DETECTOR, LINEAR, SEGMENTER, eager, picture
from ts.torch_handler.image_classifier import ImageClassifier
from ts.torch_handler.image_segmenter import ImageSegmenter
from ts.torch_handler.object_detector import ObjectDetector
from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext
from ts.torch_handler.vision_handler import VisionHandler

IMAGE = picture("PNG")
LABELS = {str(n): [f"n{n:08}", f"thing {n}"] for n in range(10)}


@pytest.fixture(autouse=True)
def _restored():
    with process_as_it_was():
        yield
    Image.MAX_IMAGE_PIXELS = LIMIT


LIMIT = Image.MAX_IMAGE_PIXELS


@pytest.fixture
def make(tmp_path):
    def of(handler_class, code, limit_max_image_pixels=True, **files):
        saved = eager(code, **files)
        saved.write(tmp_path)
        context = MockContext(
            model_pt_file="weights.pt", model_dir=str(tmp_path), model_file="model.py"
        )
        context.system_properties["limit_max_image_pixels"] = limit_max_image_pixels
        handler = handler_class()
        handler.initialize(context)
        return handler, context, saved.model

    return of


def expected_classes(model, count=5):
    """What an independent spelling of the published recipe answers."""
    image = Image.open(io.BytesIO(IMAGE))
    ready = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )(image)
    with torch.inference_mode():
        best = model(ready[None])[0].softmax(0).topk(count)
    return dict(zip(map(str, best.indices.tolist()), best.values.tolist(), strict=True))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"body": IMAGE}, id="bytes in the body"),
        pytest.param({"data": bytearray(IMAGE)}, id="bytes in a form field"),
        pytest.param({"body": base64.b64encode(IMAGE).decode()}, id="base64 text"),
    ],
)
def test_a_classifier_answers_with_its_five_best_classes(make, row):
    handler, context, model = make(ImageClassifier, CLASSIFIER)
    (answer,) = handler.handle([row], context)
    assert answer == pytest.approx(expected_classes(model))
    assert list(answer.values()) == sorted(answer.values(), reverse=True)


def test_a_classifier_takes_an_image_that_is_numbers_already(make):
    handler, context, model = make(ImageClassifier, CLASSIFIER)
    numbers = torch.rand(3, 64, 64)
    (answer,) = handler.handle([{"body": numbers.tolist()}], context)
    with torch.inference_mode():
        best = model(numbers[None])[0].softmax(0).topk(5)
    assert list(answer.values()) == pytest.approx(best.values.tolist())


def test_a_classifier_answers_each_image_of_a_batch(make):
    handler, context, model = make(ImageClassifier, CLASSIFIER)
    answers = handler.handle([{"body": IMAGE}] * 3, context)
    assert answers == [pytest.approx(expected_classes(model))] * 3


def test_classes_bear_the_names_of_index_to_name(make):
    handler, context, model = make(
        ImageClassifier, CLASSIFIER, index_to_name__json=json.dumps(LABELS)
    )
    (answer,) = handler.handle([{"body": IMAGE}], context)
    assert answer == pytest.approx({f"thing {n}": p for n, p in expected_classes(model).items()})


def test_a_classifier_can_answer_with_fewer_classes(make):
    handler, context, model = make(ImageClassifier, CLASSIFIER)
    handler.set_max_result_classes(2)
    assert handler.get_max_result_classes() == 2
    (answer,) = handler.handle([{"body": IMAGE}], context)
    assert answer == pytest.approx(expected_classes(model, 2))


def test_a_derived_class_says_what_becomes_of_an_image(make):
    class Grey(ImageClassifier):
        topk = 1
        image_processing = transforms.Compose([transforms.Grayscale(3), transforms.ToTensor()])

    handler, _, _ = make(Grey, CLASSIFIER)
    (image,) = handler.preprocess([{"body": IMAGE}])
    assert image.shape == (3, 260, 320)
    assert torch.equal(image[0], image[1])


def test_a_classifier_explains_itself_by_its_input(make):
    handler, context, model = make(ImageClassifier, CLASSIFIER)
    context.get_request_header = lambda _, name: "True" if name == "explain" else None
    ready = handler.preprocess([{"body": IMAGE}])
    (explained,) = handler.handle([{"body": IMAGE, "target": 3}], context)
    found = torch.tensor(explained)
    assert found.shape == (3, 224, 224)
    with torch.inference_mode():  # what integrated gradients promise: they add up to the difference
        gained = (model(ready) - model(torch.zeros_like(ready)))[0, 3]
    assert found.sum().item() == pytest.approx(gained.item(), rel=0.1)


@pytest.mark.parametrize(
    ("row", "target"),
    [
        pytest.param({"body": IMAGE}, 0, id="the first output unless said"),
        pytest.param({"body": IMAGE, "target": 2}, 2, id="a number"),
        pytest.param({"body": IMAGE, "target": bytearray(b"2")}, 2, id="a plain form field"),
        pytest.param({"body": {"data": 1, "target": 2}}, 0, id="no field of the row itself"),
    ],
)
def test_the_row_names_what_is_to_be_explained(row, target):
    class Explainer(VisionHandler):
        def get_insights(self, tensor_data, raw_data, target=0):
            return [(tensor_data, raw_data, target)]

    handler = Explainer()
    assert handler.explain_handle("ready", [row]) == [("ready", row["body"], target)]


def test_a_detector_answers_with_the_boxes_it_is_sure_of(make):
    labels = json.dumps({"1": "cat", "2": "dog"})
    handler, context, _ = make(ObjectDetector, DETECTOR, index_to_name__json=labels)
    assert (
        handler.handle([{"body": IMAGE}] * 2, context)
        == [
            [
                {"cat": [0.0, 0.0, 4.0, 4.0], "score": 0.75},
                {"dog": [1.0, 1.0, 2.0, 2.0], "score": 0.5},
            ]
        ]
        * 2
    )


def test_a_detector_may_ask_for_more_certainty(make):
    handler, context, _ = make(ObjectDetector, DETECTOR)
    handler.threshold = 0.6
    assert handler.handle([{"body": IMAGE}], context) == [
        [{"1": [0.0, 0.0, 4.0, 4.0], "score": 0.75}]
    ]


def test_a_segmenter_answers_with_class_and_probability_of_every_pixel(make):
    handler, context, model = make(ImageSegmenter, SEGMENTER)
    (answer,) = handler.handle([{"body": IMAGE}], context)
    found = torch.tensor(answer)
    assert found.shape == (224, 224, 2)
    with torch.inference_mode():
        of_pixel = model(handler.preprocess([{"body": IMAGE}]))["out"][0].softmax(0)
    assert torch.equal(found[..., 0], of_pixel.argmax(0).float())
    assert torch.allclose(found[..., 1], of_pixel.max(0).values)


@pytest.mark.parametrize(
    ("limited", "left"),
    [pytest.param(True, LIMIT, id="kept"), pytest.param(False, None, id="lifted")],
)
def test_pillows_limit_of_pixels_is(make, limited, left):
    make(ImageClassifier, CLASSIFIER, limit_max_image_pixels=limited)
    assert left == Image.MAX_IMAGE_PIXELS


def test_predictions_need_no_captum(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    handler, context, _ = make(ImageClassifier, CLASSIFIER)
    handler.handle([{"body": IMAGE}], context)
    with pytest.raises(
        ImportError, match=r"an explanation needs captum.*flambeau-runtime\[explain\]"
    ):
        handler.get_insights(None, None)


@pytest.mark.parametrize("name", ["image_classifier", "image_segmenter", "object_detector"])
def test_a_handler_that_needs_torchvision_names_the_extra(monkeypatch, name):
    for module in [it for it in sys.modules if it.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, f"ts.torch_handler.{name}")
    with pytest.raises(ImportError, match=rf"{name} needs torchvision.*flambeau-runtime\[vision\]"):
        __import__(f"ts.torch_handler.{name}")


def test_a_handler_of_images_needs_no_torchvision(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)

    class Plain(VisionHandler):
        image_processing = staticmethod(lambda image: torch.zeros(image.size))

    handler, _, _ = make(Plain, LINEAR)
    assert handler.preprocess([{"body": IMAGE}]).shape == (1, 320, 260)
