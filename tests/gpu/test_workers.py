"""Worker processes with a CUDA context: forked or executed, dying, and coming back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flambeau_runtime.errors import RuntimeFault
from flambeau_runtime.serving.desired import Timeouts
from tests.gpu.facts import MEBI, SAYS_WHERE, asked, device_used
from tests.processes.living import answer, living, until

pytestmark = [pytest.mark.gpu, pytest.mark.process, pytest.mark.timeout(240)]

READY_S = 120.0
PATIENT = Timeouts(response_s=60, startup_s=READY_S)
USES_CUDA = """
import sys
if "flambeau_runtime.worker.template" in sys.orig_argv:
    import torch
    torch.cuda.init()
"""


def private_mib(pid):
    """Return the memory of a process that no other shares."""
    return round(psutil.Process(pid).memory_full_info().uss / MEBI)


async def settled(supervisor, born):
    """Wait until the process that workers are born of has done its own work."""
    if born == "torch":
        await until(lambda: supervisor.template_ready, READY_S)


@pytest.mark.parametrize(
    "born", [pytest.param("torch", id="forked"), pytest.param(None, id="executed")]
)
async def test_a_second_worker_has_a_cuda_context_of_its_own(tmp_path, born):
    async with living(tmp_path, SAYS_WHERE, devices=(0,), fork=born, timeouts=PATIENT) as (
        live,
        supervisor,
    ):
        await settled(supervisor, born)
        await live.until_ready(1, READY_S)
        began, used = time.perf_counter(), device_used()
        live.resize(2)
        await live.until_ready(2, READY_S)
        took_s, added = time.perf_counter() - began, device_used() - used
        told = {}
        while len(told) < 2:
            told |= {it["pid"]: it for it in await asyncio.gather(*(answer(live) for _ in "ab"))}
        parent = supervisor.template_pid if born else os.getpid()
        assert {(it["parent"], it["device"], it["sum"]) for it in told.values()} == {
            (parent, "cuda:0", 1024.0)
        }
        second = max(told, key=lambda pid: psutil.Process(pid).create_time())
        print(  # noqa: T201  a fact for docs/gpus.md
            f"FACT second worker, {'forked' if born else 'executed'}: {took_s:.2f} s, "
            f"{private_mib(second)} MiB private, {added / MEBI:.0f} MiB on the device; "
            f"nvidia-smi by process: {asked('--query-compute-apps=pid,used_memory')}"
        )
        if born:
            assert open_devices(supervisor.template_pid) == []
            assert psutil.Process(supervisor.template_pid).num_threads() == 1


def open_devices(pid):
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if str(descriptor.readlink()).startswith("/dev/nvidia"):
                found.append(descriptor)
    return found


async def test_a_template_that_has_begun_to_use_cuda_is_not_forked_from(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(USES_CUDA)
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), inherited])))
    async with living(tmp_path, SAYS_WHERE, devices=(0,), fork="torch", timeouts=PATIENT) as (
        live,
        supervisor,
    ):
        await live.until_ready(1, READY_S)
        assert open_devices(supervisor.template_pid)
        told = await answer(live)
        assert (told["parent"], told["sum"]) == (os.getpid(), 1024.0)


@pytest.mark.parametrize(
    "born", [pytest.param("torch", id="forked"), pytest.param(None, id="executed")]
)
async def test_a_worker_killed_on_the_gpu_is_replaced_and_leaves_no_memory_there(tmp_path, born):
    async with living(tmp_path, SAYS_WHERE, devices=(0,), fork=born, timeouts=PATIENT) as (
        live,
        supervisor,
    ):
        await settled(supervisor, born)
        await live.until_ready(1, READY_S)
        used, [pid] = device_used(), supervisor.pids()
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pid not in supervisor.pids())
        await live.until_ready(1, READY_S)
        print(f"FACT a killed worker was replaced after {time.perf_counter() - began:.2f} s")  # noqa: T201
        told = await answer(live)
        assert (told["pid"] != pid, told["sum"]) == (True, 1024.0)
        await until(lambda: abs(device_used() - used) < 128 * MEBI)


async def test_a_cuda_error_that_spoils_the_context_ends_in_a_new_worker(tmp_path):
    source = """
        import os, torch
        TABLE = torch.arange(4, device="cuda")
        def handle(data, context):
            if data is not None:
                rows = [row["body"].get("at", 0) for row in data]
                places = [torch.tensor([at], device="cuda") for at in rows]
                return [[os.getpid(), TABLE[place].item()] for place in places]
    """
    async with living(tmp_path, source, devices=(0,), fork="torch", timeouts=PATIENT) as (live, _):
        await live.until_ready(1, READY_S)
        first, value = await answer(live, b'{"at": 3}')
        assert value == 3
        with pytest.raises(RuntimeFault, match=r"CUDA|device-side"):
            await answer(live, b'{"at": 9999}')
        began, again = time.perf_counter(), first
        async with asyncio.timeout(30):
            while again == first:
                with suppress(RuntimeFault):
                    again, value = await answer(live, b'{"at": 2}')
        print(f"FACT a spoiled worker was replaced after {time.perf_counter() - began:.2f} s")  # noqa: T201
        assert value == 2
        assert sum(place.restarts for place in live.places) == 1
