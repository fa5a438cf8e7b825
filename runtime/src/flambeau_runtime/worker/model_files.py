"""From the files of an archive to a model in memory, one function per kind of file."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import torch

from flambeau_runtime.worker.entry_point import classes_of, import_file

log = logging.getLogger(__name__)

Model: TypeAlias = Any
"""A module, a scripted module, an onnxruntime session, or any callable."""


def load_torchscript(path: str, device: Model) -> Model:
    """Load a TorchScript file."""
    with warnings.catch_warnings():
        # users of TorchScript know; their log need not repeat it with every worker
        warnings.filterwarnings("ignore", message=".*torch.jit", category=Warning)
        return torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]


def make_eager(model_dir: str, model_file: str) -> Model:
    """Import the model's file and make an object of the one class that it defines.

    Raises:
        RuntimeError: the file is not in the archive.
        ValueError: it defines no class, or several.
    """
    path = Path(model_dir) / model_file
    if not path.is_file():
        raise RuntimeError(f"Missing the model file {model_file}")
    module = sys.modules.get(path.stem)
    if module is None or getattr(module, "__file__", None) != str(path):
        module = import_file(path)
    classes = classes_of(module)
    if len(classes) != 1:
        names = ", ".join(cls.__name__ for cls in classes) or "none"
        raise ValueError(f"{model_file} must define exactly one class, the model; found {names}")
    return classes[0]()


def load_onnx(path: str, map_location: str | None) -> Model:
    """Return a session of onnxruntime, on the worker's share of the CPUs or its GPU.

    Raises:
        RuntimeError: onnxruntime is not installed.
    """
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeError(
            f"No model weights could be loaded: {Path(path).name} needs onnxruntime; install it "
            "beside the runtime, or name it in the model's requirements.txt"
        ) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = ["CUDAExecutionProvider"] if map_location == "cuda" else []
    session = ort.InferenceSession(
        path, sess_options=options, providers=[*providers, "CPUExecutionProvider"]
    )
    log.info("an onnxruntime session is set up on %s", session.get_providers()[0])
    return session


def load_aot_library(path: str, map_location: str | None, device: Model) -> Model:
    """Load what `torch._export.aot_compile` built: a shared library, as a callable."""
    if map_location == "cuda":
        torch.cuda.set_device(device)  # the library has no word for a device's index
    return torch._export.aot_load(path, map_location or "cpu")  # noqa: SLF001  torch has no other door


def complain(path: str | None) -> RuntimeError:
    """Return the error of an archive whose files are no model that can be loaded."""
    name = os.path.basename(path) if path else "nothing"  # noqa: PTH119  keeps a name's own slash
    return RuntimeError(
        f"No model weights could be loaded: there is {name}, and no model file. A TorchScript "
        "model ends in .pt, one of onnxruntime in .onnx, a library of torch.export in .so (with "
        "pt2: {export: {aot_compile: true}}); weights of an eager model need --model-file"
    )
