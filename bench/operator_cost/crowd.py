"""Many ModelDeployments whose pods pretend: kwok says that they run, `standin` answers for them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e.cluster.access import Cluster
from e2e.cluster.pretend import LABEL, PODS, pretended

from bench.operator_cost.api import Api
from bench.operator_cost.operator_pod import Call
from bench.operator_cost.reaction import is_at_rest

HERE = Path(__file__).parents[2]
API = "/apis/serving.flambeau.dev/v1alpha1"


@dataclass(frozen=True, slots=True)
class Crowd:
    """ModelDeployments of one namespace."""

    api: Api
    namespace: str

    @property
    def path(self) -> str:
        """Where they are listed."""
        return f"{API}/namespaces/{self.namespace}/modeldeployments"

    def create(self, count: int, replicas: int) -> datetime:
        """Make so many, and return when the last of them was asked for."""
        last = datetime.now(UTC)
        for number in range(count):
            last = datetime.now(UTC)
            self.api.create(self.path, _deployment(f"model-{number:03d}", replicas))
        return last

    def until_served(self, within_s: float = 600) -> datetime:
        """Return when all of them were Ready, rolled out and at rest."""
        deadline = time.monotonic() + within_s
        while waiting := [each for each in self.api.get(self.path)["items"] if not _served(each)]:
            if time.monotonic() > deadline:
                names = [each["metadata"]["name"] for each in waiting]
                raise RuntimeError(
                    f"{len(names)} are not served after {within_s:g} s, {names[0]}: "
                    + json.dumps(waiting[0].get("status"))
                )
            time.sleep(0.25)
        return datetime.now(UTC)

    def touch(self) -> None:
        """Change an annotation of each, which means nothing: it is a reason to look at it."""
        for name in sorted(self.names()):
            said = {"metadata": {"annotations": {"bench": datetime.now(UTC).isoformat()}}}
            self.api.patch(f"{self.path}/{name}", said)

    def names(self) -> set[str]:
        """Return their names."""
        return {each["metadata"]["name"] for each in self.api.get(self.path)["items"]}

    def looked_at(self, made: list[Call]) -> datetime | None:
        """Return when a pass had read each of them with all that stands around it, if it has."""
        seen: dict[str, datetime] = {}
        for call in made:
            if (call.namespace, call.verb) != (self.namespace, "get"):
                continue
            if call.resource == "deployments" and call.name not in seen:
                seen[call.name] = call.at
        return max(seen.values()) if self.names() <= seen.keys() else None


@contextlib.contextmanager
def pretending(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Have nodes for pods that pretend, and somebody who answers for these pods."""
    route = ["ip", "route", "add", "local", PODS, "dev", "lo"]
    cluster.inside(*route)
    argv = [sys.executable, "-B", "-m", "bench.operator_cost.standin", str(cluster.kubeconfig)]
    log = folder / "standin.log"
    with (
        pretended(cluster, folder),
        log.open("wb") as output,
        subprocess.Popen(
            [*cluster.prefix, "env", f"PYTHONPATH={HERE}", *argv],
            cwd=HERE,
            env=os.environ,
            stdin=subprocess.PIPE,  # its end is the stand-in's
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as process,
    ):
        try:
            if not process.stdout.readline():
                raise RuntimeError(f"nobody answers for the pods: {log.read_text()}")
            yield
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def _served(body: dict[str, Any]) -> bool:
    status = body.get("status", {})
    ready = {"type": "Ready", "status": "True"}
    return is_at_rest(status, body["metadata"]["generation"]) and any(
        each.items() >= ready.items() for each in status["conditions"]
    )


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    model = {"name": "echo", "version": "1.0", "source": {"uri": "file:///models/echo-1.0.mar"}}
    there = {
        "nodeSelector": {LABEL: "yes"},
        "tolerations": [{"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}],
    }
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"models": [model], "replicas": replicas, "scheduling": there},
    }
