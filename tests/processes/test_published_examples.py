"""Models in the spirit of TorchServe's published examples: archived, served and asked as there.

The networks are torchvision's own, with random weights that are always the same, so what each
shall answer is known without the server.
"""

from __future__ import annotations

import io
import json
import warnings

import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import resnet18
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from tests.compat.ts import new_place, ours
from tests.torch_models import LINEAR, TEXTS, VOCABULARY, eager, picture, saved
from tests.wheels import from_wheels, write_wheel

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

RESNET = """
from torchvision.models.resnet import BasicBlock, ResNet

class ImageClassifier(ResNet):
    def __init__(self):
        super().__init__(BasicBlock, [2, 2, 2, 2])
"""
DETECTOR = """
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

class Net:
    def __new__(cls):
        return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
"""
UNSURE = """
from ts.torch_handler.object_detector import ObjectDetector

class Unsure(ObjectDetector):
    threshold = 0.25
"""
SEGMENTER = """
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

class Net:
    def __new__(cls):
        return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
"""
LABELS = {str(n): [f"n{n:08}", f"thing {n}"] for n in range(1000)}
IMAGE = picture()
OCTETS = {"Content-Type": "application/octet-stream"}
MANY = 16
COUNTS = """
import counting

class Counter:
    def initialize(self, context):
        self.version = counting.VERSION

    def handle(self, data, context):
        return [f"counting {self.version}" for _ in data]
"""


def seeded(make, seed=11):
    torch.manual_seed(seed)
    return make().eval()


def run(model, *inputs):
    with torch.inference_mode():
        return model(*inputs)


def prepared():
    """Return the image as the published recipe prepares it."""
    steps = [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
    return transforms.Compose(steps)(Image.open(io.BytesIO(IMAGE)))[None]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    wheels = tmp_path_factory.mktemp("wheels")
    write_wheel(wheels, "counting", "2.5")
    place = new_place(ours())
    config = {"install_py_dep_per_model": "true"}
    try:
        with place.serving(config=config, env=from_wheels(wheels)) as running:
            yield running
    finally:
        place.clear()


@pytest.fixture
def serve(server, tmp_path):
    """Archive files with torch-model-archiver, register the archive, and return its name."""
    names = []

    def of(name, handler, files, *, batch_size=1, **flags):
        for file, content in files.items():
            packed = content.encode() if isinstance(content, str) else content
            (tmp_path / file).write_bytes(packed)
        words = ["--model-name", name, "--version", "1.0", "--export-path", str(server.place.store)]
        words += ["--handler", handler if handler not in files else str(tmp_path / handler)]
        for flag, named in flags.items():
            paths = ",".join(str(tmp_path / file) for file in named.split(","))
            words += [f"--{flag.replace('_', '-')}", paths]
        done = server.place.run(*words, "--force", program="torch-model-archiver")
        assert done.returncode == 0, done.stderr
        query = {"url": f"{name}.mar", "initial_workers": 1, "batch_size": batch_size}
        answer = server.manage("POST", "/models", synchronous="true", **query)
        assert answer.status == 200, answer.text
        names.append(name)
        return name

    yield of
    for name in names:
        server.manage("DELETE", f"/models/{name}")


def five_best(logits):
    best = logits[0].softmax(0).topk(5)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return {f"thing {index}": pytest.approx(share, rel=1e-3) for index, share in pairs}


@pytest.mark.parametrize("kind", ["eager", "TorchScript"])
def test_resnet_18_names_the_five_likeliest_classes_of_a_jpeg(server, serve, kind):
    resnet = seeded(resnet18)
    files = {"index_to_name.json": json.dumps(LABELS)}
    flags = {"serialized_file": "resnet18.pt", "extra_files": "index_to_name.json"}
    if kind == "eager":
        files |= {"model.py": RESNET, "resnet18.pt": saved(resnet.state_dict())}
        flags["model_file"] = "model.py"
    else:
        files["resnet18.pt"] = traced(resnet)
    model = serve("resnet-18", "image_classifier", files, batch_size=4, **flags)
    answer = server.predict(model, IMAGE, OCTETS)
    assert answer.json == five_best(run(resnet, prepared()))
    assert list(answer.json) == list(five_best(run(resnet, prepared())))


def traced(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, torch.zeros(1, 3, 224, 224)).save_to_buffer()


def test_a_detector_of_torchvision_tells_what_it_sees_and_where(server, serve):
    def detector():
        return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)

    network = seeded(detector)
    files = {"model.py": DETECTOR, "unsure.py": UNSURE, "ssd.pt": saved(network.state_dict())}
    model = serve("detector", "unsure.py", files, serialized_file="ssd.pt", model_file="model.py")
    answer = server.predict(model, IMAGE, OCTETS)
    image = transforms.ToTensor()(Image.open(io.BytesIO(IMAGE)))
    (seen,) = run(network, [image])
    sure = seen["scores"] >= 0.25
    assert sure.any(), "or nothing is proven"
    expected = zip(
        seen["labels"][sure].tolist(),
        seen["boxes"][sure].tolist(),
        seen["scores"][sure].tolist(),
        strict=True,
    )
    assert answer.json == [
        {str(label): pytest.approx(box, abs=0.1), "score": pytest.approx(score, abs=1e-3)}
        for label, box, score in expected
    ]


def test_a_segmenter_of_torchvision_tells_the_class_of_every_pixel(server, serve):
    def segmenter():
        return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)

    network = seeded(segmenter)
    files = {"model.py": SEGMENTER, "lraspp.pt": saved(network.state_dict())}
    flags = {"serialized_file": "lraspp.pt", "model_file": "model.py"}
    model = serve("segmenter", "image_segmenter", files, **flags)
    found = torch.tensor(server.predict(model, IMAGE, OCTETS).json)
    shares = run(network, prepared())["out"][0].softmax(0).max(0)
    assert found.shape == (224, 224, 2)
    assert torch.allclose(found[..., 1], shares.values, atol=1e-4)
    assert (found[..., 0] == shares.indices).float().mean() > 0.999


def test_a_classifier_of_texts_weighs_the_words_of_a_sentence(server, serve):
    labels = json.dumps({"0": "bad", "1": "fair", "2": "good"})
    texts = eager(TEXTS, index_to_name__json=labels, source_vocab__pt=saved(VOCABULARY))
    model = serve(
        "texts",
        "text_classifier",
        texts.files,
        model_file="model.py",
        serialized_file="weights.pt",
        extra_files="index_to_name.json,source_vocab.pt",
    )
    indices = [VOCABULARY[token] for token in ("it", "is", "good", "it is")] + [0]
    shares = run(texts.model, torch.tensor(indices), torch.tensor([0]))[0].softmax(0).tolist()
    expected = dict(zip(("bad", "fair", "good"), shares, strict=True))
    answer = server.predict(model, b"It's good!", {"Content-Type": "text/plain"})
    assert answer.json == pytest.approx(expected, rel=1e-4)


def test_a_handler_brings_the_packages_that_it_needs(server, serve):
    files = {"counter.py": COUNTS, "requirements.txt": "counting==2.5\n"}
    model = serve("counter", "counter.py", files, requirements_file="requirements.txt")
    assert server.predict(model).body == b"counting 2.5"


def test_many_models_live_in_one_runtime_and_each_answers_with_its_own(server, serve):
    nets = [eager(LINEAR) for _ in range(MANY)]
    for at, net in enumerate(nets):
        with torch.no_grad():
            net.model.layer.bias.fill_(at)
    models = [
        serve(
            f"linear{at}",
            "base_handler",
            {**net.files, "weights.pt": saved(net.model.state_dict())},
            model_file="model.py",
            serialized_file="weights.pt",
        )
        for at, net in enumerate(nets)
    ]
    listed = server.manage("GET", "/models?limit=100").json["models"]
    assert {it["modelName"] for it in listed} >= set(models)
    for model, net in zip(models, nets, strict=True):
        expected = run(net.model, torch.ones(1, 4))[0].tolist()
        assert server.predict(model, b"[1, 1, 1, 1]").json == pytest.approx(expected, abs=1e-5)
