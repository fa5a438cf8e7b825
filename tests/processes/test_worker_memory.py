"""What workers hold: measured, refused beforehand, limited, and named when it was too much."""

import os
import signal

import pytest

from flambeau_runtime.errors import LoadFailed
from flambeau_runtime.serving import memory
from flambeau_runtime.serving.desired import Swap, WarmupRequest
from tests.processes.living import answer, living, until
from tests.processes.swapping import MEBI, archived, inside, watched

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

BALLAST = 60 * MEBI
LEAKS = """
import threading, time
KEPT = []
def grow(mebi):
    for _ in range(int(mebi * 4)):
        KEPT.append(b"x" * (256 * 1024))
def handle(data, context):
    if data is not None:
        for row in data:
            told = row["body"]
            grow(told.get("leak", LEAK))
            if told.get("later"):
                threading.Thread(target=grow, args=(told["later"],)).start()
        time.sleep(0.01)
        return ["fine" for _ in data]
"""
HEAVY = """
import time
KEPT = b"x" * ({mebi} * 1024 * 1024)
time.sleep({loads})
def handle(data, context):
    if data is not None:
        return ["fine" for _ in data]
"""
STARVED = """
def handle(data, context):
    if {when}:
        raise MemoryError
"""


def leaking(folder, each=0.25, **changes):
    return archived(folder, "1.0", LEAKS.replace("LEAK", str(each), 1), **changes)


async def plain_worker_bytes(folder):
    """What a worker holds that has nothing to hold."""
    async with inside(folder / "plain") as within:
        await within.wants(archived(folder, "0.1"))
        (pid,) = within.supervisor.pids()
        return memory.resident_bytes(pid)


async def test_what_a_worker_holds_is_measured(tmp_path):
    async with inside(tmp_path) as within:
        await within.wants(archived(tmp_path, "1.0", ballast=BALLAST))
        reading = await within.meter.read()
        held = within.meter.of(within.catalogue.live("vision", "1.0"))
        assert BALLAST < held.worker_bytes < 3 * BALLAST
        assert reading.room.limit_bytes > reading.room.available_bytes > 0
        assert await within.meter.read() is reading
        assert within.meter.of(None).worker_bytes == 0


async def declared(within, more):
    """A limit that leaves so many bytes beside what is held now."""
    await within.meter.read(0.0)
    pids = [os.getpid(), *within.supervisor.pids()]
    return sum(map(memory.held_bytes, pids)) + more


async def test_a_candidate_without_room_is_refused_in_numbers_and_fits_where_it_takes_turns(
    tmp_path,
):
    old = archived(tmp_path, "1.0", ballast=BALLAST)
    new = archived(tmp_path, "2.0", ballast=BALLAST)
    async with inside(tmp_path, declared_bytes=2**60) as within:
        await within.wants(old)
        within.meter._declared_bytes = await declared(within, BALLAST // 2)
        await within.meter.read(0.0)
        within.want(old, new)
        with pytest.raises(LoadFailed, match=r"1 worker.s. of \d+ MiB need .* are free") as refused:
            await within.converger.settled("vision", "2.0", 30)
        assert refused.value.reason == "InsufficientMemory"
        assert len(within.supervisor.pids()) == 1
        assert await within.says() == "1.0"
        within.want(new, swap=Swap.RECREATE)
        await until(lambda: within.seen("2.0").phase == "Ready")
        assert await within.says() == "2.0"


async def test_a_candidate_with_room_is_loaded(tmp_path):
    old = archived(tmp_path, "1.0", ballast=BALLAST)
    async with inside(tmp_path, declared_bytes=2**60) as within:
        await within.wants(old)
        within.meter._declared_bytes = await declared(within, 3 * BALLAST)
        await within.wants(old, archived(tmp_path, "2.0", ballast=BALLAST))


async def test_a_worker_that_leaks_is_replaced_and_every_request_answered(tmp_path):
    limit = await plain_worker_bytes(tmp_path) + 60 * MEBI
    async with inside(tmp_path) as within:
        await within.wants(leaking(tmp_path, worker_memory_bytes=limit))
        async with watched(within, clients=1) as watch:
            await until(lambda: within.seen("1.0").workers.restarts >= 2)
            assert within.seen("1.0").phase == "Ready"
        failure = within.seen("1.0").last_failure
        assert failure.reason == "WorkerMemoryExceeded"
        assert f"its limit is {limit / MEBI:.0f} MiB" in failure.message
        assert watch.failed == []
        assert watch.most_processes == 2
        assert within.seen("1.0").workers.failed == 0


async def test_a_worker_far_beyond_its_limit_is_killed_at_once_and_the_model_lives_on(tmp_path):
    limit = await plain_worker_bytes(tmp_path) + 30 * MEBI
    async with inside(tmp_path) as within:
        await within.wants(leaking(tmp_path, each=0, worker_memory_bytes=limit))
        for count in (1, 2, 3):
            await until(lambda: within.ready("1.0") == 1)
            assert await within.says(body=b'{"later": 200}') == "fine"
            await until(lambda n=count: within.seen("1.0").workers.restarts >= n)
            assert within.seen("1.0").last_failure.reason == "WorkerMemoryExceeded"
        await until(lambda: within.ready("1.0") == 1)
        assert within.seen("1.0").phase == "Ready"
        assert await within.says(body=b"{}") == "fine"


@pytest.mark.parametrize(
    "warmup",
    [
        pytest.param((), id="while it loads"),
        pytest.param(
            (WarmupRequest('{"leak": 60}'), WarmupRequest("{}", repeat=600)), id="warm-up"
        ),
    ],
)
async def test_who_exceeds_the_limit_before_it_is_warm_has_failed_to_load(tmp_path, warmup):
    limit = await plain_worker_bytes(tmp_path) + 40 * MEBI
    source = LEAKS.replace("LEAK", "0", 1) if warmup else HEAVY.format(mebi=60, loads=20)
    spec = archived(tmp_path, "2.0", source, worker_memory_bytes=limit, warmup=warmup)
    old = archived(tmp_path, "1.0")
    async with inside(tmp_path) as within:
        await within.wants(old)
        within.want(old, spec)
        with pytest.raises(LoadFailed) as failed:
            await within.converger.settled("vision", "2.0", 30)
        assert failed.value.reason == "WorkerMemoryExceeded"
        assert await within.says() == "1.0"


@pytest.mark.parametrize(
    "when",
    [
        pytest.param("data is None", id="while it loads"),
        pytest.param("data is not None", id="while it is warmed up"),
    ],
)
async def test_a_handler_that_finds_no_memory_says_so(tmp_path, when):
    async with inside(tmp_path) as within:
        warmup = (WarmupRequest("{}"),)
        within.want(archived(tmp_path, "1.0", STARVED.format(when=when), warmup=warmup))
        with pytest.raises(LoadFailed) as failed:
            await within.converger.settled("vision", "1.0", 30)
        assert failed.value.reason == "OutOfMemory"


async def test_a_worker_killed_by_the_kernel_for_memory_is_told_from_one_killed_by_hand(
    tmp_path, monkeypatch
):
    kills = 0
    monkeypatch.setattr(memory, "oom_kills", lambda: kills)
    async with living(tmp_path) as (live, supervisor):
        for reason, counted in (("WorkerDied", 0), ("OutOfMemory", 1), ("WorkerDied", 0)):
            await live.until_ready(1)
            await answer(live)
            kills += counted
            os.kill(supervisor.pids()[0], signal.SIGKILL)
            await until(lambda: live.last_failure() is not None)
            assert live.last_failure().reason == reason
            await until(lambda: live.last_failure() is None)


async def test_a_leak_under_a_bound_of_one_worker_never_needs_two(tmp_path):
    limit = await plain_worker_bytes(tmp_path) + 60 * MEBI
    async with inside(tmp_path, declared_bytes=2**60) as within:
        spec = leaking(tmp_path, worker_memory_bytes=limit)
        await within.wants(spec)
        within.meter._declared_bytes = await declared(within, 1 * MEBI)
        async with watched(within, clients=1) as watch:
            await until(lambda: within.seen("1.0").workers.restarts >= 2)
        assert watch.most_processes == 1
        assert watch.failed == []
