"""Flambeau as its users have it: images on the nodes, installed by helm, asked with kubectl."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault
from e2e.load import Question, ask
from e2e.waiting import until

CHART = Path(__file__).parents[1] / "charts" / "flambeau"
SYSTEM = "flambeau-system"
RELEASE = "flambeau"
OPERATOR = f"deployment/{RELEASE}"
TINY = "localhost/flambeau-runtime:dev"
TORCH = "localhost/flambeau-runtime:dev-torch"


@dataclass(frozen=True, slots=True)
class Flambeau:
    """A cluster on which the chart is installed."""

    cluster: Cluster

    def install(self, *values: str, runtime: str = TINY, wait: bool = True) -> str:
        """Install or upgrade the chart; values as helm's --set takes them."""
        tag = runtime.rpartition(":")[2]
        sets = [f"--set={value}" for value in (f"runtime.image.tag={tag}", *values)]
        words = ["upgrade", "--install", RELEASE, str(CHART), f"--namespace={SYSTEM}"]
        words += ["--create-namespace", "--timeout=120s", *(["--wait"] if wait else [])]
        return self.cluster.helm(*words, *sets, timeout_s=150)

    def uninstall(self) -> str:
        """Uninstall the chart."""
        return self.cluster.helm("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")

    @contextlib.contextmanager
    def without_operator(self) -> Iterator[None]:
        """Have no operator for the length of a block."""
        self.scale_operator(0)
        try:
            yield
        finally:
            self.scale_operator(1)

    def scale_operator(self, replicas: int) -> None:
        """Run so many operators, and return when it is so."""
        self.cluster.run("-n", SYSTEM, "scale", OPERATOR, f"--replicas={replicas}")
        until("the operators are there", lambda: len(self.operators()) == replicas)
        if replicas:
            wait = ["rollout", "status", OPERATOR, "--timeout=90s"]
            self.cluster.run("-n", SYSTEM, *wait, timeout_s=100)

    def operators(self) -> list[Mapping[str, Any]]:
        """Return the operator's pods."""
        chosen = "app.kubernetes.io/name=flambeau,app.kubernetes.io/component=operator"
        return self.items(SYSTEM, "pods", chosen)

    def items(self, namespace: str, kind: str, chosen: str = "") -> list[Mapping[str, Any]]:
        """Return objects of a kind."""
        labels = [f"--selector={chosen}"] if chosen else []
        found = self.cluster.run("-n", namespace, "get", kind, "-o", "json", *labels)
        return json.loads(found)["items"]


@dataclass(slots=True)
class Watching:
    """What a watch has printed, once it has ended."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One namespace of a user, with what a user does in it."""

    flambeau: Flambeau
    namespace: str

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self.flambeau.cluster

    def kubectl(self, *words: str, given: str | None = None, timeout_s: float = 60) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.run("-n", self.namespace, *words, given=given, timeout_s=timeout_s)

    def apply(self, *objects: Mapping[str, Any]) -> str:
        """Apply manifests as `kubectl apply` does."""
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self.kubectl("apply", "-f", "-", given=json.dumps(body))

    def apply_server_side(self, *objects: Mapping[str, Any]) -> str:
        """Apply manifests as GitOps tools do: fields that are not named any more go away."""
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        words = ["apply", "--server-side", "--field-manager=user", "--force-conflicts"]
        return self.kubectl(*words, "-f", "-", given=json.dumps(body))

    def ask(self, url: str, body: str) -> str:
        """Ask once from a pod of the namespace and return the answer."""
        return ask(self.cluster, self.namespace, Question(url, body.encode()))

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[Watching]:
        """Have `kubectl get mdep -w` run for the length of a block."""
        argv = [str(self.cluster.kubectl), f"--kubeconfig={self.cluster.kubeconfig}"]
        argv += ["-n", self.namespace, "get", "mdep", name, "-w"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            watched = Watching()
            try:
                yield watched
            finally:
                process.terminate()
                watched.text = process.stdout.read() if process.stdout else ""

    def get(self, name: str = "echo", kind: str = "modeldeployment") -> dict[str, Any]:
        """Return one object."""
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def wait(self, condition: str, name: str = "echo", within_s: float = 90) -> None:
        """Wait as a pipeline does: `kubectl wait --for=condition=…`."""
        words = [f"--for=condition={condition}", f"--timeout={within_s:g}s"]
        try:
            self.kubectl("wait", f"modeldeployment/{name}", *words, timeout_s=within_s + 10)
        except ClusterFault as fault:
            raise ClusterFault(f"{fault}\n{self.situation(name)}") from fault

    def situation(self, name: str) -> str:
        """Tell how everything stands, for whoever reads why a test failed."""
        status = json.dumps(self.get(name).get("status"), indent=1)
        around = self.kubectl("get", "deployments,pods,events", "-o", "wide")
        said = self.cluster.run("-n", SYSTEM, "logs", OPERATOR, "--tail=40")
        return f"{status}\n{around}\n{said}"

    def condition(self, type_: str, name: str = "echo") -> Mapping[str, Any]:
        """Return a condition of a ModelDeployment; empty when there is none."""
        conditions = self.get(name).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == type_), {})

    def until_phase(self, phase: str, name: str = "echo", within_s: float = 90) -> dict[str, Any]:
        """Return the status once the first model is in a phase."""

        def look() -> dict[str, Any] | None:
            status = self.get(name)["status"]
            return status if status["models"] and status["models"][0]["phase"] == phase else None

        return until(f"phase {phase}", look, within_s, every_s=0.05)

    def pods(self, name: str = "echo") -> list[Mapping[str, Any]]:
        """Return the pods of a ModelDeployment that are not leaving, by name."""
        found = self.flambeau.items(self.namespace, "pods", f"serving.flambeau.dev/name={name}")
        staying = (each for each in found if "deletionTimestamp" not in each["metadata"])
        return sorted(staying, key=lambda each: each["metadata"]["name"])

    def generation_seen(self, name: str = "echo", within_s: float = 30) -> None:
        """Return once the operator has seen the newest spec."""

        def look() -> bool:
            found = self.get(name)
            return found["status"]["observedGeneration"] == found["metadata"]["generation"]

        until("the operator has seen the spec", look, within_s)

    def url(self, name: str = "echo") -> str:
        """Return the address of the predictions, as a pod of the cluster asks for it."""
        return f"http://{name}.{self.namespace}.svc"


def identity(pods: list[Mapping[str, Any]]) -> set[tuple[str, str, int]]:
    """Return what must not change while nothing restarts: name, uid and restarts of each pod."""
    return {
        (
            pod["metadata"]["name"],
            pod["metadata"]["uid"],
            sum(each["restartCount"] for each in pod["status"].get("containerStatuses", [])),
        )
        for pod in pods
    }


def archives_of(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return a ConfigMap that holds archives, by key."""
    data = {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}
    about = {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "binaryData": data}


def echo(version: str = "1.0", *, workers: int = 2, **spec: Any) -> dict[str, Any]:
    """Return a ModelDeployment that serves a tiny handler from the ConfigMap `archives`."""
    model = {
        "name": "echo",
        "version": version,
        "source": {"uri": f"configmap://archives/echo-{version}.mar"},
        "workers": {"min": workers},
        "timeouts": {"response": "20s", "startup": "30s"},
    }
    own = {
        "replicas": 2,
        "configMaps": [{"name": "archives"}],
        "models": [model],
        "disruption": {"drainDelay": "3s", "terminationGracePeriod": "30s"},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
    }
    merged = {key: value for key, value in {**own, **spec}.items() if value is not None}
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "echo"},
        "spec": merged,
    }


def wanted_images() -> bool:
    """Tell whether images have to be built and given to the nodes; not on a named cluster."""
    return os.environ.get("FLAMBEAU_CLUSTER", "") in {"", "kind", "built"}
