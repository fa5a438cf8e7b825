"""How much memory there is, read from what a kernel writes."""

import os
from types import SimpleNamespace

import pytest

from flambeau_runtime.serving.device_memory import DeviceMemory, parse_pairs
from flambeau_runtime.serving.memory import (
    PAGE_BYTES,
    Places,
    Room,
    held_bytes,
    machine_room,
    measure_room,
    oom_kills,
    resident_bytes,
)
from flambeau_runtime.serving.memory_meter import Held, MemoryMeter, Need

MEMINFO = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    800 kB\n"
KIBI = 1024
V1 = "7:memory:/pod/me\n4:cpu:/\n0::/\n"
NONE = str(2**63 - PAGE_BYTES)


@pytest.fixture
def kernel(tmp_path):
    """Write a machine of 1000 KiB: membership lines, files of groups, files of processes."""

    def written(membership="", groups=(), processes=()):
        (tmp_path / "membership").write_text(membership)
        files = {f"root/{name}": text for name, text in dict(groups).items()}
        files |= {f"proc/{name}": text for name, text in dict(processes).items()}
        for name, text in {"proc/meminfo": MEMINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Places(tmp_path / "root", tmp_path / "membership", tmp_path / "proc")

    return written


@pytest.mark.parametrize(
    ("membership", "groups", "room"),
    [
        pytest.param(
            "0::/\n", {}, Room(1000 * KIBI, 800 * KIBI), id="without a limit: the machine"
        ),
        pytest.param(
            "0::/\n",
            {
                "memory.max": "500000\n",
                "memory.current": "300000\n",
                "memory.stat": "anon 1\ninactive_file 50000\n",
            },
            Room(500000, 250000),
            id="v2: what the page cache holds is free",
        ),
        pytest.param(
            "0::/\n",
            {"memory.max": "max\n", "memory.current": "300000\n"},
            Room(1000 * KIBI, 800 * KIBI),
            id="v2 without a limit",
        ),
        pytest.param(
            "0::/pod/me\n",
            {
                "pod/memory.max": "400000\n",
                "pod/memory.current": "100000\n",
                "pod/me/memory.max": "900000\n",
                "pod/me/memory.current": "80000\n",
            },
            Room(400000, 300000),
            id="v2 limited by the group above",
        ),
        pytest.param(
            V1,
            {
                "memory/pod/me/memory.limit_in_bytes": "500000\n",
                "memory/pod/me/memory.usage_in_bytes": "300000\n",
                "memory/pod/me/memory.stat": "inactive_file 1\ntotal_inactive_file 20000\n",
                "memory/memory.limit_in_bytes": f"{NONE}\n",
                "memory/memory.usage_in_bytes": "900000\n",
            },
            Room(500000, 220000),
            id="v1",
        ),
        pytest.param(
            "0::/\n",
            {"memory.max": "2000000000\n", "memory.current": "0\n"},
            Room(1000 * KIBI, 800 * KIBI),
            id="a limit beyond the machine is none",
        ),
        pytest.param(
            "0::/\n",
            {"memory.max": "1000\n", "memory.current": "5000\n"},
            Room(1000, 0),
            id="nothing is left: never less than none",
        ),
    ],
)
def test_room(kernel, membership, groups, room):
    assert measure_room(None, (), kernel(membership, groups)) == room


def test_a_declared_limit_counts_what_the_processes_hold_and_shared_pages_once(kernel):
    places = kernel(
        processes={
            "1/smaps_rollup": "aa-bb ---p [rollup]\nRss:   90 kB\nPss:     50 kB\n",
            "2/statm": "99 10 3\n",
        }
    )
    room = measure_room(200 * KIBI, (1, 2, 3), places)
    assert room == Room(200 * KIBI, 150 * KIBI - 10 * PAGE_BYTES)


async def test_a_worker_is_measured_once_it_serves_however_young_the_last_reading_is(kernel):
    places = kernel(processes={"7/smaps_rollup": "Pss: 100 kB\n"})
    serving = []
    supervisor = SimpleNamespace(
        pids=lambda: (7,), serving_pids=lambda: tuple(serving), template_pid=None, lives=()
    )
    live = SimpleNamespace(places=[SimpleNamespace(pid=7, devices=())])
    meter = MemoryMeter(supervisor, 500 * KIBI, places=places)

    half_loaded = await meter.read(max_age_s=60)
    assert meter.of(live) == Held(0)
    kernel(processes={"7/smaps_rollup": "Pss: 300 kB\n"})
    assert await meter.read(max_age_s=60) is half_loaded
    serving.append(7)
    assert (await meter.read(max_age_s=60)).room.available_bytes == 200 * KIBI
    assert meter.of(live) == Held(300 * KIBI)


def test_a_machine_that_tells_nothing_has_no_known_room(tmp_path):
    assert machine_room(tmp_path) == Room()


def test_this_process_holds_something_and_shares_some_of_it():
    assert 0 < held_bytes(os.getpid()) <= resident_bytes(os.getpid()) * 1.05
    assert held_bytes(2**30) == resident_bytes(None) == 0


@pytest.mark.parametrize(
    ("membership", "groups", "kills"),
    [
        pytest.param("0::/pod\n", {"pod/memory.events": "oom 3\noom_kill 2\n"}, 2, id="v2"),
        pytest.param(
            V1, {"memory/pod/me/memory.oom_control": "under_oom 0\noom_kill 4\n"}, 4, id="v1"
        ),
        pytest.param("", {}, 0, id="nobody tells"),
    ],
)
def test_oom_kills(kernel, membership, groups, kills):
    assert oom_kills(kernel(membership, groups)) == kills


def test_pairs_of_numbers_are_read_and_what_the_driver_hides_is_passed_by():
    assert list(parse_pairs("12, 345\n7, [N/A]\n\nNo devices were found\n9,1\n")) == [
        (12, 345),
        (9, 1),
    ]


def test_a_worker_holds_its_own_figure_or_else_its_share_of_the_device():
    devices = DeviceMemory(used={0: 900}, by_pid={7: 500})
    assert devices.held_by(7, 0, 3) == 500
    assert devices.held_by(8, 0, 3) == 300
    assert devices.held_by(8, 1, 0) == 0


@pytest.mark.parametrize(
    ("need", "missing"),
    [
        pytest.param(Need(2, 400, 800), False, id="what just fits"),
        pytest.param(Need(2, 401, 800), True, id="what does not"),
        pytest.param(Need(2, 401, None), False, id="an unknown room forbids nothing"),
        pytest.param(Need(2, 0, 0), False, id="nor does an unknown size"),
    ],
)
def test_shortage(need, missing):
    assert need.is_short is missing
