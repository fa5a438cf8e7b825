"""Small archives whose handlers need no torch: they answer with the version they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tests.load import Answer, Question, expect

ECHO = """
class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        return [{"version": self.version} for _ in data]
"""
NEVER_ANSWERS = """
import os
import pathlib
import time

class Echo:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        pathlib.Path(os.environ["ASKED"]).touch()
        time.sleep(3600)
"""
RAISES_ON_IMPORT = """
print("about to import what is not there")
import a_module_that_nobody_has
"""
RAISES_IN_INITIALIZE = """
class Echo:
    def initialize(self, context):
        print("about to load the weights")
        raise RuntimeError("the weights do not fit")

    def handle(self, data, context):
        return [None for _ in data]
"""
SLOW_TO_LOAD = """
import time

class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]
        time.sleep(6)

    def handle(self, data, context):
        return [{"version": self.version} for _ in data]
"""
BUSY = """
import time

class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        end = time.process_time() + 0.004
        while time.process_time() < end:
            pass
        return [{"version": self.version} for _ in data]
"""
HANDLERS = {
    "slow-2.0": SLOW_TO_LOAD,
    "busy": BUSY,
    "import": RAISES_ON_IMPORT,
    "initialize": RAISES_IN_INITIALIZE,
}


def write_archive(folder: Path, version: str, handler: str = ECHO) -> Path:
    """Write `echo-VERSION.mar`, a model archive with nothing but a handler."""
    file = folder / f"echo-{version}.mar"
    model = {"modelName": "echo", "modelVersion": version, "handler": "handler.py"}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("handler.py", handler)
    return file


def question() -> Question:
    """Return a request whose right answer's word is the version that gave it."""
    return Question("/predictions/echo", b"{}", _version_of)


def _version_of(answer: Answer) -> str:
    expect(answer.status == 200, f"{answer.status} {answer.body[:200]!r}")
    told = json.loads(answer.body)
    expect(set(told) == {"version"}, f"fields {sorted(told)}")
    return str(told["version"])


def manifest(archive: Path, version: str, *, replicas: int = 2, **source: str) -> dict:
    """Return a ModelDeployment `echo` that serves an archive."""
    model = {
        "name": "echo",
        "version": version,
        "source": {"uri": archive.as_uri(), **source},
        "timeouts": {"startup": "30s"},
    }
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "echo"},
        "spec": {"replicas": replicas, "models": [model]},
    }
