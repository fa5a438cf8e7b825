"""Releases under load on real processes: a good version comes in, a bad one is taken back."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import yaml

from tests import archives
from tests.load import Load
from tests.releases import between, is_promoted, is_rolled_back, moments, most_of, weights
from tests.up_command import UpCommand

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(150)]

REPLICAS = 3
CLIENTS, RATE, LEAST_RATE = 16, 250.0, 200.0  # requests per second
FIRST_WEIGHT = 5
OLD, NEW = "1.0", "2.0"
MODEL = """
import os
import time

class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]
        self.kept = []
        self.asked = open({asked!r}, "ab", buffering=0)

    def handle(self, data, context):
        self.asked.write(b"x" * len(data))
        time.sleep(0.008)
        {more}
        return [{{"version": self.version}} for _ in data]
"""
GOOD = "pass"
ERRS = 'assert self.asked.tell() % 10, "every tenth"'  # of all that its workers are asked
SLOW = "time.sleep(0.008)"
DIES = "self.asked.tell() % 10 or os._exit(3)"
GROWS = 'self.kept.append(b"x" * (4 << 20))'  # so little that it costs no time
BAD_VERSIONS = [
    pytest.param(ERRS, "errors", id="one that errs in every tenth request"),
    pytest.param(SLOW, "p50", id="one that is twice as slow"),
    pytest.param(DIES, "restart", id="one that kills its worker"),
    pytest.param(GROWS, "restart", id="one that grows beyond its worker's memory limit"),
]
STEPS = [{"weight": 5, "pause": "6s"}, {"weight": 50, "pause": "4s"}, {"weight": 100}]
FAIL_ON = {
    "errorRate": {"max": "4%", "maxIncrease": "2%"},
    "latencyP50": {"maxIncrease": "30%"},
    "workerRestarts": {"max": 0},
}
ANALYSIS = {"minRequests": 40, "maxWait": "60s", "failOn": FAIL_ON, "onInconclusive": "Pause"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tmp").mkdir()
    return tmp_path


def pack(folder, version, more):
    """Write the archive of a version that counts its requests in a file and then does more."""
    source = MODEL.format(more=more, asked=str(folder / f"asked-{version}"))
    archives.write_archive(folder, version, source)


def write(folder, version):
    """Write the manifest as somebody does who edits the version."""
    body = archives.manifest(folder / f"echo-{version}.mar", version, replicas=REPLICAS)
    (model,) = body["spec"]["models"]
    model["workers"] = {"min": 2, "maxMemory": "56Mi"}
    body["spec"]["rollout"] = {"hot": {"steps": STEPS, "keepPrevious": "1m", "analysis": ANALYSIS}}
    file = folder / "echo.yaml"
    file.write_text(yaml.safe_dump(body), encoding="utf-8")
    return file


def asked(number):
    del number
    return archives.question()


async def release(folder, more, done):
    """Serve 1.0, release a 2.0 whose handler does more, and return what was seen of it.

    Returns:
        The load of all of it, the release's moments, and when it was over on the loop's clock.
    """
    pack(folder, OLD, GOOD)
    pack(folder, NEW, more)
    async with UpCommand([write(folder, OLD)], temp_dir=folder / "tmp") as command:
        served = await command.until(partial(is_promoted, version=OLD), "1.0 serves", 60)
        async with Load(served["url"], asked, CLIENTS, RATE) as load:
            await load.more(200)
            began = len(command.heard)
            write(folder, NEW)
            await command.until(partial(done, version=NEW), "the release has ended", 90)
            ended_at = command.heard[-1][0]
            await load.more(400)
        status = command.deployment["status"]
    assert load.per_second >= LEAST_RATE
    return load, moments(command.heard[began:]), ended_at, status


def tell(line):
    sys.stdout.write(f"{line}\n")


async def test_a_good_version_gets_5_then_50_then_100_percent_and_is_promoted(folder):
    load, seen, ended_at, _ = await release(folder, GOOD, is_promoted)
    assert [weight for weight in weights(seen, NEW) if weight] == [5, 50, 100]
    first = [each.at for each in seen if each.target == NEW and each.weight == FIRST_WEIGHT]
    step = [each.word for each in between(load.asked, first[0], first[-1])]
    routed = step.count(NEW)
    tell(f"first step: {routed} of {len(step)} requests answered by 2.0; {dict(load.words)} in all")
    assert load.failed == []
    assert 0 < routed <= most_of(FIRST_WEIGHT / 100, len(step))
    assert {each.word for each in load.asked if each.sent_at > ended_at} == {NEW}


@pytest.mark.parametrize(("more", "told"), BAD_VERSIONS)
async def test_a_bad_version_is_taken_back_in_its_first_step(folder, more, told):
    load, seen, ended_at, status = await release(folder, more, is_rolled_back)
    begun = [each.at for each in seen if each.target == NEW and each.weight]
    during = [each for each in load.asked if begun[0] <= each.done_at and each.sent_at <= ended_at]
    failed = sum(bool(each.failure) for each in during)
    answered = sum(each.word == NEW for each in during)
    routed = answered + failed
    reached = (folder / f"asked-{NEW}").stat().st_size
    failure = status["models"][0]["rollout"]["lastFailure"]
    tell(f"{begun[-1] - begun[0]:.1f} s at {FIRST_WEIGHT} %: {len(during)} requests")
    tell(f"2.0 answered {answered} and failed {failed}; {failure['reason']}: {failure['message']}")
    assert told in failure["message"].lower()
    assert max(weights(seen, NEW)) == FIRST_WEIGHT
    assert routed <= most_of(FIRST_WEIGHT / 100, len(during))
    assert len(load.failed) == failed <= reached - answered, "the old version failed, too"
    assert {each.word for each in load.asked if each.sent_at > ended_at} == {OLD}
