"""The `torchserve` command: start in the background, stop, files, sentences."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.compat.server import (
    LEAVES_A_DAEMON,
    call,
    environment_without_torch,
    until,
    write_archive,
)
from tests.processes.living import exists, parent
from tests.processes.subreaper import LAUNCHER

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class TorchServe:
    """The command, in a folder and a temp directory of its own, on ports of its own."""

    folder: Path
    ports: tuple[int, int, int]

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        # Not by pipes: a server in the background keeps them, and the reader would wait for it.
        written = Path(tempfile.mkdtemp(dir=self.folder))
        printed, complained = written / "stdout", written / "stderr"
        with printed.open("w") as stdout, complained.open("w") as stderr:
            done = subprocess.run(
                [sys.executable, "-m", "flambeau_runtime.commands.torchserve", *words],
                cwd=self.folder,
                env=self.environment(**environ),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                check=False,
                timeout=60,
            )
        done.stdout, done.stderr = printed.read_text(), complained.read_text()
        return done

    def environment(self, **environ: str) -> dict[str, str]:
        without_torch = environment_without_torch(self.folder / "without-torch")
        temp = str(self.folder / "temp")
        return {**without_torch, "TEMP": temp, "TMPDIR": temp, **environ}

    def url(self, path: str, role: int = 0) -> str:
        return f"http://127.0.0.1:{self.ports[role]}{path}"

    @property
    def pid_file(self) -> Path:
        return self.folder / "temp" / ".model_server.pid"


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(it.getsockname()[1] for it in held)
    for it in held:
        it.close()
    return ports


def is_listening(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def torchserve(tmp_path):
    ports = free_ports(3)
    (tmp_path / "temp").mkdir()
    write_archive(tmp_path / "store", config="minWorkers: 1\nmaxWorkers: 1\n")
    keys = ("inference", "management", "metrics")
    (tmp_path / "config.properties").write_text(
        "".join(
            f"{key}_address=http://127.0.0.1:{port}\n"
            for key, port in zip(keys, ports, strict=True)
        )
        + "grpc_inference_port=0\ngrpc_management_port=0\n"
        + "batch_sise=2\n"
    )
    command = TorchServe(tmp_path, ports)
    yield command
    command.run("--stop")


START = ("--start", "--model-store", "store", "--models", "classifier=echo-1.0.mar")


def test_the_next_line_of_a_script_finds_it_healthy_and_a_prediction_waits_for_its_worker(
    torchserve,
):
    started = torchserve.run(*START)
    assert started.returncode == 0, started.stderr
    assert call("GET", torchserve.url("/ping")).json == {"status": "Healthy"}
    assert call("POST", torchserve.url("/predictions/classifier"), b"{}").status == 200


def test_stop_waits_until_the_process_and_its_ports_are_gone(torchserve):
    torchserve.run(*START)
    pid = int(torchserve.pid_file.read_text())
    stopped = torchserve.run("--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "TorchServe has stopped.\n")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    for port in torchserve.ports:
        socket.create_server(("127.0.0.1", port)).close()
    assert not torchserve.pid_file.exists()


def test_stop_with_nothing_running_says_so(torchserve):
    stopped = torchserve.run("--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "TorchServe is not currently running.\n")


def test_a_pid_file_of_a_process_that_is_no_server_stops_nobody(torchserve):
    torchserve.pid_file.write_text(str(os.getpid()))
    assert torchserve.run("--stop").stdout == "TorchServe is not currently running.\n"


def test_a_second_start_is_refused(torchserve):
    torchserve.run(*START)
    again = torchserve.run(*START)
    assert again.returncode == 1
    assert again.stdout == (
        "TorchServe is already running, please use torchserve --stop to stop TorchServe.\n"
    )


def test_it_can_be_started_again_after_it_was_killed(torchserve):
    torchserve.run(*START)
    pid = int(torchserve.pid_file.read_text())
    os.kill(pid, signal.SIGKILL)
    until(lambda: torchserve.run(*START).returncode == 0)
    assert int(torchserve.pid_file.read_text()) != pid


def test_the_foreground_ends_with_the_signal_and_shows_its_lines(torchserve):
    process = subprocess.Popen(
        [sys.executable, "-m", "flambeau_runtime.commands.torchserve", *START, "--foreground"],
        cwd=torchserve.folder,
        env=torchserve.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        until(torchserve.pid_file.exists)
        until(lambda: torchserve.pid_file.read_text() == str(process.pid))
        # The pid is written first; a signal is taken once there are answers.
        until(lambda: is_listening(torchserve.ports[0]))
        assert call("GET", torchserve.url("/ping")).status == 200
        process.terminate()
        printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "flambeau_runtime.serve - stopped" in printed


def test_in_the_foreground_as_pid_1_it_leaves_no_zombies(torchserve):
    write_archive(
        torchserve.folder / "store",
        handler=LEAVES_A_DAEMON,
        config="minWorkers: 1\nmaxWorkers: 1\n",
    )
    command = [sys.executable, "-m", "flambeau_runtime.commands.torchserve", *START]
    process = subprocess.Popen(
        [*LAUNCHER, *command, "--foreground"],
        cwd=torchserve.folder,
        env=torchserve.environment(),
    )
    try:
        until(lambda: is_listening(torchserve.ports[1]))
        until(lambda: call("GET", torchserve.url("/models/classifier", role=1)).status == 200)
        daemon = call("POST", torchserve.url("/predictions/classifier"), b"{}").json
        until(lambda: parent(daemon) == process.pid)
        os.kill(daemon, signal.SIGKILL)
        until(lambda: not exists(daemon))
    finally:
        process.terminate()
        process.wait(30)


def test_logs_are_torchserves_files(torchserve):
    torchserve.run(*START)
    assert call("POST", torchserve.url("/predictions/classifier"), b"{}").status == 200
    assert call("GET", torchserve.url("/models?limit=5", role=1)).status == 200
    torchserve.run("--stop")
    logs = torchserve.folder / "logs"
    access = (logs / "access_log.log").read_text()
    assert '"POST /predictions/classifier HTTP/1.1" 200' in access
    assert '"GET /models?limit=5 HTTP/1.1" 200' in access
    assert "did you mean batch_size?" in (logs / "ts_log.log").read_text()


def test_an_unknown_key_is_a_warning_with_the_nearest_known_one(torchserve):
    started = torchserve.run(*START)
    assert "unknown key 'batch_sise' has no effect; did you mean batch_size?" in started.stderr


def test_an_impossible_value_ends_the_start_with_its_fix(torchserve):
    (torchserve.folder / "bad").write_text("batch_size=0\n")
    started = torchserve.run(*START, "--ts-config", "bad")
    assert started.returncode == 1
    said = "bad:1: batch_size=0 cannot be: write a whole number, 1 or more"
    assert started.stdout == f"Invalid configuration: {torchserve.folder}/{said}\n"


def test_a_taken_port_ends_the_start_with_its_key(torchserve):
    with socket.create_server(("127.0.0.1", torchserve.ports[0])):
        started = torchserve.run(*START)
    assert started.returncode == 1
    assert f"port {torchserve.ports[0]} is taken by another process" in started.stdout
    assert "inference_address" in started.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--start"], "Missing mandatory parameter --model-store", id="no store"),
        pytest.param(
            ["--start", "--model-store", "gone"],
            "--model-store directory not found: gone",
            id="a store that is gone",
        ),
    ],
)
def test_what_is_missing_ends_with_a_sentence(torchserve, words, said):
    done = torchserve.run(*words)
    assert (done.returncode, done.stdout) == (1, f"{said}\n")


def test_the_version_is_told_as_scripts_read_it_and_who_it_is_beside_it(torchserve):
    told = torchserve.run("--version")
    assert told.stdout == "TorchServe Version is 0.12.0\n"
    assert told.stderr.startswith("flambeau-runtime 0.")


def test_logs_that_cannot_be_written_end_the_start_with_the_fix(torchserve):
    (torchserve.folder / "logs").write_text("a file where the folder should be: not even root may")
    started = torchserve.run(*START)
    assert started.returncode == 1
    assert "name one with LOG_LOCATION" in started.stdout


def test_keys_that_cannot_be_written_end_the_start_with_the_fix(torchserve):
    (torchserve.folder / ".key_file.json.partial").mkdir()
    started = torchserve.run(*START)
    assert started.returncode == 1
    assert "key_file.json: cannot be written" in started.stdout
    assert "start in a folder of your own" in started.stdout
