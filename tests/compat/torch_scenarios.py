"""Real models through real archives and handlers; run as one process, because torch is heavy.

`python -m tests.compat.torch_scenarios FOLDER` prints one JSON object: scenario → what came of it.
"""

import asyncio
import io
import json
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path

import torch

from flambeau_runtime.archive.store import Store
from flambeau_runtime.commands import torch_model_archiver
from flambeau_runtime.worker.context import Row
from flambeau_runtime.worker.handler import load
from ts.torch_handler.base_handler import BaseHandler
from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext

ROWS = [[n / 10 for n in range(10)], [0.5] * 10]

MODEL = """
from torch import nn

class Wine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, features):
        return self.layers(features)
"""
GUIDE_KIND = """
import json, logging
import torch
from ts.torch_handler.base_handler import BaseHandler

log = logging.getLogger(__name__)

class WineHandler(BaseHandler):
    def initialize(self, context):
        folder = context.system_properties.get("model_dir")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = torch.jit.load(f"{folder}/{context.manifest['model']['serializedFile']}")
        self.model.to(self.device).eval()
        with open(f"{folder}/index_to_name.json") as file:
            self.names = json.load(file)
        log.info("ready on %s", self.device)

    def preprocess(self, data):
        samples = []
        for row in data:
            body = row["body"] if isinstance(row, dict) and "body" in row else row
            if isinstance(body, (bytes, bytearray)):
                body = json.loads(body.decode())
            samples.append(torch.tensor(body["features"], dtype=torch.float32))
        return torch.stack(samples).to(self.device)

    def inference(self, data):
        with torch.no_grad():
            return torch.softmax(self.model(data), dim=1)

    def postprocess(self, data):
        return [
            {"predicted_class": int(row.argmax()), "probabilities": row.tolist(),
             "class_name": self.names[str(int(row.argmax()))]}
            for row in data
        ]
"""
EXTENDED = """
import torch
from ts.torch_handler.base_handler import BaseHandler

class Extended(BaseHandler):
    def postprocess(self, data):
        return [row.argmax().item() for row in data]
    def get_insights(self, tensor_data, raw_data, target=0):
        return [{"target": target, "shape": list(tensor_data.shape)}]
    def describe_handle(self):
        return {"classes": 3, "device": str(self.device)}
"""
FUNCTIONS = """
import torch
def tensors(data, context):
    return data and [torch.ones(2, 3) for _ in data]
def greedy(data, context):
    if data:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
"""


def request(value, **more):
    if isinstance(value, bytes):
        return Row("r", b"", "", value, **more)
    return Row("r", b"", "application/json", json.dumps(value).encode(), **more)


class Workshop:
    """A folder with models, and the way from there to a loaded handler."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = {"model.py": MODEL, "guide_kind.py": GUIDE_KIND, "extended.py": EXTENDED}
        self.files |= {"functions.py": FUNCTIONS, "profile.yaml": "handler: {profile: true}\n"}
        self.files |= {"trusting.yaml": "handler: {weights_only: false}\n"}
        self.files |= {"index_to_name.json": '{"0": "a", "1": ["n1", "b"], "2": "c"}'}
        self.files |= {"state.py": "class State(dict):\n    pass\n"}
        for name, text in self.files.items():
            (folder / name).write_text(text)
        sys.path.insert(0, str(folder))
        torch.manual_seed(0)
        wine, state = import_module("model").Wine, import_module("state").State
        self.model = wine().eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(self.model).save(str(folder / "scripted.pt"))
            torch.jit.script(torch.nn.Embedding(5, 2)).save(str(folder / "embedding.pt"))
        torch.save(self.model.state_dict(), folder / "weights.pth")
        torch.save(state(self.model.state_dict()), folder / "odd.pth")
        sys.path.remove(str(folder))
        del sys.modules["model"], sys.modules["state"]

    def expected(self, rows=ROWS):
        with torch.inference_mode():
            return self.model(torch.tensor(rows)).tolist()

    def load(self, name, handler, **flags):
        arguments = ["--model-name", name, "--version", "1.0", "--handler", self._path(handler)]
        for flag, value in flags.items():
            arguments += [f"--{flag.replace('_', '-')}", self._path(value)]
        torch_model_archiver.main([*arguments, "--export-path", str(self.folder / "store")])
        package = asyncio.run(self._open(f"{name}.mar"))
        return load(
            {
                "model": package.model,
                "version": package.version,
                "modelDir": str(package.directory),
                "manifest": dict(package.manifest),
                "handler": package.handler,
                "batchSize": 4,
                "gpuId": None,
            }
        )

    async def _open(self, name):
        store = Store(self.folder / "state", self.folder / "store")
        return await store.open(await store.fetch(name))

    def _path(self, value):
        file = value.partition(":")[0]
        return str(self.folder / value) if (self.folder / file).exists() else value


def run(loaded, *rows):
    return [json.loads(result.body) for result in loaded.run(rows)]


def base_handler(shop, name, **flags):
    loaded = shop.load(name, "base_handler", **flags)
    one, many = ROWS[0], ROWS
    return {
        "expected": shop.expected(),
        "array": run(loaded, request(one)),
        "data": run(loaded, request({"data": one})),
        "features": run(loaded, request({"features": one})),
        "instances": run(loaded, request({"instances": many})),
        "list of objects": run(loaded, request([{"features": row} for row in many])),
        "bytes": run(loaded, request(json.dumps(one).encode())),
        "a batch": run(loaded, request(many[0]), request({"data": many[1]})),
        "mixed": run(loaded, request({"instances": many}), request(one)),
        "whole numbers": run(loaded, request([1] * 10)),
        "whole numbers expected": shop.expected([[1.0] * 10]),
        "metrics": sorted({update["name"] for update in loaded.drain_metrics()}),
        "not numbers": failure(run, loaded, request({"x": 1})),
        "shapes": failure(run, loaded, request([1, 2]), request([1, 2, 3])),
    }


def failure(function, *arguments, **more):
    try:
        return {"answered": repr(function(*arguments, **more))}
    except Exception as error:  # noqa: BLE001  the test judges what it is
        reason = getattr(error, "reason", "")
        return {"kind": type(error).__name__, "message": str(error), "reason": reason}


def guide_kind(shop):
    flags = {"serialized_file": "scripted.pt", "extra_files": "index_to_name.json"}
    loaded = shop.load("guide", "guide_kind.py", **flags)
    objects = [{"features": row} for row in ROWS]
    return {
        "single": run(loaded, request(objects[0])),
        "bytes": run(loaded, request(json.dumps(objects[0]).encode())),
        "list": run(loaded, request(objects)),
        "list again, in a batch": run(loaded, request(objects), request(objects[1])),
    }


def extended(shop):
    flags = {"serialized_file": "scripted.pt", "config_file": "profile.yaml"}
    loaded = shop.load("extended", "extended.py", **flags)
    return {
        "predicted": run(loaded, request(ROWS[0])),
        "explained": run(loaded, request({"data": ROWS[0], "target": 2}, explain=True)),
        "described": run(loaded, request(None, describe=True)),
        "metrics": sorted({update["name"] for update in loaded.drain_metrics()}),
    }


def functions(shop):
    tensors = shop.load("tensors", "functions.py:tensors")
    body = tensors.run([request(1)])[0].body
    greedy = shop.load("greedy", "functions.py:greedy")
    return {
        "tensor": torch.load(io.BytesIO(body)).tolist(),
        "greedy": failure(greedy.run, [request(1)]),
    }


def loading(shop):
    odd = {"model_file": "model.py", "serialized_file": "odd.pth", "extra_files": "state.py"}
    trusting = shop.load("trusting", "base_handler", config_file="trusting.yaml", **odd)
    embedding = shop.load("embedding", "base_handler", serialized_file="embedding.pt")
    return {
        "unsafe weights": failure(shop.load, "odd", "base_handler", **odd),
        "trusted weights": run(trusting, request(ROWS[0])),
        "indices": len(run(embedding, request([0, 4]))[0]),
        "no model": failure(shop.load, "none", "base_handler"),
        "no class": failure(shop.load, "alone", "base_handler", serialized_file="weights.pth"),
    }


def unit_test_of_a_user(shop):
    handler = BaseHandler()
    context = MockContext(model_pt_file="weights.pth", model_dir=str(shop.folder))
    handler.initialize(context)
    tensors = handler.preprocess(ROWS)
    return {
        "steps": handler.postprocess(handler.inference(tensors)),
        "handle": handler.handle([{"data": ROWS[0]}], context),
        "mapping": handler.mapping,
        "device": str(handler.device),
    }


SCENARIOS = {
    "scripted": lambda shop: base_handler(shop, "scripted", serialized_file="scripted.pt"),
    "eager": lambda shop: base_handler(
        shop, "eager", model_file="model.py", serialized_file="weights.pth"
    ),
    "guide kind": guide_kind,
    "extended": extended,
    "functions": functions,
    "loading": loading,
    "unit test": unit_test_of_a_user,
}


def main(folder: Path):
    shop = Workshop(folder)
    found = {}
    for name, scenario in SCENARIOS.items():
        try:
            found[name] = scenario(shop)
        except BaseException:  # noqa: BLE001  one scenario that breaks must not hide the others
            found[name] = {"broke": traceback.format_exc()}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
