"""Section 4.4: the command `torchserve`, its flags, sentences and exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess

import psutil
import pytest

from tests.compat.mar import write_mar
from tests.compat.server import until
from tests.compat.wire import Closed, Wire

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

NOTHING = "def handle(data, context):\n    return data and [1 for _ in data]\n"
STARTED = "Model server started."


def launch(place, *words):
    return place.launch(*words, "--disable-token-auth")


def printed(place):
    return place.output.read_text(errors="replace")


def ping(place):
    with Wire.to_port(place.ports.inference) as wire:
        return wire.request("GET", "/ping").status


def answers(place):
    try:
        return ping(place) == 200
    except (OSError, Closed):
        return False


@pytest.mark.row("4.4-start-stop")
@pytest.mark.parametrize("words", [(), ("--start",)], ids=["without a word", "--start"])
def test_it_starts_in_the_background_and_stops(place, words):
    assert launch(place, *words, "--ncs", "--model-store", "store") == 0
    until(lambda: STARTED in printed(place))
    pid = int(place.pid_file.read_text())
    assert ping(place) == 200
    stopped = place.run("--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "TorchServe has stopped.\n")
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")
    assert not place.pid_file.exists()
    assert not answers(place)


@pytest.mark.row("4.4-start-stop", "4.5-files")
def test_in_the_background_too_the_console_shows_what_is_logged(place):
    launch(place, "--ncs", "--model-store", "store")
    until(lambda: STARTED in printed(place))
    lines = printed(place).splitlines()
    assert lines.count(STARTED) == 1
    where = f"http://127.0.0.1:{place.ports.inference}"
    assert [line for line in lines if line.endswith(f" - Inference API bind to: {where}")]
    assert f"Management address: http://127.0.0.1:{place.ports.management}" in lines
    assert "Default workers per model: " in printed(place)


@pytest.mark.row("4.4-start-stop", "4.4-foreground")
def test_stopped_in_the_foreground_it_says_nothing_when_all_is_over(place):
    launch(place, "--ncs", "--model-store", "store")
    until(lambda: STARTED in printed(place))
    stopped = place.run("--stop", "--foreground")
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert not answers(place)


@pytest.mark.row("4.4-foreground")
def test_in_the_foreground_the_command_lives_as_long_as_the_server(serve):
    server = serve()
    assert server.process.poll() is None
    until(lambda: STARTED in server.output)
    os.kill(server.pid, signal.SIGTERM)
    assert server.process.wait(40) == 0


@pytest.mark.row("4.4-one-instance")
def test_a_second_start_in_the_same_temp_directory_is_refused(serve):
    server = serve()
    again = server.place.run("--start", "--model-store", "store")
    sentence = "TorchServe is already running, please use torchserve --stop to stop TorchServe.\n"
    assert (again.returncode, again.stdout) == (1, sentence)
    assert server.place.run("--start", "--ts-config", "gone").stdout == sentence
    assert ping(server.place) == 200


@pytest.mark.row("4.4-one-instance")
def test_the_pid_file_names_the_server(serve):
    server = serve()
    assert psutil.pid_exists(int(server.place.pid_file.read_text()))


@pytest.mark.row("4.4-stop-nothing")
def test_nothing_to_stop_is_no_error(place):
    stopped = place.run("--stop")
    sentence = "TorchServe is not currently running.\n"
    assert (stopped.returncode, stopped.stdout) == (0, sentence)


@pytest.mark.row("4.4-stop-nothing", "4.4-one-instance")
def test_the_pid_file_of_a_dead_process_is_removed_by_whichever_command_comes_first(place):
    gone = subprocess.Popen(["true"])
    gone.wait()
    place.pid_file.write_text(str(gone.pid))
    stopped = place.run("--stop")
    assert stopped.stdout == "Removing orphan pid file.\nTorchServe is not currently running.\n"
    assert not place.pid_file.exists()


@pytest.mark.row("4.4-one-instance")
def test_the_pid_file_of_another_program_stops_nobody(place):
    place.pid_file.write_text(str(os.getpid()))
    assert place.run("--stop").stdout == "TorchServe is not currently running.\n"


@pytest.mark.row("4.4-version")
@pytest.mark.parametrize("word", ["-v", "--version"])
def test_the_version_is_one_line(place, word):
    said = place.run(word)
    assert (said.returncode, said.stdout) == (0, "TorchServe Version is 0.12.0\n")


STORE = ("--model-store", "store")


@pytest.mark.row("4.4-missing", "4.2-model-store")
@pytest.mark.parametrize(
    ("words", "env", "sentence"),
    [
        pytest.param(["--start"], {}, "Missing mandatory parameter --model-store", id="no store"),
        pytest.param(
            ["--start", "--model-store", "gone"],
            {},
            "--model-store directory not found: gone",
            id="a store that is gone",
        ),
        pytest.param(
            [*STORE, "--ts-config", "gone"],
            {},
            "--ts-config file not found: gone",
            id="a file that is gone",
        ),
        pytest.param(
            [*STORE, "--ts-config", "config.properties"],
            {"TS_CONFIG_FILE": "gone"},
            "--ts-config file not found: gone",
            id="a file that the variable names",
        ),
        pytest.param(
            [*STORE, "--log-config", "gone"],
            {},
            "--log-config file not found: {folder}/gone",
            id="a configuration of logs",
        ),
        pytest.param(
            [*STORE, "--cpp-log-config", "gone"],
            {},
            "--cpp-log-config file not found: {folder}/gone",
            id="a configuration of logs of C++",
        ),
        pytest.param(
            [*STORE, "--workflow-store", "gone"],
            {},
            "--workflow-store directory not found: gone",
            id="a store of workflows",
        ),
        pytest.param(
            STORE,
            {"TEMP": "/gone"},
            "Invalid temp directory: /gone, please check TEMP environment variable.",
            id="a temp directory",
        ),
        pytest.param(
            ["--log-config", "gone", "--ts-config", "gone"],
            {},
            "--log-config file not found: {folder}/gone",
            id="several: the first of them",
        ),
    ],
)
def test_what_is_missing_is_a_sentence_and_exit_status_1(place, words, env, sentence):
    ended = place.run(*words, env=env)
    assert (ended.returncode, ended.stdout) == (1, sentence.format(folder=place.folder) + "\n")


@pytest.mark.row("4.4-missing")
@pytest.mark.parametrize("words", [["--start", "--stop"], ["--nope"]])
def test_words_that_make_no_sense_are_exit_status_2(place, words):
    ended = place.run(*words)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: torchserve ")


@pytest.mark.row("4.4-disable-token-auth", "4.4-enable-model-api", "4.4-no-snapshots")
def test_flags_open_what_is_closed(ts):
    assert not (ts.place.folder / "key_file.json").exists()
    assert ts.manage("GET", "/models").status == 200
    assert ts.manage("POST", "/models", url="gone.mar").status == 404


@pytest.mark.row("4.4-disable-token-auth", "4.4-no-snapshots")
def test_short_names_of_flags(serve):
    flags = ("--dt", "--no-config-snapshots", "--ppath", "/nowhere", "--workflow-store", "store")
    server = serve(*flags, default_flags=())
    assert server.manage("GET", "/models").status == 200


@pytest.mark.row("4.4-workflow-store", "4.4-plugins-path", "4.4-log-config", only="ours")
def test_flags_without_effect_say_so(serve):
    def prepare(place):
        (place.folder / "log4j2.xml").write_text("<Configuration/>")

    flags = ("--plugins-path", "/p", "--workflow-store", "store", "--log-config", "log4j2.xml")
    server = serve(*flags, prepare=prepare)
    for flag in ("--plugins-path", "--workflow-store", "--log-config"):
        assert f"torchserve: warning: {flag} has no effect" in server.output


@pytest.mark.row("4.4-models")
def test_models_of_the_command_line_are_served(serve):
    server = serve(
        "--models",
        "mine=a-1.0.mar",
        config={"default_workers_per_model": "1"},
        prepare=lambda place: write_mar(place.store, "a", NOTHING),
    )
    server.wait_for_workers("mine")
    assert server.predict("mine").body == b"1"
