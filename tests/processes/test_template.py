"""Workers forked from a template: fast, each its own, independent of the template's life."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from flambeau_runtime.errors import WorkerLost
from flambeau_runtime.serving.supervisor import Supervisor
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry
from flambeau_runtime.worker.template import open_device
from tests.processes.living import (
    ECHO,
    SPEC,
    answer,
    gone_in_time,
    is_alive,
    living,
    package,
    parent,
    threads,
    until,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(60),
]

TELLS = """
    import os, random, sys
    import torch, numpy

    def handle(data, context):
        if data is not None:
            draws = [random.random(), float(numpy.random.rand()), float(torch.rand(1))]
            return [{"pid": os.getpid(), "draws": draws, "threads": torch.get_num_threads(),
                     "cwd": os.getcwd()} for _ in data]
"""

DIES = """
    import os

    def handle(data, context):
        if data is not None:
            print("about to go")
            for row in data:
                if row["body"].get("exit") is not None:
                    os._exit(row["body"]["exit"])
            return [os.getpid() for _ in data]
"""

SEES = """
    import os

    def handle(data, context):
        if data is not None:
            return [os.environ["CUDA_VISIBLE_DEVICES"] for _ in data]
"""

# Of a machine without accelerators: the template is told that what it holds open is one.
USES = """
import pathlib, sys
if "flambeau_runtime.worker.template" in sys.orig_argv:
    pathlib.Path.readlink = lambda self: pathlib.Path("/dev/nvidia0")
"""


def has_torch(pid):
    """Whether a process has loaded torch's libraries."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


async def test_a_second_worker_of_a_torch_model_is_forked_and_there_at_once(tmp_path):
    async with living(tmp_path, TELLS, fork="torch") as (live, supervisor):
        await live.until_ready(1)
        template = supervisor.template_pid
        assert threads(template) == 1
        began = asyncio.get_running_loop().time()
        live.resize(2)
        await live.until_ready(2)
        # 0.04 s on an idle machine; importing torch alone takes 2 s.
        assert asyncio.get_running_loop().time() - began < 1
        assert {parent(pid) for pid in supervisor.pids()} == {template}
        told = {}
        while len(told) < 2:
            several = await asyncio.gather(*(answer(live) for _ in range(4)))
            told |= {one["pid"]: one for one in several}
        one, other = told.values()
        assert not set(one["draws"]) & set(other["draws"])
        assert one["cwd"] == other["cwd"] == str(tmp_path / "model")
        assert min(one["threads"], other["threads"]) == max(1, (os.cpu_count() or 1) // 2)


async def test_a_model_of_another_library_is_forked_without_torch(tmp_path):
    async with living(tmp_path, fork="torch") as (live, supervisor):
        await until(lambda: supervisor.template_ready)
        live.resize(2)
        await live.until_ready(2)
        worker = supervisor.pids()[1]
        assert parent(worker) == supervisor.template_pid
        assert not any(map(has_torch, [supervisor.template_pid, worker]))


async def test_a_model_of_another_library_does_not_wait_for_the_torch_of_another_model(tmp_path):
    async with living(tmp_path, TELLS, fork="torch") as (live, supervisor):
        opened = package(tmp_path / "other", ECHO)
        other = supervisor.add(replace(SPEC, model="other"), opened)
        assert parent(await answer(other)) == os.getpid()  # the template is importing
        await live.until_ready(1)
        assert has_torch(supervisor.template_pid)


async def test_torch_is_there_beforehand_when_no_model_is_known_for_a_while(monkeypatch):
    monkeypatch.setattr("flambeau_runtime.serving.supervisor.PRELOAD_ANYWAY_S", 0.0)
    async with Supervisor(Settings(), Telemetry()) as supervisor:
        await until(lambda: has_torch(supervisor.template_pid))


async def test_a_template_that_died_comes_back_with_the_torch_that_is_wanted(tmp_path):
    async with living(tmp_path, TELLS, fork="torch") as (live, supervisor):
        await live.until_ready(1)
        os.kill(supervisor.template_pid, signal.SIGKILL)
        await until(lambda: supervisor.template_pid is None)
        await until(lambda: supervisor.template_ready, 60)
        assert has_torch(supervisor.template_pid)


async def test_without_torch_the_template_just_goes_without(tmp_path):
    async with living(tmp_path, fork="plain") as (live, supervisor):
        assert parent(await answer(live)) == supervisor.template_pid


async def test_how_a_forked_worker_ended_is_known_too(tmp_path):
    async with living(tmp_path, DIES, fork="plain", retry_on_crash=False) as (live, _):
        await live.until_ready(1)
        with pytest.raises(WorkerLost):
            await answer(live, b'{"exit": 5}')
        await until(lambda: live.last_failure() is not None)
        assert "exit code 5" in live.last_failure().message
        assert live.last_failure().log_tail == "about to go"


async def test_a_version_with_an_env_of_its_own_is_not_forked(tmp_path):
    async with living(tmp_path, fork="plain", env={"LANG": "C"}) as (live, supervisor):
        assert parent(await answer(live)) == os.getpid() != supervisor.template_pid


async def test_beside_accelerators_that_are_not_nvidias_nothing_is_forked(tmp_path, monkeypatch):
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")
    async with living(tmp_path, fork="plain", devices=(0,)) as (live, supervisor):
        assert parent(await answer(live)) == os.getpid()
        assert supervisor.template_pid is None


async def test_a_forked_worker_sees_its_own_accelerator_only(tmp_path):
    async with living(tmp_path, SEES, fork="plain", devices=(0, 1), workers=2) as (
        live,
        supervisor,
    ):
        await live.until_ready(2)
        assert {parent(pid) for pid in supervisor.pids()} == {supervisor.template_pid}
        told = set()
        async with asyncio.timeout(20):
            while told != {0, 1}:
                told |= set(await asyncio.gather(*(answer(live) for _ in range(4))))


def test_an_accelerator_that_is_in_use_is_noticed(tmp_path):
    (tmp_path / "0").symlink_to("/dev/null")
    (tmp_path / "1").symlink_to("socket:[7]")
    assert open_device(tmp_path) is None
    (tmp_path / "2").symlink_to("/dev/nvidiactl")
    assert open_device(tmp_path) == "/dev/nvidiactl"


async def test_a_template_that_uses_an_accelerator_is_not_forked_from(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(USES)
    async with living(tmp_path, fork="plain", devices=(0,)) as (live, supervisor):
        assert parent(await answer(live)) == os.getpid()
        assert supervisor.template_ready


async def test_workers_outlive_their_template_and_the_next_is_executed_meanwhile(tmp_path):
    async with living(tmp_path, fork="plain") as (live, supervisor):
        worker, template = await answer(live), supervisor.template_pid
        os.kill(template, signal.SIGKILL)
        await until(lambda: supervisor.template_pid is None)
        assert await answer(live) == worker
        live.resize(2)
        await live.until_ready(2)
        assert parent(supervisor.pids()[1]) == os.getpid()
        await until(lambda: supervisor.template_ready)
        live.resize(3)
        await live.until_ready(3)
        assert parent(supervisor.pids()[2]) == supervisor.template_pid


async def test_the_death_of_a_worker_whose_template_is_gone_is_still_seen(tmp_path):
    async with living(tmp_path, fork="plain") as (live, supervisor):
        worker = await answer(live)
        os.kill(supervisor.template_pid, signal.SIGKILL)
        await until(lambda: not is_alive(supervisor.template_pid or worker + 10**6))
        os.kill(worker, signal.SIGKILL)
        assert await answer(live) != worker


async def test_a_template_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("flambeau_runtime.serving.template_link.ANSWER_S", 0.3)
    async with living(tmp_path, fork="plain") as (live, supervisor):
        await live.until_ready(1)
        template = supervisor.template_pid
        os.kill(template, signal.SIGSTOP)
        live.resize(2)
        await live.until_ready(2)
        assert parent(supervisor.pids()[1]) == os.getpid()
        assert await gone_in_time([template])


async def test_leaving_takes_the_template_along(tmp_path):
    async with living(tmp_path, fork="plain") as (live, supervisor):
        pids = [await answer(live), supervisor.template_pid]
    assert await gone_in_time(pids)
