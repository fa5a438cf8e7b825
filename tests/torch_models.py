"""Small models with fixed weights, and the images and texts they are asked about.

Each is the text of a model file, as users archive it, so that it is the same class in a test, in a
worker of ours and in one of TorchServe's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

LINEAR = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
        def forward(self, x):
            return self.layer(x)
"""
CLASSIFIER = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(3, 4, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                nn.Linear(16, 10),
            )
        def forward(self, images):
            return self.layers(images) * 10
"""
SEGMENTER = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)
        def forward(self, images):
            return {"out": self.layer(images)}
"""
DETECTOR = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = nn.Parameter(torch.tensor([0.75, 0.5, 0.25]))
        def forward(self, images):
            boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
            labels = torch.tensor([1, 2, 1])
            return [{"boxes": boxes, "labels": labels, "scores": self.scores} for _ in images]
"""
TEXTS = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.EmbeddingBag(16, 4)
            self.layer = nn.Linear(4, 3)
        def forward(self, text, offsets):
            return self.layer(self.embedding(text, offsets)) * 3
"""
VOCABULARY = {"<unk>": 0, "it": 1, "is": 2, "not": 3, "it is": 4, "is not": 5, "good": 6}


@dataclass(frozen=True)
class Saved:
    """A model, and the files that an archive of it has."""

    model: torch.nn.Module
    files: dict[str, str | bytes]

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            packed = content.encode() if isinstance(content, str) else content
            (folder / name).write_bytes(packed)


def eager(code: str, **files: str | bytes) -> Saved:
    """Return a model of this class, with random weights that are always the same.

    Its files are `model.py`, `weights.pt` and those given, `__` in a name for its dot.
    """
    model = _make(code)
    named = {name.replace("__", "."): content for name, content in files.items()}
    return Saved(
        model, {"model.py": _dedent(code), "weights.pt": saved(model.state_dict()), **named}
    )


def _make(code: str) -> torch.nn.Module:
    space: dict[str, type[torch.nn.Module]] = {}
    exec(_dedent(code), space)  # noqa: S102  the class as its file has it
    torch.manual_seed(7)
    return space["Net"]().eval()


def saved(value: object) -> bytes:
    """Return the file that torch.save makes."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def picture(kind: str = "JPEG", size: tuple[int, int] = (320, 260)) -> bytes:
    """Return an image with something in it: two gradients and a rectangle."""
    width, height = size
    red = Image.linear_gradient("L").resize(size)
    green = Image.radial_gradient("L").resize(size)
    blue = Image.new("L", size, 40)
    blue.paste(200, (width // 4, height // 3, width // 2, height // 2))
    file = io.BytesIO()
    Image.merge("RGB", (red, green, blue)).save(file, kind)
    return file.getvalue()


def _dedent(code: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in code.splitlines())
