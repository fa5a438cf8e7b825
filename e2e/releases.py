"""Releases to put to the test: handlers that misbehave, sources that take their time, steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import archives as archive_files

from e2e.cluster.stock import RESTRICTED
from e2e.flambeau import TINY, Tenant, archives_of, echo

# Sleeps for as long as a request asks for.
SLEEPY = """
import time

class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        for row in data:
            body = row.get("body")
            time.sleep(body.get("sleep", 0) if isinstance(body, dict) else 0)
        return [{"version": self.version} for _ in data]
"""
# Its first request, the warm-up, takes five seconds.
SLOW_TO_WARM = """
import time

class Echo:
    cold = True

    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        if self.cold:
            self.cold = False
            time.sleep(5)
        return [{"version": self.version} for _ in data]
"""
# Three requests of ten fail.
ERRS = """
class Echo:
    asked = 0

    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        self.asked += 1
        if self.asked % 10 in (3, 6, 9):
            raise ValueError(f"version {self.version} cannot do this one")
        return [{"version": self.version} for _ in data]
"""
# Holds so many MiB for good.
LARGE = """
class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]
        self.weights = bytearray(MIB << 20)
        for page in range(0, len(self.weights), 4096):
            self.weights[page] = 1

    def handle(self, data, context):
        return [{"version": self.version} for _ in data]
"""
FETCHING, VERIFYING = "slow", "big"
# A pod that leaves has as long for it as by default: half of a shorter time may be too little for
# clients on a busy machine to hear of it.
DISRUPTION = {"drainDelay": "10s", "terminationGracePeriod": "45s"}
# Serves the ConfigMap `archives`: below /slow with five seconds in the middle of each file, below
# /big with so much in it that reading it takes a moment.
STORE = """
import http.server, io, os, pathlib, shutil, time, zipfile

class Store(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        how, name = self.path.strip("/").split("/")
        content = pathlib.Path("/archives", name).read_bytes()
        if how == "big":
            grown = io.BytesIO(content)
            with zipfile.ZipFile(grown, "a") as archive:
                archive.writestr("noise", os.urandom(1 << 20) * 100)
            content = grown.getvalue()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        time.sleep(5 if how == "slow" else 0)
        self.wfile.write(content[half:])

http.server.ThreadingHTTPServer(("", 8000), Store).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version on its way.

    Args:
        version: its name.
        handler: its code.
        way: how the store sends its archive; from a ConfigMap if empty.
        hot: what spec.rollout.hot says of it, beside what all have.
        slow_request_s: how long a request takes that the version before it has still to answer.
    """

    version: str
    handler: str = archive_files.ECHO
    way: str = ""
    hot: Mapping[str, Any] | None = None
    slow_request_s: int = 0

    def manifest(self, tenant: Tenant, replicas: int = 2, **spec: Any) -> dict[str, Any]:
        """Return the ModelDeployment that asks for it."""
        hot = {"steps": steps((50, "1s"), (100, "0s")), **(self.hot or {})}
        spec = {"rollout": {"hot": hot}, "disruption": DISRUPTION, **spec}
        body = echo(self.version, workers=2, replicas=replicas, **spec)
        model = body["spec"]["models"][0]
        model["warmup"] = {"requests": [{"body": "{}", "contentType": "application/json"}]}
        if self.way:
            host = f"store.{tenant.namespace}.svc:8000"
            model["source"] = {"uri": f"http://{host}/{self.way}/echo-{self.version}.mar"}
        return body

    def archive(self, folder: Path) -> Path:
        """Write its archive."""
        return archive_files.write_archive(folder, self.version, self.handler)


def large(mib: int) -> str:
    """Return a handler that holds so much memory."""
    return LARGE.replace("MIB", str(mib))


def steps(*each: tuple[int, str]) -> list[dict[str, Any]]:
    """Return spec.rollout.hot.steps: of each its weight and its pause."""
    return [{"weight": weight, "pause": pause} for weight, pause in each]


def archives(folder: Path, *candidates: Candidate) -> dict[str, Any]:
    """Return the ConfigMap `archives` with those of the candidates."""
    files = [each.archive(folder) for each in candidates]
    return archives_of("archives", {file.name: file for file in files})


def store() -> tuple[dict[str, Any], ...]:
    """Return a pod that sends the ConfigMap `archives` in its own ways, and its Service."""
    labels = {"app": "store"}
    mounts = {"/archives": "archives", "/program": "store"}
    server = {
        "name": "store",
        "image": TINY,
        "command": ["python3", "-u", "/program/store.py"],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": name, "mountPath": path} for path, name in mounts.items()],
    }
    spec = {
        "containers": [server],
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": name, "configMap": {"name": name}} for name in mounts.values()],
    }
    metadata = {"name": "store", "labels": labels}
    return (
        _object("ConfigMap", data={"store.py": STORE}),
        {**_object("Pod", spec=spec), "metadata": metadata},
        _object("Service", spec={"selector": labels, "ports": [{"port": 8000}]}),
    )


def _object(kind: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "store"}, **content}


def versions_in(tenant: Tenant, pod: str) -> set[str]:
    """Return which versions a pod has, as the runtime's own API tells."""
    url = "http://127.0.0.1:8081/models/echo/all"
    ask = f"import urllib.request as r; print(r.urlopen({url!r}).read().decode())"
    told = json.loads(tenant.kubectl("exec", pod, "--", "python3", "-c", ask))
    return {each["modelVersion"] for each in told}


def committed_version(tenant: Tenant) -> str:
    """Return which version a pod boots that starts now."""
    data = tenant.get("echo-models", "configmap")["data"]
    return str(json.loads(data["models.json"])["document"]["models"][0]["default"])
