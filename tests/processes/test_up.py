"""`flambeau up` as a program: files in, processes served, edits followed, nothing left behind."""

import asyncio
import os
import pty
import signal
import socket
import sys

import pytest
import yaml

from tests import archives
from tests.load import Connection
from tests.up_command import UpCommand, condition, is_rolled_out, is_running

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
STATUS_HANGUP = pytest.param(signal.SIGHUP, id="a closed terminal (SIGHUP)")
ENDINGS = [
    pytest.param(signal.SIGINT, id="Ctrl-C (SIGINT)"),
    pytest.param(signal.SIGTERM, id="a polite end (SIGTERM)"),
    STATUS_HANGUP,
]


@pytest.fixture
def workplace(tmp_path):
    """A folder with archives 1.0 and 2.0, a manifest of 1.0, and a place for temporary files."""
    for version in ("1.0", "2.0"):
        archives.write_archive(tmp_path, version)
    (tmp_path / "tmp").mkdir()
    write(tmp_path, "1.0")
    return tmp_path


def write(folder, version, name="echo", env=None, **spec):
    body = archives.manifest(folder / f"echo-{version}.mar", version)
    body["metadata"]["name"] = name
    body["spec"].update(spec)
    (model,) = body["spec"]["models"]
    model["source"]["uri"] = f"echo-{version}.mar"
    model["handler"] = {"env": env or {}}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(body), encoding="utf-8")
    return file


def up(folder, *names, options=()):
    files = [folder / f"{name}.yaml" for name in names or ["echo"]]
    return UpCommand(files, *options, temp_dir=folder / "tmp")


async def served(command, version="1.0"):
    return await command.until(lambda each: is_rolled_out(each, version), f"{version} serves")


async def ask(url):
    connection = Connection(url)
    try:
        return archives.question().check(await connection.ask(archives.question(), last=True))
    finally:
        connection.close()


async def test_an_edit_of_the_file_changes_the_version_in_the_running_processes(workplace):
    async with up(workplace) as command:
        url = (await served(command))["url"]
        pids, first = command.pods, await ask(url)
        write(workplace, "2.0")
        await served(command, "2.0")
        assert (first, await ask(url)) == ("1.0", "2.0")
        assert (command.pods, len(pids)) == (pids, 2)


async def test_a_broken_edit_is_told_with_its_place_and_the_old_spec_stays(workplace):
    async with up(workplace) as command:
        url = (await served(command))["url"]
        file = workplace / "echo.yaml"
        good = file.read_text()
        file.write_text(good.replace("replicas:", "replica:"))
        await command.until(lambda _: command.last["problems"], "the problem is told")
        (problem,) = command.last["problems"]
        assert f"{file}:" in problem
        assert "spec.replica" in problem
        assert await ask(url) == "1.0"
        file.write_text(good)
        await command.until(lambda _: not command.last["problems"], "the problem is forgotten")


async def test_a_first_version_that_cannot_load_is_told_and_a_corrected_file_serves(workplace):
    archives.write_archive(workplace, "1.0", archives.RAISES_ON_IMPORT)
    async with up(workplace) as command:
        failed = await command.until(
            lambda each: condition(each, "Ready").get("reason") == "HandlerImportFailed",
            "it failed",
        )
        assert "a_module_that_nobody_has" in condition(failed, "Ready")["message"]
        write(workplace, "2.0")
        assert await ask((await served(command, "2.0"))["url"]) == "2.0"


async def test_the_number_of_replicas_follows_the_file(workplace):
    async with up(workplace) as command:
        await served(command)
        write(workplace, "1.0", replicas=1)
        await command.until(lambda each: len(each["pods"]) == 1, "one pod is left")
        write(workplace, "1.0", replicas=3)
        await command.until(lambda each: each["status"]["readyReplicas"] == 3, "three are ready")


async def test_several_files_get_an_address_each_and_one_that_is_taken_out_stops(workplace):
    write(workplace, "2.0", name="other", replicas=1)
    both = workplace / "echo.yaml"
    both.write_text(f"{both.read_text()}---\n{write(workplace, '1.0', 'third').read_text()}")
    async with up(workplace, "echo", "other") as command:
        await command.until(
            lambda _: all(map(is_ready, command.last["deployments"])), "all three are ready"
        )
        urls = [each["url"] for each in command.last["deployments"]]
        assert [await ask(url) for url in urls] == ["1.0", "1.0", "2.0"]
        both.write_text(both.read_text().partition("---")[0])
        await command.until(lambda _: len(command.last["deployments"]) == 2, "two are left")


def is_ready(deployment):
    return condition(deployment, "Ready").get("status") == "True"


@pytest.mark.parametrize("number", ENDINGS)
async def test_it_ends_cleanly_and_leaves_no_process_port_or_file(workplace, number):
    async with up(workplace) as command:
        url = (await served(command))["url"]
        assert await command.stop(number) == 0
    assert command.left_processes() == []
    with pytest.raises(ConnectionRefusedError):
        await ask(url)
    assert list((workplace / "tmp").rglob("*")) == []
    assert command.errors == []


async def test_even_killed_it_leaves_no_process_and_no_file(workplace):
    async with up(workplace) as command:
        await served(command)
        assert await command.stop(signal.SIGKILL) == -signal.SIGKILL
    temporary = workplace / "tmp"
    async with asyncio.timeout(20):
        while command.left_processes() or any(temporary.iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # no process is left that could tell us


async def test_a_second_ctrl_c_does_not_wait_for_requests_in_flight(workplace):
    archives.write_archive(workplace, "1.0", archives.NEVER_ANSWERS)
    asked = workplace / "asked"
    write(workplace, "1.0", env={"ASKED": str(asked)})
    async with up(workplace) as command:
        await command.until(is_ready, "it is ready")
        hanging = asyncio.create_task(ask(command.deployment["url"]))
        while not asked.exists():  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.02)
        command.process.send_signal(signal.SIGINT)
        await command.until(lambda _: command.last["kind"] == "stopping", "it is stopping")
        assert await command.stop(signal.SIGINT) == 130
        with pytest.raises((OSError, EOFError)):
            await hanging
    async with asyncio.timeout(20):
        while command.left_processes():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_folder_for_the_state_keeps_the_logs(workplace):
    async with up(workplace, options=("--state-dir", str(workplace / "state"))) as command:
        await served(command)
        await command.stop()
        logs = [pod["logFile"] for pod in command.deployment["pods"]]
    assert all(os.path.getsize(log) for log in logs)  # noqa: PTH202, ASYNC240  small and local


async def test_a_wrong_file_is_refused_before_anything_starts(workplace):
    write(workplace, "1.0", replica=2)
    async with up(workplace) as command:
        assert await command.process.wait() == 1
        await command.stop()
    assert any("spec.replica" in line for line in command.errors)
    assert command.last == {}


async def test_a_port_that_is_taken_is_named(workplace):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with up(workplace, options=("--port", port)) as command:
            assert await command.process.wait() == 1
            await command.stop()
    assert any(f"port {port}" in line for line in command.errors)
    assert command.left_processes() == []


async def test_a_terminal_gets_a_table_with_pids_and_a_command_to_try(workplace):
    shown = await on_a_terminal(workplace / "echo.yaml", until="AllModelsServing")
    for part in ("NAME", "READY", "REASON", "echo@1.0", "PID", "curl -H", "Ctrl-C"):
        assert part in shown


async def on_a_terminal(file, until, within_s=60):
    """Run the command on a terminal until it shows something, and return all it has shown."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flambeau_operator.cli", "up", str(file), "--port", "0"),
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "COLUMNS": "160", "LINES": "60", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    shown = ""
    try:
        async with asyncio.timeout(within_s):
            while until not in shown:
                shown += (await asyncio.to_thread(os.read, ours, 65536)).decode(errors="replace")
    finally:
        process.terminate()
        drained = asyncio.create_task(asyncio.to_thread(read_to_the_end, ours))
        await process.wait()
        await drained
        os.close(ours)
    assert not is_running(process.pid)
    return shown


def read_to_the_end(terminal):
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return  # Linux ends a terminal with EIO
