"""What the driver's own tool says, and models that say where they are."""

from __future__ import annotations

import subprocess

MEBI = 1 << 20

SAYS_WHERE = """
    import os
    import torch

    class Handler:
        def initialize(self, context):
            self.kept = torch.ones(1024, device="cuda")

        def handle(self, data, context):
            return [{
                "pid": os.getpid(), "parent": os.getppid(),
                "gpu_id": context.system_properties["gpu_id"],
                "visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "device": str(self.kept.device),
                "count": torch.cuda.device_count(), "sum": float(self.kept.sum()),
            } for _ in data]
"""
"""Says just "cuda", as most handlers do."""

SMALL_NET = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
                nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10),
            )
        def forward(self, images):
            return self.layers(images)
"""

ON_DEVICE = """
    from ts.torch_handler.base_handler import BaseHandler

    class Net(BaseHandler):
        def postprocess(self, data):
            parameters = list(self.model.parameters())
            where = str(parameters[0].device) if parameters else str(data.device)
            return [{"scores": row, "device": where} for row in data.tolist()]
"""
"""The base handler, which also says where its model is."""


def asked(*words: str) -> list[str]:
    """Return the lines of nvidia-smi's answer."""
    command = ["nvidia-smi", *words, "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]


def device_used() -> int:
    """Return the bytes in use on the first device."""
    return int(asked("-i", "0", "--query-gpu=memory.used")[0]) * MEBI


def device_free() -> int:
    """Return the bytes that are free on the first device."""
    return int(asked("-i", "0", "--query-gpu=memory.free")[0]) * MEBI
