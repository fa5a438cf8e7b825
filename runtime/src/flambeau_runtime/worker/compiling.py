"""`pt2` of model-config.yaml: torch.compile, in every spelling that TorchServe reads."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from flambeau_runtime.worker.compile_backends import PT2Backend, is_known_backend

log = logging.getLogger(__name__)

Model: TypeAlias = Any


_REGISTERED_BY = {
    PT2Backend.OPENVINO: "openvino.torch",
    PT2Backend.TENSORRT: "torch_tensorrt",
    PT2Backend.IPEX: "intel_extension_for_pytorch",
    PT2Backend.HPU_BACKEND: "habana_frameworks.torch.core",
}
"""Packages whose import makes their backend known to torch."""


def wants_aot_library(pt2: object) -> bool:
    """Tell whether `pt2` says `export: {aot_compile: true}`."""
    export = pt2.get("export") if isinstance(pt2, Mapping) else None
    return isinstance(export, Mapping) and export.get("aot_compile") is True


def read_options(pt2: object) -> dict[str, Any] | None:
    """Return the arguments for torch.compile; None: do not compile.

    `{compile: {enable: true, backend: …, mode: …}}`, or of old a backend's name, or the arguments
    themselves.

    Raises:
        ValueError: it is neither text nor a mapping.
    """
    if isinstance(pt2, str):
        options: dict[str, Any] = {"backend": pt2}
    elif not isinstance(pt2, Mapping):
        raise ValueError("model-config.yaml: pt2 should be str or dict")  # noqa: TRY004  TorchServe's class
    elif "compile" in pt2:
        options = _of_compile(pt2["compile"])
        if options.pop("enable", False) is not True:
            return None
    elif "export" in pt2:
        return None
    else:
        options = dict(pt2)
        log.warning("pt2: write compile: {enable: true, …}; options of their own are deprecated")
    if "backend" in options and not is_known_backend(options["backend"]):
        return None
    return options


def _of_compile(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004  as its neighbours
            "model-config.yaml: pt2.compile should be a mapping, such as {enable: true, backend: "
            "inductor}"
        )
    return dict(value)


def compile_model(model: Model, pt2: object) -> Model:
    """Return the model compiled as `pt2` says, or as it was where torch cannot: the log says why.

    Compilation proper happens at the first request: warm the model up.
    """
    options = read_options(pt2)
    if options is None:
        return model
    said = ", ".join(f"{key} {value}" for key, value in options.items())
    try:
        _register(options.get("backend"))
        compiled = torch.compile(model, **options)
    except Exception as error:  # noqa: BLE001  whatever a backend raises, the model still serves
        log.warning("Compiling the model with %s failed; it serves uncompiled: %s", said, error)
        return model
    log.info("Compiled model with %s", said)
    return compiled


def _register(backend: object) -> None:
    for known, package in _REGISTERED_BY.items():
        if backend == known.value:
            importlib.import_module(package)
