"""Start and stop what is measured: our runtime, and mosec in its own environment, same handlers."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
MOSEC_PYTHON = HERE / ".venv-mosec" / "bin" / "python"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Case:
    """One handler, one way to serve it, one request."""

    name: str
    handler: Path
    workers: int
    batch: int
    delay_ms: int
    body: bytes
    content_type: str = "application/json"
    serialized: Path | None = None
    extra: tuple[Path, ...] = ()
    clients: tuple[int, ...] = (1, 32, 128)
    expected: dict[int, float] = field(default_factory=dict)


@dataclass
class Server:
    """A running server: where it answers, and the processes that its work costs."""

    name: str
    url: str
    process: subprocess.Popen

    def tree(self) -> list[psutil.Process]:
        """Return the process and all that it started."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> dict[int, float]:
        """Return CPU seconds used so far, by pid."""
        used = {}
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        return used

    def stop(self) -> None:
        """End the server and wait for all its processes."""
        processes = self.tree() if self.process.poll() is None else []
        self.process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=15)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


def archive(case: Case) -> Path:
    """Build the case's .mar with the project's own archiver and return its path."""
    BUILD.mkdir(exist_ok=True)
    config = BUILD / f"{case.name}.yaml"
    config.write_text(
        json.dumps(
            {
                "minWorkers": case.workers,
                "maxWorkers": case.workers,
                "batchSize": case.batch,
                "maxBatchDelay": case.delay_ms,
                "jobQueueSize": 1000,
            }
        )
    )
    command = [BIN / "torch-model-archiver", "--model-name", case.name, "--version", "1.0"]
    command += ["--handler", case.handler, "--config-file", config]
    command += ["--export-path", BUILD, "--force"]
    if case.serialized:
        command += ["--serialized-file", case.serialized]
    if case.extra:
        command += ["--extra-files", ",".join(map(str, case.extra))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return BUILD / f"{case.name}.mar"


def prepare_before(ref: str) -> Path:
    """Check a commit out below `bench/build`, with an environment of its own; return its Python."""
    found = ["git", "rev-parse", "--verify", f"{ref}^{{commit}}"]
    commit = subprocess.run(found, cwd=HERE, check=True, capture_output=True, text=True).stdout
    checkout = BUILD / f"before-{commit[:12]}"
    if not checkout.exists():
        BUILD.mkdir(exist_ok=True)
        added = ["git", "worktree", "add", "--detach", checkout, commit.strip()]
        subprocess.run(added, cwd=HERE, check=True)
    subprocess.run(["make", "-C", checkout, "setup"], check=True, stdout=subprocess.DEVNULL)
    return checkout / ".venv" / "bin" / "python"


def start_flambeau(case: Case, name: str = "flambeau", python: str | Path = "") -> Server:
    """Start flambeau-runtime with the case's archive and wait for its first right answer.

    `python` is that of another checkout's environment, by default this one's.
    """
    state = BUILD / f"state-{case.name}-{name}"
    state.mkdir(parents=True, exist_ok=True)
    listening = state / "listening.json"
    listening.unlink(missing_ok=True)
    settings = BUILD / f"{case.name}.properties"
    settings.write_text("job_queue_size=1000\nmax_request_size=10000000\n")
    log = (BUILD / f"{case.name}-{name}.log").open("wb")
    process = subprocess.Popen(
        [
            *(python or sys.executable, "-m", "flambeau_runtime", "--state-dir", state, "--models"),
            *(f"{case.name}={archive(case)}", "--ts-config", settings),
            *("--inference-address", "127.0.0.1:0", "--management-address", "127.0.0.1:0"),
            *("--metrics-address", "127.0.0.1:0"),
        ],
        stdout=log,
        stderr=log,
    )
    await_true(listening.exists, process)
    base = json.loads(listening.read_text())["inference"]
    server = Server(name, f"{base}/predictions/{case.name}", process)
    await_true(lambda: answers(server.url, case), process)
    return server


def start_mosec(case: Case) -> Server:
    """Start mosec with the case's handler and wait for its first right answer."""
    ensure_mosec()
    BUILD.mkdir(exist_ok=True)
    port = 9700 + os.getpid() % 200
    model_dir = "-"
    if case.serialized:
        model_dir = BUILD / f"model-{case.name}"
        model_dir.mkdir(parents=True, exist_ok=True)
        (model_dir / "model.pt").write_bytes(case.serialized.read_bytes())
        for path in case.extra:
            (model_dir / path.name).write_bytes(path.read_bytes())
    raw = "json" if case.content_type == "application/json" else "raw"
    log = (BUILD / f"{case.name}-mosec.log").open("wb")
    process = subprocess.Popen(
        [
            *(MOSEC_PYTHON, HERE / "mosec_server.py", case.handler, model_dir),
            *(str(case.workers), str(case.batch), str(case.delay_ms), raw),
            sysconfig.get_path("purelib"),
            *("--port", str(port), "--address", "127.0.0.1", "--log-level", "warning"),
        ],
        stdout=log,
        stderr=log,
    )
    server = Server("mosec", f"http://127.0.0.1:{port}/inference", process)
    await_true(lambda: answers(server.url, case), process)
    return server


def ensure_mosec() -> None:
    """Install mosec from PyPI into an environment of its own, once."""
    if not MOSEC_PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", MOSEC_PYTHON.parent.parent], check=True)
        subprocess.run(
            [MOSEC_PYTHON, "-m", "pip", "install", "--quiet", "mosec==0.9.8"], check=True
        )


def answers(url: str, case: Case) -> bool:
    """Tell whether the server answers the case's request with 200."""
    headers = {"content-type": case.content_type}
    request = urllib.request.Request(url, data=case.body, headers=headers)  # noqa: S310  loopback
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310  loopback
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def await_true(condition, process: subprocess.Popen, timeout_s: float = 60.0) -> None:
    """Poll `condition`; fail when the server ends or the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not come up: see the logs in {BUILD}")
        time.sleep(0.05)
