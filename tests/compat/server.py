"""A real runtime process on free ports, and plain HTTP to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 30.0
STOP_S = 30.0

ECHO = """
import os

def handle(data, context):
    if data is None:
        return None
    if context.get_request_header(0, "describe") == "True":
        return [{"says": "I echo"}]
    context.metrics.add_counter("Seen", len(data))
    return [{"pid": os.getpid(), "body": str(row.get("body"))} for row in data]
"""
BROKEN = """
import a_module_that_nobody_has
"""
LEAVES_A_DAEMON = """
import subprocess

DAEMON = ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"]

def handle(data, context):
    if data is not None:
        return [int(subprocess.check_output(DAEMON)) for _ in data]
"""
"""Answers with its process id."""


def write_archive(
    store: Path, name: str = "echo", version: str = "1.0", handler: str = ECHO, config: str = ""
) -> str:
    """Write `NAME-VERSION.mar` into the store and return its file name."""
    store.mkdir(parents=True, exist_ok=True)
    model = {"modelName": name, "modelVersion": version, "handler": "handler.py"}
    if config:
        model["configFile"] = "model-config.yaml"
    with zipfile.ZipFile(store / f"{name}-{version}.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": model}))
        archive.writestr("handler.py", handler)
        if config:
            archive.writestr("model-config.yaml", config)
    return f"{name}-{version}.mar"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(method: str, url: str, body: bytes | None = None, **headers: str) -> Answer:
    """Make one HTTP call; an error status is an answer too."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=body, method=method, headers=named)  # noqa: S310  our own server
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  our own server
            return Answer(answer.status, answer.read(), _lowered(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(), _lowered(error.headers))


def _lowered(headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def until(reached: Callable[[], Any], limit_s: float = 30.0) -> Any:
    """Ask again and again until the answer is true; return it."""
    deadline = time.monotonic() + limit_s
    while not (answer := reached()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return answer


def environment_without_torch(folder: Path) -> dict[str, str]:
    """Return an environment where torch is not installed: processes are there in no time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "torch.py").write_text("raise ImportError('torch is not installed')")
    return {**os.environ, "PYTHONPATH": str(folder)}


@dataclass(frozen=True)
class Server:
    """A running runtime."""

    process: subprocess.Popen[bytes]
    inference: str
    management: str
    metrics: str
    output: Path
    grpc_inference: str = ""
    grpc_management: str = ""

    def manage(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        return call(method, self.management + path, body, **headers)

    def predict(self, path: str, body: bytes = b"{}", **headers: str) -> Answer:
        return call("POST", f"{self.inference}/predictions/{path}", body, **headers)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]


@contextmanager
def serving(
    folder: Path,
    *flags: str,
    addresses: tuple[str, ...] = (),
    torch: bool = False,
    launcher: tuple[str, ...] = (),
) -> Iterator[Server]:
    """Run `flambeau-runtime` on free ports; its model store is FOLDER/store.

    A launcher is a command line that becomes the runtime.
    """
    (folder / "store").mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    anywhere = addresses or tuple(
        word
        for role in ("inference", "management", "metrics")
        for word in (f"--{role}-address", "127.0.0.1:0")
    )
    command = [*launcher, sys.executable, "-m", "flambeau_runtime"]
    command += ["--model-store", str(folder / "store")]
    output = folder / "output.jsonl"
    with output.open("wb") as written:
        process = subprocess.Popen(
            [*command, "--state-dir", str(state), *anywhere, *flags],
            stdout=written,
            stderr=written,
            env=None if torch else environment_without_torch(folder / "without-torch"),
        )
    try:
        until(lambda: (state / "listening.json").exists() or process.poll() is not None, START_S)
        assert process.poll() is None, output.read_text()
        urls = json.loads((state / "listening.json").read_text())
        del urls["pid"]
        yield Server(process, output=output, **urls)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()
