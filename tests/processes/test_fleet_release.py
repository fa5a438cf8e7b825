"""A fleet of runtimes changes its version in three loads: one pod, one half, the other half."""

import asyncio
import json
import sys
from functools import partial

import pytest
import yaml

from tests import archives
from tests.load import Connection, Load
from tests.up_command import UpCommand, is_rolled_out

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]

REPLICAS = 20
LOAD_S = 5.0
ROUNDS = 3  # the first pod alone, then half of the fleet at a time
ALLOWANCE_S = 2.0
REQUESTS_PER_S = 20.0  # enough to notice a gap; the pods' processes shall have the cores
SLOW_TO_LOAD = f"""
import time

class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]
        time.sleep({LOAD_S})

    def handle(self, data, context):
        return [{{"version": self.version}} for _ in data]
"""


def write(folder, version):
    body = archives.manifest(folder / f"echo-{version}.mar", version, replicas=REPLICAS)
    body["spec"]["rollout"] = {"hot": {"maxUnavailablePods": "50%"}}
    file = folder / "echo.yaml"
    file.write_text(yaml.safe_dump(body), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path):
    for version in ("1.0", "2.0"):
        archives.write_archive(tmp_path, version, SLOW_TO_LOAD)
    (tmp_path / "tmp").mkdir()
    return tmp_path


async def until_answers(url, version):
    """Ask one pod until this version answers, and return when that was."""
    connection = Connection(url)
    while True:
        answer = await connection.ask(archives.question())
        if answer.status == 200 and json.loads(answer.body)["version"] == version:
            connection.close()
            return asyncio.get_running_loop().time()
        await asyncio.sleep(0.02)


async def test_twenty_pods_change_their_version_in_three_loads_and_two_seconds(folder):
    clock = asyncio.get_running_loop().time
    async with UpCommand([write(folder, "1.0")], temp_dir=folder / "tmp") as command:
        first = await command.until(partial(is_rolled_out, version="1.0"), "1.0 serves", 150)
        assert len(first["pods"]) == REPLICAS
        async with Load(
            first["url"], lambda _: archives.question(), clients=4, rate=REQUESTS_PER_S
        ) as load:
            await load.more(20)
            edited_at = clock()
            write(folder, "2.0")
            async with asyncio.timeout(ROUNDS * LOAD_S + 60):
                changed_at = [
                    await until_answers(pod["inferenceUrl"], "2.0") for pod in first["pods"]
                ]
            took_s = max(changed_at) - edited_at
            await load.more(20)
        last = await command.until(partial(is_rolled_out, version="2.0"), "2.0 serves")
    sys.stdout.write(f"{REPLICAS} pods: {took_s:.1f} s from the edit to 2.0 in every one\n")
    assert load.failed == []
    assert {pod["pid"] for pod in last["pods"]} == {pod["pid"] for pod in first["pods"]}
    assert took_s <= ROUNDS * LOAD_S + ALLOWANCE_S
