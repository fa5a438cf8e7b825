"""Local mode over the real runtime: the lives of pods that a stand-in might live too easily."""

import asyncio
import os
import signal

import psutil
import pytest

from flambeau_operator.session import LocalSession
from tests import archives
from tests.load import Load
from tests.processes.test_local_cluster import condition, pids, rolled_out, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


def manifest(folder, version="1.0", replicas=2, config=None):
    body = archives.manifest(folder / f"echo-{version}.mar", version, replicas=replicas)
    body["spec"]["runtime"] = {"config": config or {}}
    body["spec"]["disruption"] = {"drainDelay": "3s"}
    return body


@pytest.fixture
def folder(tmp_path):
    for version in ("1.0", "2.0"):
        archives.write_archive(tmp_path, version)
    return tmp_path


def asked(number):
    del number
    return archives.question()


def descendants(deployment):
    return [
        child
        for pid in pids(deployment).values()
        for child in psutil.Process(pid).children(recursive=True)
    ]


async def test_a_life_under_load_fails_no_request(folder):
    """Version, workers, scale and template change one after the other, and none is noticed."""
    async with LocalSession(base_port=0) as session:
        await session.apply(manifest(folder))
        first = await until(session, rolled_out, 90)
        async with Load(first.url, asked) as load:
            await load.more(50)
            await session.apply(manifest(folder, "2.0"))
            swapped = await until(session, rolled_out, 60)
            await load.more(50)
            for replicas in (3, 1, 2):
                await session.apply(manifest(folder, "2.0", replicas))
                await until(session, rolled_out, 60)
                await load.more(50)
            await session.apply(manifest(folder, "2.0", config={"job_queue_size": "77"}))
            replaced = await until(
                session,
                lambda each: rolled_out(each) and pids(each).keys().isdisjoint(pids(first)),
                90,
            )
            await load.more(50)
        processes = descendants(replaced)
    assert load.failed == []
    assert set(load.words) == {"1.0", "2.0"}
    assert pids(swapped) == pids(first)
    assert processes
    assert not any(process.is_running() for process in processes)


async def test_a_killed_runtime_boots_what_was_committed_and_serves_again(folder):
    async with LocalSession(base_port=0) as session:
        await session.apply(manifest(folder, replicas=1))
        await until(session, rolled_out, 90)
        await session.apply(manifest(folder, "2.0", replicas=1))
        before = await until(session, rolled_out, 60)
        workers = descendants(before)
        os.kill(before.pods[0].pid, signal.SIGKILL)
        await until(session, lambda each: each.pods[0].restarts == 1 and rolled_out(each), 60)
        async with Load(before.url, asked) as load:
            await load.more(20)
        assert condition(session.observe()[0], "Ready") == "True"
    assert load.failed == []
    assert set(load.words) == {"2.0"}
    async with asyncio.timeout(10):
        while any(worker.is_running() for worker in workers):  # noqa: ASYNC110  not our children
            await asyncio.sleep(0.02)
