"""ENABLE_TORCH_PROFILER: one trace per batch, for TensorBoard, and the ten dearest in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.profiler import ProfilerActivity, profile, tensorboard_trace_handler

log = logging.getLogger(__name__)

SWITCH = "ENABLE_TORCH_PROFILER"
TRACES = Path("/tmp/pytorch_profiler")  # noqa: S108  where TorchServe's users look
ROWS_IN_LOG = 10

Profile: TypeAlias = Any


def complete(arguments: dict[str, Any], manifest: Mapping[str, Any] | None) -> None:
    """Fill in what a handler leaves open of `profiler_args`."""
    if not arguments:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        arguments.update(activities=activities, record_shapes=True)
    if "on_trace_ready" not in arguments:
        model = (manifest or {}).get("model", {}).get("modelName", "")
        arguments["on_trace_ready"] = tensorboard_trace_handler(str(TRACES / model))
        log.info("Saving chrome trace to : %s", TRACES / model)


def begin(arguments: dict[str, Any]) -> Profile:
    """Return the profiler, to be entered."""
    return profile(**arguments)


def report(taken: Profile) -> None:
    """Log what took longest."""
    log.info(taken.key_averages().table(sort_by="cpu_time_total", row_limit=ROWS_IN_LOG))
