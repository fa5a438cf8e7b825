"""A net of ResNet-18's shape over raw RGB pictures, with random weights: its answers mean nothing.

A body is `side * side * 3` bytes; its side follows from its length.
"""

from math import isqrt

import numpy as np
import torch
from torch import nn

from ts.torch_handler.base_handler import BaseHandler

STAGES = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))


class Block(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        same = stride == 1 and inner == outer
        self.around = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [N, outer, H / stride, W / stride]."""
        return torch.relu(self.way(x) + self.around(x))


def net() -> nn.Module:
    """Return the net; always with the same weights."""
    torch.manual_seed(7)
    blocks = [
        block
        for inner, outer, stride in STAGES
        for block in (Block(inner, outer, stride), Block(outer, outer, 1))
    ]
    head = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*head, *blocks, *tail).eval()


class Pictures(BaseHandler):
    """Answers the best class and its score."""

    def _load_model(self, *_):
        return net().to(self.device)

    def preprocess(self, data):
        """Return float32 [N, 3, H, W], 0..1, on the device."""
        bodies = [row.get("body") or row.get("data") for row in data]
        side = isqrt(len(bodies[0]) // 3)
        packed = np.frombuffer(b"".join(bodies), np.uint8).reshape(len(bodies), side, side, 3)
        pictures = torch.from_numpy(packed.copy()).to(self.device)
        return pictures.permute(0, 3, 1, 2).float().div_(255)

    def postprocess(self, data):
        """Return one object per picture."""
        scores, best = data.max(1)
        pairs = zip(best.tolist(), scores.tolist(), strict=True)
        return [{"class": found, "score": score} for found, score in pairs]
