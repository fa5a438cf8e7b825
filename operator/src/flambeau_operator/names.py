"""Names that users and other programs see, and what is built from them."""

GROUP = "serving.flambeau.dev"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "ModelDeployment"

RETRY = f"{GROUP}/retry"
"""Annotation: try the remembered failure with this hash once more."""


def versioned(model: str, version: str) -> str:
    """Name one version of one model as people write it: `classifier@1.0`."""
    return f"{model}@{version}"
