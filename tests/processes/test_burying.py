"""The runtime as PID 1 of a container: what is orphaned to it leaves no zombies behind."""

import asyncio
import json
import os
import signal
import subprocess
from contextlib import contextmanager

import pytest

from flambeau_runtime.serving import orphans
from flambeau_runtime.serving.orphans import Orphans
from flambeau_runtime.serving.worker_output import WorkerOutput
from flambeau_runtime.serving.worker_process import (
    Gone,
    WorkerProcess,
    ended_child,
    is_gone,
    watch_exit,
)
from tests.compat.server import LEAVES_A_DAEMON, serving, until, write_archive
from tests.processes import living
from tests.processes.living import exists, is_alive, parent
from tests.processes.subreaper import LAUNCHER

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

DIES = """
import json, os, subprocess

def handle(data, context):
    if data is not None:
        left = subprocess.Popen(["sleep", "600"])
        with open(data[0]["body"]["note"], "w") as note:
            json.dump([os.getpid(), left.pid], note)
        os._exit(7)
"""
IN_ITS_OWN = {"start_new_session": True}


@contextmanager
def orphans_come_to(folder, handler):
    archive = write_archive(
        folder / "store", handler=handler, config="minWorkers: 1\nmaxWorkers: 1\n"
    )
    with serving(folder, "--models", archive, launcher=LAUNCHER) as server:
        until(lambda: server.manage("GET", "/models/echo").status == 200)
        yield server


def test_a_daemon_that_a_handler_left_behind_becomes_no_zombie(tmp_path):
    with orphans_come_to(tmp_path, LEAVES_A_DAEMON) as server:
        daemon = server.predict("echo").json
        until(lambda: parent(daemon) == server.process.pid)
        os.kill(daemon, signal.SIGKILL)
        until(lambda: not exists(daemon))


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param("0", id="of a worker that was forked, or executed before that was possible"),
        pytest.param("1", id="of a worker that was executed"),
    ],
)
def test_the_subprocess_of_a_dead_worker_becomes_no_zombie_and_how_it_died_is_told(
    tmp_path, monkeypatch, devices
):
    monkeypatch.setenv("FLAMBEAU_DEVICES", devices)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")  # beside AMD's nothing is forked
    with orphans_come_to(tmp_path, DIES) as server:
        note = tmp_path / "note"
        body = json.dumps({"note": str(note)}).encode()
        assert server.predict("echo", body, Content_Type="application/json").status >= 500
        for pid in json.loads(note.read_text()):
            until(lambda pid=pid: not exists(pid))
        died = until(lambda: [it for it in server.lines() if it["event"] == "worker died"])
        assert "exit code 7" in died[0]["error"]


# the rules, with this process's own children


def ended(code, **how):
    """Start a program and return it when it has ended and nobody has waited for it."""
    child = subprocess.Popen(["sh", "-c", f"exit {code}"], **how)
    until(lambda: not is_alive(child.pid))
    return child


async def test_the_exit_status_of_a_worker_is_left_to_who_watches_it():
    reading, writing = os.pipe()
    child = ended(7, stdout=writing, **IN_ITS_OWN)
    os.close(writing)
    worker = WorkerProcess(child.pid, reading, None, WorkerOutput("W-1"))
    watch_exit(worker, lambda: ended_child(child))
    burying = Orphans(asyncio.get_running_loop())
    burying.bury()
    assert await worker.end(grace_s=10) == 7
    burying.bury()
    burying.forget()


def test_a_worker_that_was_orphaned_by_its_template_tells_how_it_ended():
    orphan = ended(7, **IN_ITS_OWN)
    assert is_gone(orphan.pid) == Gone(7)
    assert not exists(orphan.pid)
    orphan.wait()


async def test_what_a_thread_runs_in_our_session_is_left_to_the_thread():
    burying = Orphans(asyncio.get_running_loop())
    child = ended(3)
    burying.bury()
    burying.forget()
    assert child.wait() == 3


async def test_a_child_that_nobody_wants_hides_the_others_for_a_while_only(monkeypatch):
    monkeypatch.setattr(orphans, "LOOK_AGAIN_S", 0.01)
    inherited, orphan = ended(0), ended(0, **IN_ITS_OWN)
    with orphans.buried():
        assert exists(inherited.pid)
        assert exists(orphan.pid)
        monkeypatch.setattr(orphans, "PATIENCE_S", 0.0)
        await living.until(lambda: not exists(inherited.pid) and not exists(orphan.pid))
    for child in (inherited, orphan):
        child.wait()
