"""Which device a handler's model lives on: TorchServe's order, from the worker's gpu_id."""

from __future__ import annotations

import importlib
import importlib.util
import os

import torch

TENSOR_CORES_SINCE = (8, 0)  # Ampere


def choose(gpu_id: int | str | None) -> tuple[str | None, torch.device]:
    """Return what `map_location` is called, and the device.

    CUDA, Intel's XPU (only where TS_IPEX_GPU_ENABLE=true) and Apple's MPS need a `gpu_id`; XLA
    has no map_location; all else is the CPU.
    """
    if gpu_id is not None:
        found = _accelerator(gpu_id)
        if found is not None:
            return found
    if has_xla():
        xla = importlib.import_module("torch_xla.core.xla_model")
        return None, xla.xla_device()
    return "cpu", torch.device("cpu")


def has_xla() -> bool:
    """Tell whether torch_xla is installed."""
    return importlib.util.find_spec("torch_xla") is not None


def _accelerator(gpu_id: int | str) -> tuple[str, torch.device] | None:
    if torch.cuda.is_available():
        device = torch.device(f"cuda:{gpu_id}")
        if torch.cuda.get_device_capability(device) >= TENSOR_CORES_SINCE:
            torch.set_float32_matmul_precision("high")  # as TorchServe does: TF32 where there is
        return "cuda", device
    if os.environ.get("TS_IPEX_GPU_ENABLE", "false") == "true" and torch.xpu.is_available():
        return "xpu", torch.device(f"xpu:{gpu_id}")
    if torch.backends.mps.is_available():
        return "mps", torch.device("mps")
    return None
