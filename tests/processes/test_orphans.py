"""When the front is killed, nothing of it stays: no idle worker, no hanging one, no template."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.processes.living import gone_in_time

ROOT = Path(__file__).resolve().parents[2]


pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(60),
]


@pytest.mark.parametrize(
    ("fork", "template", "processes"),
    [
        pytest.param("", "lives", 2, id="workers that were executed"),
        pytest.param("plain", "lives", 3, id="workers that were forked, and their template"),
        pytest.param("plain", "dies", 2, id="workers whose template had died before"),
    ],
)
async def test_no_process_outlives_a_front_that_is_killed(tmp_path, fork, template, processes):
    front = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.processes.front", str(tmp_path), fork, template),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    pids = json.loads(await front.stdout.readline())
    front.kill()
    await front.wait()
    assert len(pids) == processes
    assert await gone_in_time(pids)
