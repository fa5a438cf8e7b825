"""Rows with JSON arrays → one tensor, and results back to their rows: what BaseHandler adds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

Value: TypeAlias = Any
"""What a body decodes to, and what a handler's steps hand to each other."""

ONE_SAMPLE = ("data", "features", "inputs", "input")
"""Keys of a JSON object whose array is one sample."""
MANY_SAMPLES = "instances"
"""Key of a JSON object whose array holds several samples, answered by as many results."""
TAKES_INDICES = ("Embedding", "EmbeddingBag")
ALONE = -1
"""Instead of a count: one sample, not in a list."""

_OF_ONNX = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
}


def are_rows(data: Value) -> bool:
    """Tell whether this is a batch as the server hands it out: dicts in a list."""
    return isinstance(data, list) and bool(data) and all(isinstance(row, dict) for row in data)


def read(rows: Sequence[Mapping[str, Any]], model: Value) -> tuple[torch.Tensor, list[int] | None]:
    """Return all samples as one tensor [N, …] of the model's own dtype.

    Beside it the number of samples of each row, ALONE for a row that is one; None: all are.

    Raises:
        ValueError: no samples, no numbers, or samples of several shapes.
    """
    of_rows = [_read_samples(row) for row in rows]
    dtype = input_dtype(model)
    samples = [_to_tensor(sample, dtype) for _, of_row in of_rows for sample in of_row]
    if not samples:
        raise ValueError("no samples: the lists under instances are empty")
    shapes = {tuple(sample.shape) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"all samples of a batch need one shape, got {sorted(shapes)}")
    several = any(many for many, _ in of_rows)
    counts = [len(of_row) if many else ALONE for many, of_row in of_rows] if several else None
    return torch.stack(samples), counts


def regroup(results: Value, counts: list[int] | None) -> Value:
    """Give every row of several samples its list of results."""
    if counts is None or len(results) != sum(1 if count < 0 else count for count in counts):
        return results
    rest = iter(results)
    return [next(rest) if count < 0 else [next(rest) for _ in range(count)] for count in counts]


def input_dtype(model: Value) -> torch.dtype | None:
    """Return the dtype that a model's input needs, read from its first layer with parameters."""
    if isinstance(model, torch.nn.Module):
        return _first_layers_dtype(model)
    if hasattr(model, "get_inputs"):
        return _OF_ONNX.get(model.get_inputs()[0].type)
    return None


def _first_layers_dtype(model: torch.nn.Module) -> torch.dtype | None:
    for module in model.modules():
        first = next(iter(module.parameters(recurse=False)), None)
        if first is not None:
            kind = getattr(module, "original_name", type(module).__name__)
            return torch.int64 if kind in TAKES_INDICES else first.dtype
    return None


def _to_tensor(sample: Value, dtype: torch.dtype | None) -> torch.Tensor:
    tensor = torch.as_tensor(sample)
    if dtype is None or tensor.dtype is torch.bool:
        return tensor
    return tensor.to(dtype)


def _read_samples(row: Mapping[str, Any]) -> tuple[bool, Sequence[Any]]:
    """Return whether a row may hold several samples, and them."""
    value = row.get("data")
    if value is None:
        value = row.get("body")
    if isinstance(value, (bytes, bytearray, str)):
        value = json.loads(value)
    if isinstance(value, Mapping) and MANY_SAMPLES in value:
        return True, [_read_sample(sample) for sample in value[MANY_SAMPLES]]
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return True, [_read_sample(sample) for sample in value]
    return False, [_read_sample(value)]


def _read_sample(value: Value) -> Value:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ONE_SAMPLE if key in value), None)
    if value is None:
        raise ValueError(
            "the body must be a JSON array of numbers, or an object with one under "
            f"{', '.join((*ONE_SAMPLE, MANY_SAMPLES))}"
        )
    return value
