"""The limit of a case: its handler in a loop, in one process, full batches, no server around it."""

import importlib.util
import inspect
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path


def rows_per_second(facts: dict) -> float:
    """Call the handler on full batches, decoding bodies as a server must, and count rows."""
    with tempfile.TemporaryDirectory() as model_dir:
        entry = load(facts, model_dir)
        body = facts["body"].encode("latin-1")
        is_json = facts["content_type"] == "application/json"
        rows = 0
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < facts["seconds"]:
            batch = [{"body": json.loads(body) if is_json else body} for _ in range(facts["batch"])]
            answers = entry(batch)
            for answer in answers:
                json.dumps(answer)
            rows += len(answers)
        return rows / spent


def load(facts: dict, model_dir: str):
    """Return the handler's way from rows to answers."""
    for path in filter(None, [facts["serialized"], *facts["extra"]]):
        name = "model.pt" if path == facts["serialized"] else Path(path).name
        shutil.copy(path, Path(model_dir) / name)
    spec = importlib.util.spec_from_file_location("bench_handler", facts["handler"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "handle"):
        return lambda rows: module.handle(rows, None)
    classes = inspect.getmembers(module, inspect.isclass)
    (cls,) = [c for _, c in classes if c.__module__ == "bench_handler"]
    import torch  # noqa: PLC0415  only handlers of a class need it

    torch.set_num_threads(os.cpu_count() or 1)
    instance = cls()
    instance.initialize(BareContext(model_dir))
    return lambda rows: instance.postprocess(instance.inference(instance.preprocess(rows)))


class BareContext:
    """As much of TorchServe's Context as `initialize` reads."""

    def __init__(self, model_dir: str) -> None:
        self.manifest = {"model": {"modelName": "bench", "serializedFile": "model.pt"}}
        self.system_properties = {"model_dir": model_dir, "gpu_id": None, "batch_size": 1}
        self.model_yaml_config: dict = {}
        self.metrics = None
        self.model_name = "bench"


if __name__ == "__main__":
    print(rows_per_second(json.loads(Path(sys.argv[1]).read_text())))
