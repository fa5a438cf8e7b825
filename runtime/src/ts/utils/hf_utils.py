"""`ts.utils.hf_utils`: fetch a model of the Hugging Face hub."""

from __future__ import annotations

CHECKPOINTS = (
    "*.json",
    "*.pt",
    "*.bin",
    "*.txt",
    "*.model",
    "*.pth",
    "*.safetensors",
    "original/*",
)
"""What PyTorch needs of a repository; weights for other frameworks stay there."""


def download_model(
    model_id: str = "meta-llama/Meta-Llama-3.1-8B-Instruct",
    revision: str = "main",
    model_path: str = ".cache",
    use_auth_token: bool | str = True,
) -> str:
    """Download a repository's checkpoints below `model_path` and return their folder.

    Raises:
        ImportError: huggingface_hub is not installed; names the extra.
    """
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImportError(
            "models of the Hugging Face hub need huggingface_hub: pip install flambeau-runtime[hf]"
        ) from error
    return str(
        snapshot_download(
            repo_id=model_id,
            revision=revision,
            allow_patterns=list(CHECKPOINTS),
            cache_dir=model_path,
            token=use_auth_token,
        )
    )
