"""Handlers for tests: written to a folder, loaded in this process, asked."""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from flambeau_runtime.worker.context import Row
from flambeau_runtime.worker.handler import load


@contextmanager
def process_as_it_was():
    """Undo what loading a handler changes: working directory, import path, modules."""
    directory, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        os.chdir(directory)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if not file.startswith(sys.prefix) and "/src/" not in file:
                del sys.modules[name]


def load_handler(directory, code, handler="handler.py", **message):
    """Load the handler whose file has this code."""
    (directory / "handler.py").write_text(dedent(code))
    message = {
        "model": "m",
        "version": "1.0",
        "modelDir": str(directory),
        "manifest": {"model": {"modelName": "m"}},
        "handler": handler,
        "batchSize": 4,
        "gpuId": None,
        **message,
    }
    return load(message)


def json_row(value, request_id="r", **more):
    return Row(request_id, b"", "application/json", json.dumps(value).encode(), **more)


def answers(loaded, *values):
    """Return what a handler answers to JSON bodies in one batch, decoded."""
    rows = [json_row(value, str(index)) for index, value in enumerate(values)]
    return [json.loads(result.body) for result in loaded.run(rows)]
