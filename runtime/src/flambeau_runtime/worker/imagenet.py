"""What models trained on ImageNet expect of an image."""

from __future__ import annotations

from typing import Any

from flambeau_runtime.worker.extras import need

SHORTER_SIDE = 256
CROP = 224
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def processing(user: str) -> Any:  # noqa: ANN401  torchvision's transforms have no types
    """Return the transform: resize, crop the middle, scale to 0..1, normalise each channel.

    Raises:
        ImportError: torchvision is not installed.
    """
    transforms = need("torchvision.transforms", user)
    return transforms.Compose(
        [
            transforms.Resize(SHORTER_SIDE),
            transforms.CenterCrop(CROP),
            transforms.ToTensor(),
            transforms.Normalize(mean=list(MEAN), std=list(DEVIATION)),
        ]
    )
