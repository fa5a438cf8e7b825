"""`BaseHandler`: loads models of every kind, and answers JSON arrays with JSON arrays."""

from __future__ import annotations

import logging
import os
import time
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.profiler import record_function

from flambeau_runtime.worker import (
    compiling,
    devices,
    json_samples,
    model_files,
    profiling,
)
from flambeau_runtime.worker.model_files import load_onnx as setup_ort_session
from ts.handler_utils.timer import timed
from ts.utils.util import load_label_mapping

__all__ = ["PROFILER_AVAILABLE", "PT2_AVAILABLE", "BaseHandler", "setup_ort_session"]

logger = logging.getLogger(__name__)

PROFILER_AVAILABLE = True
PT2_AVAILABLE = True
"""Every torch that this runtime takes has both; handlers and their unit tests ask."""

Anything: TypeAlias = Any
"""What users' own steps hand to each other."""


class BaseHandler(ABC):  # noqa: B024  TorchServe's is one, too; every step has a meaning of its own
    """The handler to derive from, and by itself the default handler `base_handler`.

    What `preprocess` takes, over REST and without an envelope; every row is a dict:

    - a JSON array of numbers, nested as the model's input is: one sample. Bytes are read as JSON.
    - a JSON object with such an array under `data`, `features`, `inputs` or `input`: the same.
    - a JSON list of such objects, or an object with a list of samples under `instances`: several
      samples of one request, answered by a list with as many results.
    - a form or multipart field `data` with any of these.

    The samples of a batch become one tensor [N, …] of the model's own dtype: whole numbers become
    floats, too, unless the model begins with an embedding, which takes them as int64. Whatever is
    no list of dicts, as an envelope hands it out, becomes a tensor as it is.
    """

    def __init__(self) -> None:
        self.model: Anything = None
        self.mapping: dict[str, str] | None = None
        self.device: Anything = None
        self.map_location: str | None = None
        self.initialized: Anything = False
        self.context: Anything = None
        self.manifest: Anything = None
        self.model_pt_path: str | None = None
        self.model_yaml_config: Mapping[str, Any] = {}
        self.explain = False
        self.target = 0
        self.profiler_args: dict[str, Any] = {}
        self._samples_per_row: list[int] | None = None

    def initialize(self, context: Anything) -> None:
        """Choose the device and load the model, its labels beside it.

        Raises:
            RuntimeError: the archive has no model that can be loaded; says why.
        """
        properties = context.system_properties
        self.context = context
        self.manifest = context.manifest
        self.model_yaml_config = getattr(context, "model_yaml_config", None) or {}
        self.map_location, self.device = devices.choose(properties.get("gpu_id"))
        model_dir = properties.get("model_dir")
        names = self.manifest["model"]
        serialized = names.get("serializedFile")
        self.model_pt_path = str(Path(model_dir) / serialized) if serialized else None
        self.model = self._load_model(model_dir, names.get("modelFile"))
        if "pt2" in self.model_yaml_config:
            self.model = compiling.compile_model(self.model, self.model_yaml_config["pt2"])
        logger.debug("Model file %s loaded successfully", self.model_pt_path)
        self.mapping = load_label_mapping(str(Path(model_dir) / "index_to_name.json"))
        self.initialized = True

    @timed
    def preprocess(self, data: Anything) -> Anything:
        """Make one tensor [N, …] of the rows; what is no list of rows becomes a tensor as it is."""
        if not json_samples.are_rows(data):
            return torch.as_tensor(data, device=self.device)
        samples, self._samples_per_row = json_samples.read(data, self.model)
        return samples.to(self.device)

    @timed
    def inference(self, data: Anything, *args: Anything, **kwargs: Anything) -> Anything:
        """Run the model on one batch."""
        with torch.inference_mode():
            batch = data.to(self.device)
            if callable(self.model):
                return self.model(batch, *args, **kwargs)
            return _run_session(self.model, batch)

    @timed
    def postprocess(self, data: Anything) -> list[Any]:
        """Return one list (or number) per sample."""
        results: list[Any] = data.tolist()
        return results

    def handle(self, data: Anything, context: Anything) -> Anything:
        """Answer one batch: preprocess, inference, postprocess; or explain; or describe."""
        begun = time.perf_counter()
        self.context = context
        self._samples_per_row = None
        if os.environ.get(profiling.SWITCH):
            if self.manifest is None:  # an `initialize` of its own; traces are filed by name
                self.manifest = context.manifest
            results, _ = self._infer_with_profiler(data=data)
        elif self._is_describe():
            results = [self.describe_handle()]
        else:
            ready = self.preprocess(data)
            if self._is_explain():
                results = self.explain_handle(ready, data)
            else:
                results = self._regroup(self.postprocess(self.inference(ready)))
        spent_ms = (time.perf_counter() - begun) * 1000
        context.metrics.add_time("HandlerTime", round(spent_ms, 2), None, "ms")
        return results

    def explain_handle(self, data_preprocess: Anything, raw_data: Anything) -> Anything:
        """Explain the first row through the `get_insights` of a derived class.

        The row's own `target` (a form field, default 0) is the output to be explained.
        """
        row = raw_data[0]
        inputs, target = None, 0
        if isinstance(row, dict):
            inputs = row.get("data") or row.get("body")
            target = _number(row.get("target") or 0)
        return self.get_insights(data_preprocess, inputs, target)

    def get_insights(
        self, tensor_data: Anything, raw_data: Anything, target: Anything = 0
    ) -> Anything:
        """Explain a prediction; a derived class says how."""
        raise NotImplementedError(f"{type(self).__name__} has no get_insights: it cannot explain")

    def describe_handle(self) -> Anything:
        """Return what `GET /models/{model}?customized=true` shows; a derived class says what."""
        return None

    def get_device(self) -> Anything:
        """Return the device that the model is on."""
        return self.device

    def _infer_with_profiler(self, data: Anything) -> tuple[Anything, Anything]:
        """Answer one batch under torch's profiler; return the results and the profile."""
        profiling.complete(self.profiler_args, self.manifest)
        with profiling.begin(self.profiler_args) as taken:
            with record_function("preprocess"):
                ready = self.preprocess(data)
            if self._is_explain():
                with record_function("explain"):
                    results = self.explain_handle(ready, data)
            else:
                with record_function("inference"):
                    output = self.inference(ready)
                with record_function("postprocess"):
                    results = self._regroup(self.postprocess(output))
        profiling.report(taken)
        return results, taken

    def _is_explain(self) -> bool:
        asked = bool(self.context and self.context.get_request_header(0, "explain") == "True")
        self.explain = self.explain or asked
        return asked

    def _is_describe(self) -> bool:
        return bool(self.context and self.context.get_request_header(0, "describe") == "True")

    def _load_model(self, model_dir: str, model_file: str | None) -> Anything:
        path = self.model_pt_path
        if model_file:
            model = self._load_pickled_model(model_dir, model_file, path)
            model.to(self.device)
        elif path is not None and path.endswith(".pt"):
            model = self._load_torchscript_model(path)
        elif path is not None and path.endswith(".onnx"):
            return setup_ort_session(path, self.map_location)
        elif path is not None and path.endswith(".so") and self._use_torch_export_aot_compile():
            return self._load_torch_export_aot_compile(path)
        else:
            raise model_files.complain(path)
        model.eval()
        return model

    def _load_torchscript_model(self, model_pt_path: str) -> Anything:
        return model_files.load_torchscript(model_pt_path, self.device)

    def _load_pickled_model(
        self, model_dir: str, model_file: str, model_pt_path: str | None
    ) -> Anything:
        model = model_files.make_eager(model_dir, model_file)
        if model_pt_path:
            model.load_state_dict(self._load_weights(model_pt_path))
        return model

    def _load_torch_export_aot_compile(self, model_so_path: str) -> Anything:
        return model_files.load_aot_library(model_so_path, self.map_location, self.device)

    def _use_torch_export_aot_compile(self) -> bool:
        return compiling.wants_aot_library(self.model_yaml_config.get("pt2"))

    def _load_weights(self, path: str) -> Anything:
        """Load tensors and plain containers; more only where model-config.yaml trusts the file."""
        settings = self.model_yaml_config.get("handler")
        only = settings.get("weights_only", True) if isinstance(settings, Mapping) else True
        where = None if self.map_location is None else self.device  # None: XLA
        return torch.load(path, map_location=where, weights_only=bool(only))

    def _regroup(self, results: Anything) -> Anything:
        return json_samples.regroup(results, self._samples_per_row)


def _run_session(session: Anything, batch: torch.Tensor) -> Anything:
    """Run an onnxruntime session on its one input; return its one output, or all of them."""
    outputs = session.run(None, {session.get_inputs()[0].name: batch.numpy(force=True)})
    tensors = [torch.from_numpy(output) for output in outputs]
    return tensors[0] if len(tensors) == 1 else tensors


def _number(target: Anything) -> Anything:
    """Return the index that a plain form field spells out; all else as it is."""
    return int(target) if isinstance(target, (str, bytes, bytearray)) else target
