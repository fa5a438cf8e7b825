"""Serve one of our handlers with mosec, its defaults otherwise: the peer of the benchmark.

Runs in mosec's own environment; torch and the handler's base class come from the project's.

    python mosec_server.py HANDLER.py MODEL_DIR WORKERS BATCH DELAY_MS RAW PROJECT_SITE --port PORT
"""

import importlib.util
import inspect
import os
import site
import sys

CONFIG = "FLAMBEAU_BENCH_MOSEC"
if CONFIG not in os.environ:  # mosec's workers import this file again, without our arguments
    os.environ[CONFIG] = "\n".join(sys.argv[1:8])
    sys.argv = [sys.argv[0], *sys.argv[8:]]
HANDLER, MODEL_DIR, WORKERS, BATCH, DELAY_MS, RAW, SITE = os.environ[CONFIG].split("\n")
site.addsitedir(SITE)

from mosec import Server, Worker  # noqa: E402  the paths above must be set first


class HandlerContext:
    """As much of TorchServe's Context as the benchmarked handlers read."""

    manifest = {"model": {"modelName": "bench", "serializedFile": "model.pt"}}
    system_properties = {"model_dir": MODEL_DIR, "gpu_id": None, "batch_size": int(BATCH)}
    model_yaml_config = {}
    metrics = None

    def get_request_header(self, index, key):
        return None

    def get_all_request_header(self, index):
        return {}


def load_entry_point():
    """Return handle(rows, context) of the handler file, its class initialised."""
    spec = importlib.util.spec_from_file_location("bench_handler", HANDLER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "handle"):
        return module.handle
    (cls,) = [
        c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == "bench_handler"
    ]
    instance = cls()
    instance.initialize(HandlerContext())

    def steps(rows, context):
        return instance.postprocess(instance.inference(instance.preprocess(rows)))

    return steps


class Bench(Worker):
    """One handler behind mosec."""

    def __init__(self):
        if "torch" in sys.modules or MODEL_DIR != "-":
            import torch  # noqa: PLC0415  only where the handler needs it

            torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(WORKERS)))
        self.entry_point = load_entry_point()
        self.context = HandlerContext()

    def deserialize(self, data):
        return data if RAW == "raw" else super().deserialize(data)

    def forward(self, data):
        return self.entry_point([{"body": item} for item in data], self.context)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Bench, num=int(WORKERS), max_batch_size=int(BATCH), max_wait_time=int(DELAY_MS)
    )
    server.run()
