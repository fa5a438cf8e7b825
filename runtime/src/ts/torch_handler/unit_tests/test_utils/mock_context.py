"""`MockContext`: a context for unit tests of handlers, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from flambeau_runtime.worker.context import Context, RequestProcessor


class MockContext(Context):
    """A context as a worker would hand it out, made from a few names."""

    def __init__(
        self,
        model_pt_file: str | None = "model.pt",
        model_dir: str = ".",
        model_file: str | None = "model.py",
        gpu_id: str | int | None = "0",
        model_name: str = "mnist",
        model_yaml_config_file: str | None = None,
    ) -> None:
        model = {"modelName": model_name}
        if model_pt_file:
            model["serializedFile"] = model_pt_file
        if model_file:
            model["modelFile"] = model_file
        super().__init__(
            model_name,
            model_dir,
            {"model": model},
            batch_size=1,
            gpu=int(gpu_id) if gpu_id is not None and torch.cuda.is_available() else None,
            model_yaml_config=_read_config(Path(model_dir), model_yaml_config_file),
        )
        self.request_ids = {0: "0"}
        self.request_processor = [RequestProcessor(headers={"explain": "False"})]


def _read_config(model_dir: Path, file: str | None) -> Mapping[str, Any]:
    if not file:
        return {}
    return yaml.safe_load((model_dir / file).read_text(encoding="utf-8")) or {}
