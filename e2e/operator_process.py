"""The operator as a process of this machine, which reaches a control plane by kubeconfig."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.control_plane import free_port

CHECKOUT = Path(__file__).parents[1]
CRD = CHECKOUT / "crds" / "modeldeployments.serving.flambeau.dev.yaml"
IMAGE = "localhost/flambeau-runtime:dev"


@dataclass(frozen=True, slots=True)
class OperatorProcess:
    """One operator that runs."""

    process: subprocess.Popen
    port: int
    log: Path

    @property
    def pid(self):
        return self.process.pid

    def ask(self, path):
        """Return status and text of one of its own pages; 0 when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name):
        """Return a sample of its metrics, labels included in the name."""
        for line in self.ask("/metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def events(self):
        """Return what it has logged, a dictionary a line."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]

    def stop(self, within_s=15):
        """Ask it to stop and return its exit code."""
        self.process.terminate()
        return self.process.wait(within_s)


@contextlib.contextmanager
def operating(kubeconfig, folder, namespace, *, watch=(), name="operator-0", prefix=(), **settings):
    """Run an operator for the length of a block; its own namespace must exist.

    Args:
        kubeconfig: as whom it comes.
        folder: for its log.
        namespace: for its Lease and its key.
        watch: the namespaces it looks after; none is all.
        name: who it is in the Lease.
        prefix: the words that take a command into the cluster's network.
        settings: more of its environment, in lower case and without the prefix.
    """
    port, log = free_port(), folder / f"{name}.log"
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "FLAMBEAU_NAMESPACE": namespace,
        "FLAMBEAU_WATCH_NAMESPACES": ",".join(watch),
        "FLAMBEAU_RUNTIME_IMAGE": IMAGE,
        "FLAMBEAU_HTTP_PORT": str(port),
        "FLAMBEAU_POD_NAME": name,
        "FLAMBEAU_LOG_LEVEL": "DEBUG",
    } | {f"FLAMBEAU_{key.upper()}": value for key, value in settings.items()}
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "flambeau_operator"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield OperatorProcess(process, port, log)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if sys.exc_info()[0] is not None:
            sys.stderr.write(log.read_text()[-20_000:])


def until(true, within_s=60):
    """Wait for a condition and return what it returned."""
    deadline = time.monotonic() + within_s
    while True:
        if found := true():
            return found
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(0.05)
