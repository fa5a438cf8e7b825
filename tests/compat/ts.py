"""The real `torchserve` command, ours or TorchServe's own, in a folder of its own.

One interface for both targets, so that a row test says once what is true of each.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from tests.compat.mar import write_mar
from tests.compat.server import until
from tests.compat.wire import Answer, Closed, Wire

START_S = 90.0
STOP_S = 40.0
COMMAND_S = 90.0

# A JVM that is there sooner and takes less: the tests ask for behaviour, not for speed.
JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx512m"
# Variables of the tester's own shell that would change what a server does.
NOT_INHERITED = ("PYTHONPATH", "LOG_LOCATION", "METRICS_LOCATION", "TEMP", "TMP", "TMPDIR")
FLAGS = ("--disable-token-auth", "--enable-model-api")
"""What a server is started with unless a test says otherwise: every call is let in."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Target:
    """Whose `torchserve` is asked."""

    name: str
    bin: Path

    @property
    def is_ours(self) -> bool:
        return self.name == "ours"

    def command(self, program: str = "torchserve") -> str:
        """Return the path of one of the target's commands."""
        return str(self.bin / program)


def ours() -> Target:
    """Return the runtime of this checkout."""
    return Target("ours", Path(sys.executable).parent)


def original(environment: Path) -> Target:
    """Return TorchServe 0.12, installed in a virtual environment."""
    target = Target("original", environment.absolute() / "bin")
    if not Path(target.command()).is_file():
        raise FileNotFoundError(
            f"no torchserve in {target.bin}: make compat-original installs it, or name its"
            " virtual environment with --original-venv"
        )
    return target


@dataclass(frozen=True)
class Ports:
    """Free ports, one of each listener."""

    inference: int
    management: int
    metrics: int
    grpc_inference: int
    grpc_management: int

    @classmethod
    def free(cls) -> Ports:
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
        ports = cls(*(it.getsockname()[1] for it in held))
        for it in held:
            it.close()
        return ports

    def config(self) -> dict[str, str]:
        """Return the keys of config.properties that name them."""
        local = "http://127.0.0.1"
        return {
            "inference_address": f"{local}:{self.inference}",
            "management_address": f"{local}:{self.management}",
            "metrics_address": f"{local}:{self.metrics}",
            "grpc_inference_port": str(self.grpc_inference),
            "grpc_management_port": str(self.grpc_management),
        }


@dataclass(frozen=True)
class Place:
    """A folder to run the command in: model store, temp directory, configuration and ports."""

    target: Target
    folder: Path
    ports: Ports = field(default_factory=Ports.free)

    def __post_init__(self) -> None:
        self.store.mkdir(parents=True)
        self.temp.mkdir()
        self.configure()

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def temp(self) -> Path:
        return self.folder / "tmp"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def pid_file(self) -> Path:
        return self.temp / ".model_server.pid"

    @property
    def output(self) -> Path:
        """What a server started with `start` printed, both streams."""
        return self.folder / "output.txt"

    def configure(self, config: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Write config.properties: own ports, metrics on their page, and what is given.

        A key that is given as None is left out.
        """
        given = {**self.ports.config(), "metrics_mode": "prometheus", **(config or {})}
        merged = {key: value for key, value in given.items() if value is not None}
        lines = "".join(f"{key}={value}\n" for key, value in merged.items())
        (self.folder / "config.properties").write_text(lines)
        return merged

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the tester's environment without what would change a server, and what is given."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in NOT_INHERITED and not name.startswith(("TS_", "FLAMBEAU_"))
        }
        temp = str(self.temp)
        return {**kept, "TEMP": temp, "TMPDIR": temp, "JDK_JAVA_OPTIONS": JVM, **(env or {})}

    def run(
        self, *words: str, program: str = "torchserve", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end: `run("--stop")`. A server it leaves ends with the test."""
        return subprocess.run(
            [self.target.command(program), *words],
            cwd=self.folder,
            env=self.environment(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    def launch(self, *words: str, env: Mapping[str, str] | None = None) -> int:
        """Run `torchserve` to its end; what it leaves in the background goes on writing to a file.

        With `run` the test would wait for the end of that, too, which holds its output.
        """
        with self.output.open("wb") as written:
            return subprocess.run(
                [self.target.command(), *words],
                cwd=self.folder,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=COMMAND_S,
            ).returncode

    @contextmanager
    def serving(
        self,
        *flags: str,
        config: Mapping[str, str | None] | None = None,
        env: Mapping[str, str] | None = None,
        default_flags: tuple[str, ...] = FLAGS,
    ) -> Iterator[Server]:
        """Run a server in the foreground for the time of the block, once it listens everywhere."""
        merged = self.configure(config)
        words = ["--start", "--foreground", "--ncs", *default_flags, *flags]
        if "--model-store" not in words:
            words += ["--model-store", "store"]
        with self.output.open("wb") as written:
            process = subprocess.Popen(
                [self.target.command(), *words],
                cwd=self.folder,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(self, process)
        try:
            server.wait_until_it_listens(merged)
            yield server
        finally:
            server.stop()

    def clear(self) -> None:
        """Stop what still runs out of this folder, and remove it."""
        stop_all(_processes_in(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)


def new_place(target: Target) -> Place:
    """Return a new place. Its path is short: a unix socket's name has 107 characters at most."""
    return Place(target, Path(tempfile.mkdtemp(prefix="ts-")).resolve())


def _processes_in(folder: Path) -> list[psutil.Process]:
    """Return every process that works below the folder; workers are in their model's directory."""
    found = []
    for process in psutil.process_iter():
        try:
            below = Path(process.cwd()).is_relative_to(folder)
            if below or process.environ().get("TEMP", "").startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def stop_all(processes: list[psutil.Process]) -> None:
    """Kill processes, and wait until they are gone."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=STOP_S)


@dataclass(frozen=True)
class Server:
    """A running server."""

    place: Place
    process: subprocess.Popen[bytes]

    @property
    def is_ours(self) -> bool:
        return self.place.target.is_ours

    @property
    def ports(self) -> Ports:
        return self.place.ports

    @property
    def output(self) -> str:
        return self.place.output.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The process that has the listeners: TorchServe's command only starts it."""
        if self.is_ours:
            return self.process.pid
        return until(lambda: self.place.pid_file.exists() and int(self.place.pid_file.read_text()))

    def log(self, name: str) -> str:
        """Return a log file's text, as far as it is written."""
        path = self.place.logs / name
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_until_it_listens(self, config: Mapping[str, str]) -> None:
        """Wait for every listener that the configuration names."""
        for role in ("inference", "management", "metrics"):
            if role != "metrics" or config.get("enable_metrics_api") != "false":
                self._wait_for(config[f"{role}_address"])

    def _wait_for(self, address: str) -> None:
        def is_there() -> bool:
            assert self.process.poll() is None, f"it ended:\n{self.output}"
            return _is_listening(address)

        until(is_there, START_S)

    def inference(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one call to the inference port, on a connection of its own."""
        return self.call(self.ports.inference, method, path, body, headers)

    def manage(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Answer:
        """Make one call to the management port; further words are the query string."""
        asked = f"{path}?{urlencode(query)}" if query else path
        return self.call(self.ports.management, method, asked, body, headers)

    def metrics(self, path: str = "/metrics") -> Answer:
        """Read the page of metrics."""
        return self.call(self.ports.metrics, "GET", path)

    def predict(
        self,
        model: str,
        body: bytes | None = b"{}",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask a model (`m` or `m/2.0`); the body is JSON unless the headers say otherwise."""
        named = {"Content-Type": "application/json"} if headers is None else headers
        return self.inference("POST", f"/predictions/{model}", body, named)

    def call(
        self,
        port: int,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        with Wire.to_port(port) as wire:
            return wire.request(method, path, body, headers)

    def wire(self) -> Wire:
        """Open a connection to the inference port, to send bytes by hand."""
        return Wire.to_port(self.ports.inference)

    @contextmanager
    def wires(self, count: int) -> Iterator[list[Wire]]:
        """Open so many connections to the inference port."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.wire()) for _ in range(count)]

    def add_archive(self, handler: str, name: str = "", /, **more: Any) -> str:
        """Write an archive into the model store and return its file name. See `write_mar`."""
        return write_mar(self.place.store, name or new_name(), handler, **more).name

    @contextmanager
    def registered(
        self,
        handler: str,
        name: str = "",
        /,
        *,
        workers: int = 1,
        query: Mapping[str, object] | None = None,
        **more: Any,
    ) -> Iterator[str]:
        """Serve a handler under a name of its own for the time of the block; yield the name.

        Args:
            handler: the text of handler.py.
            name: the model's name, by default a new one.
            workers: how many are started; the model is registered when they are ready.
            query: further parameters of the register call.
            more: see `write_mar`.
        """
        name = name or new_name()
        archive = self.add_archive(handler, name, **more)
        asked = {"url": archive, "initial_workers": workers, "synchronous": "true", **(query or {})}
        answer = self.manage("POST", "/models", **asked)
        assert answer.status == 200, answer.text
        try:
            yield name
        finally:
            self.manage("DELETE", f"/models/{name}")
            (self.place.store / archive).unlink(missing_ok=True)

    def describe(self, model: str) -> dict[str, Any]:
        """Return the description of a model, or of `model/version`."""
        answer = self.manage("GET", f"/models/{model}")
        assert answer.status == 200, answer.text
        return answer.json[0]

    def workers(self, model: str) -> list[dict[str, Any]]:
        return self.describe(model)["workers"]

    def wait_for_model(self, model: str) -> list[dict[str, Any]]:
        """Wait until a start-up model is known, and return its workers as they are then.

        TorchServe listens once it knows them all; this runtime listens first.
        """
        until(lambda: self.manage("GET", f"/models/{model}").status == 200, START_S)
        return self.workers(model)

    def wait_for_workers(self, model: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until exactly so many workers are READY, and no others are there."""

        def ready() -> list[dict[str, Any]] | None:
            workers = self.workers(model)
            states = [it["status"] for it in workers]
            return workers if states == ["READY"] * count else None

        return until(ready, START_S)

    def stop(self) -> None:
        """End the server as its users do, and whatever it started in any case."""
        if self.process.poll() is None:
            started = _children(self.process.pid)
            main = self.process.pid if self.is_ours else self._java(started)
            try:
                os.kill(main, signal.SIGTERM)
                self.process.wait(STOP_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                self.process.kill()
            stop_all(started)
        self.process.wait()

    def _java(self, children: list[psutil.Process]) -> int:
        return children[0].pid if children else self.process.pid


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_listening(address: str) -> bool:
    try:
        if address.startswith("unix:"):
            Wire.to_socket(address.removeprefix("unix:")).close()
        else:
            Wire.to_port(int(address.rpartition(":")[2])).close()
    except (OSError, Closed):
        return False
    return True


def new_name(stem: str = "model") -> str:
    """Return a model name that no other test of this run has."""
    return f"{stem}{next(_numbers)}"
