"""`BaseHandler`: loads TorchScript and eager models, and answers JSON arrays with JSON arrays."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from flambeau_runtime.worker.entry_point import classes_of, import_file
from ts.handler_utils.timer import timed
from ts.utils.util import load_label_mapping

logger = logging.getLogger(__name__)

ONE_SAMPLE = ("data", "features", "inputs", "input")
"""Keys of a JSON object whose array is one sample."""
MANY_SAMPLES = "instances"
"""Key of a JSON object whose array holds several samples, answered by as many results."""
TAKES_INDICES = ("Embedding", "EmbeddingBag")

Anything: TypeAlias = Any
"""What users' own steps hand to each other."""


class BaseHandler:
    """The handler to derive from, and by itself the default handler `base_handler`.

    What `preprocess` takes, over REST and without an envelope; every row is a dict:

    - a JSON array of numbers, nested as the model's input is: one sample. Bytes are read as JSON.
    - a JSON object with such an array under `data`, `features`, `inputs` or `input`: the same.
    - a JSON list of such objects, or an object with a list of samples under `instances`: several
      samples of one request, answered by a list with as many results.
    - a form or multipart field `data` with any of these.

    The samples of a batch become one tensor [N, …] of the model's own dtype: whole numbers become
    floats, too, unless the model begins with an embedding, which takes them as int64.
    """

    def __init__(self) -> None:
        self.model: Anything = None
        self.mapping: dict[str, str] | None = None
        self.device: Anything = None
        self.map_location: str | None = None
        self.initialized = False
        self.context: Anything = None
        self.manifest: Anything = None
        self.model_pt_path: str | None = None
        self.model_yaml_config: Mapping[str, Any] = {}
        self.explain = False
        self.target = 0
        self.profiler_args: dict[str, Any] = {}
        self._samples_per_row: list[int] | None = None  # -1: one sample, not in a list

    def initialize(self, context: Anything) -> None:
        """Choose the device and load the model, its labels beside it.

        Raises:
            RuntimeError: the archive has no model that can be loaded; says why.
        """
        properties = context.system_properties
        self.context = context
        self.manifest = context.manifest
        self.model_yaml_config = getattr(context, "model_yaml_config", None) or {}
        self.map_location, self.device = _choose_device(properties.get("gpu_id"))
        model_dir = Path(properties.get("model_dir"))
        names = self.manifest["model"]
        serialized = names.get("serializedFile")
        self.model_pt_path = str(model_dir / serialized) if serialized else None
        if names.get("modelFile"):
            self.model = self._load_pickled_model(
                str(model_dir), names["modelFile"], self.model_pt_path
            )
            self.model.to(self.device)
        else:
            self.model = self._load_torchscript_model(self.model_pt_path)
        self.model.eval()
        if "pt2" in self.model_yaml_config:
            logger.warning("model-config.yaml: pt2 has no effect in this release")
        self.mapping = load_label_mapping(str(model_dir / "index_to_name.json"))
        self.initialized = True

    @timed
    def preprocess(self, data: Anything) -> Anything:
        """Make one tensor [N, …] of the rows; what is no list of rows becomes a tensor as it is."""
        rows = isinstance(data, list) and data and all(isinstance(row, dict) for row in data)
        if not rows:
            return torch.as_tensor(data, device=self.device)
        samples_of_rows = [_read_samples(row) for row in data]
        if any(many for many, _ in samples_of_rows):
            self._samples_per_row = [
                len(samples) if many else -1 for many, samples in samples_of_rows
            ]
        samples = [self._to_tensor(sample) for _, of_row in samples_of_rows for sample in of_row]
        if not samples:
            raise ValueError("no samples: the lists under instances are empty")
        shapes = {tuple(sample.shape) for sample in samples}
        if len(shapes) > 1:
            raise ValueError(f"all samples of a batch need one shape, got {sorted(shapes)}")
        return torch.stack(samples).to(self.device)

    @timed
    def inference(self, data: Anything, *args: Anything, **kwargs: Anything) -> Anything:
        """Run the model on one batch."""
        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    @timed
    def postprocess(self, data: Anything) -> list[Any]:
        """Return one list (or number) per sample."""
        results: list[Any] = data.tolist()
        return results

    def handle(self, data: Anything, context: Anything) -> Anything:
        """Answer one batch: preprocess, inference, postprocess; or explain; or describe."""
        begun = time.perf_counter()
        self.context = context
        if self._is_describe():
            results = [self.describe_handle()]
        else:
            self._samples_per_row = None
            ready = self.preprocess(data)
            if self._is_explain():
                results = self.explain_handle(ready, data)
            else:
                results = self._regroup(self.postprocess(self.inference(ready)))
        context.metrics.add_time("HandlerTime", (time.perf_counter() - begun) * 1000, None, "ms")
        return results

    def explain_handle(self, data_preprocess: Anything, raw_data: Anything) -> Anything:
        """Explain the first row through the `get_insights` of a derived class.

        The row's `target` (default 0) is the output to be explained.
        """
        row = raw_data[0]
        inputs = row.get("data") or row.get("body")
        target = inputs.get("target", 0) if isinstance(inputs, dict) else 0
        return self.get_insights(data_preprocess, [inputs], row.get("target", target))

    def get_insights(
        self, tensor_data: Anything, raw_data: Anything, target: Anything = 0
    ) -> Anything:
        """Explain a prediction; a derived class says how."""
        raise NotImplementedError(f"{type(self).__name__} has no get_insights: it cannot explain")

    def describe_handle(self) -> Anything:
        """Return what `GET /models/{model}?customized=true` shows; a derived class says what."""
        return None

    def _is_explain(self) -> bool:
        asked = bool(self.context.get_request_header(0, "explain") == "True")
        self.explain = self.explain or asked
        return asked

    def _is_describe(self) -> bool:
        return bool(self.context.get_request_header(0, "describe") == "True")

    def _load_torchscript_model(self, model_pt_path: str | None) -> Anything:
        if model_pt_path is None or not model_pt_path.endswith(".pt"):
            name = Path(model_pt_path).name if model_pt_path else "nothing"
            raise RuntimeError(
                f"No model weights could be loaded: there is {name}, and no model file. A "
                "TorchScript model ends in .pt; weights of an eager model need --model-file"
            )
        with warnings.catch_warnings():
            # users of TorchScript know; their log need not repeat it with every worker
            warnings.filterwarnings("ignore", message=".*torch.jit", category=Warning)
            return torch.jit.load(model_pt_path, map_location=self.device)  # type: ignore[no-untyped-call]

    def _load_pickled_model(
        self, model_dir: str, model_file: str, model_pt_path: str | None
    ) -> Anything:
        path = Path(model_dir) / model_file
        if not path.is_file():
            raise RuntimeError(f"Missing the model file {model_file}")
        module = sys.modules.get(path.stem)
        if module is None or getattr(module, "__file__", None) != str(path):
            module = import_file(path)
        classes = classes_of(module)
        if len(classes) != 1:
            names = ", ".join(cls.__name__ for cls in classes) or "none"
            raise ValueError(
                f"{model_file} must define exactly one class, the model; found {names}"
            )
        model = classes[0]()
        if model_pt_path:
            model.load_state_dict(self._load_weights(model_pt_path))
        return model

    def _load_weights(self, model_pt_path: str) -> Anything:
        settings = self.model_yaml_config.get("handler")
        only = settings.get("weights_only", True) if isinstance(settings, Mapping) else True
        return torch.load(model_pt_path, map_location=self.device, weights_only=bool(only))

    def _to_tensor(self, sample: Anything) -> torch.Tensor:
        tensor = torch.as_tensor(sample)
        wanted = _input_dtype(self.model)
        if wanted is not None and tensor.dtype is not torch.bool:
            tensor = tensor.to(wanted)
        return tensor

    def _regroup(self, results: Anything) -> Anything:
        """Give every row of several samples its list of results."""
        counts = self._samples_per_row
        if counts is None or len(results) != sum(1 if count < 0 else count for count in counts):
            return results
        rest = iter(results)
        return [next(rest) if count < 0 else [next(rest) for _ in range(count)] for count in counts]


def _choose_device(gpu_id: int | str | None) -> tuple[str, torch.device]:
    if gpu_id is not None and torch.cuda.is_available():
        return "cuda", torch.device(f"cuda:{gpu_id}")
    if gpu_id is not None and torch.backends.mps.is_available():
        return "mps", torch.device("mps")
    return "cpu", torch.device("cpu")


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


def _read_sample(value: Anything) -> Anything:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ONE_SAMPLE if key in value), None)
    if value is None:
        raise ValueError(
            "the body must be a JSON array of numbers, or an object with one under "
            f"{', '.join((*ONE_SAMPLE, MANY_SAMPLES))}"
        )
    return value


def _input_dtype(model: Anything) -> torch.dtype | None:
    """Return the dtype a model's input needs: read from its first layer that has parameters."""
    if not isinstance(model, torch.nn.Module):
        return None
    for module in model.modules():
        first = next(iter(module.parameters(recurse=False)), None)
        if first is not None:
            kind = getattr(module, "original_name", type(module).__name__)
            return torch.int64 if kind in TAKES_INDICES else first.dtype
    return None
