"""How many CPUs there are for this process, and for one worker."""

import os

import pytest

from flambeau_runtime.serving.cpu_share import threads_per_worker, usable_cpus


@pytest.mark.parametrize(
    ("cpus", "workers", "threads"),
    [
        pytest.param(8.0, 1, 8, id="one worker gets all"),
        pytest.param(8.0, 3, 2, id="no more threads than cores in sum"),
        pytest.param(2.0, 4, 1, id="never less than one"),
        pytest.param(1.5, 1, 1, id="half a core is no thread"),
        pytest.param(4.0, 0, 4, id="no worker planned counts as one"),
    ],
)
def test_threads_per_worker(cpus, workers, threads):
    assert threads_per_worker(cpus, workers) == threads


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Write a cgroup tree on a machine of 64 cores: membership lines, then files by path."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)

    def written(membership, files):
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return usable_cpus(tmp_path / "root", tmp_path / "membership")

    return written


V1 = "7:memory:/pod/me\n4:cpu,cpuacct:/pod/me\n"


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        pytest.param("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5, id="v2 in a container"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, 64, id="v2 without a limit"),
        pytest.param(
            "0::/pod/me\n",
            {"pod/cpu.max": "200000 100000\n", "pod/me/cpu.max": "max 100000\n"},
            2,
            id="v2 limited by the group above",
        ),
        pytest.param(
            V1,
            {
                "cpu,cpuacct/pod/me/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/pod/me/cpu.cfs_period_us": "100000\n",
            },
            3,
            id="v1",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            2.5,
            id="v1 in a container, where the host's path does not exist",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            64,
            id="v1 without a limit",
        ),
        pytest.param("", {}, 64, id="no cgroups at all"),
    ],
)
def test_usable_cpus(cgroup, membership, files, cpus):
    assert cgroup(membership, files) == cpus


def test_this_machine_says_at_least_one_cpu_or_a_part_of_one():
    assert 0 < usable_cpus() <= (os.cpu_count() or 1)
