"""Releases under load on real processes: a good version comes in, a bad one is taken back."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import archives
from tests.load import Load
from tests.releases import Moment, between, is_promoted, is_rolled_back, moments, most_of, weights
from tests.up_command import UpCommand

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(150)]

REPLICAS = 3
CLIENTS, RATE, LEAST_RATE = 24, 300.0, 200.0  # requests per second
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
        time.sleep(0.015)
        {more}
        return [{{"version": self.version}} for _ in data]
"""
GOOD = "pass"
ERRS = 'assert self.asked.tell() % 10, "every tenth"'  # of all that its workers are asked
SLOW = "time.sleep(0.015)"
DIES = "self.asked.tell() % 10 or os._exit(3)"
GROWS = 'self.kept.append(b"x" * (6 << 20))'  # so little that it costs no time
STEPS = [{"weight": 5, "pause": "6s"}, {"weight": 50, "pause": "4s"}, {"weight": 100}]
ERRORS = {"errorRate": {"max": "4%", "maxIncrease": "2%"}}
LATENCY = {"latencyP50": {"maxIncrease": "30%"}}
RESTARTS = {"workerRestarts": {"max": 0}}


@dataclass(frozen=True, slots=True)
class Bad:
    """What a handler does besides, which rule shall find it, and in which words."""

    does: str
    rule: Mapping[str, object]
    words: str  # the message begins so
    logged: str = ""  # by a runtime


BAD_VERSIONS = [
    pytest.param(
        Bad(ERRS, ERRORS, r"errors [1-9][\d.]* %"),
        id="one that errs in every tenth request",
    ),
    pytest.param(
        Bad(SLOW, LATENCY, r"p50 [\d.]+ ms, the old version .* slower"),
        id="one that is twice as slow",
    ),
    pytest.param(
        Bad(DIES, RESTARTS, r"[1-9]\d* worker restart", "exit code 3"),
        id="one that kills its worker",
    ),
    pytest.param(
        Bad(GROWS, RESTARTS, r"[1-9]\d* worker restart", "worker holds too much memory"),
        id="one that grows beyond its worker's memory limit",
    ),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tmp").mkdir()
    return tmp_path


def pack(folder, version, more):
    """Write the archive of a version that counts its requests in a file and then does more."""
    source = MODEL.format(more=more, asked=str(folder / f"asked-{version}"))
    archives.write_archive(folder, version, source)


def write(folder, version, rules):
    """Write the manifest as somebody does who edits the version."""
    body = archives.manifest(folder / f"echo-{version}.mar", version, replicas=REPLICAS)
    (model,) = body["spec"]["models"]
    model["workers"] = {"min": 3, "maxMemory": "56Mi"}
    analysis = {"minRequests": 40, "maxWait": "60s", "failOn": dict(rules)}
    body["spec"]["rollout"] = {"hot": {"steps": STEPS, "keepPrevious": "1m", "analysis": analysis}}
    file = folder / "echo.yaml"
    file.write_text(yaml.safe_dump(body), encoding="utf-8")
    return file


def asked(number):
    del number
    return archives.question()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a release looked like from outside."""

    load: Load
    moments: Sequence[Moment]
    ended_at: float  # on the loop's clock
    model: Mapping[str, Any]  # of the last status
    logs: str  # of all pods


async def release(folder, more, rules, done):
    """Serve 1.0, and release a 2.0 whose handler does more, under load until it is done."""
    pack(folder, OLD, GOOD)
    pack(folder, NEW, more)
    async with UpCommand([write(folder, OLD, rules)], temp_dir=folder / "tmp") as command:
        served = await command.until(partial(is_promoted, version=OLD), "1.0 serves", 60)
        async with Load(served["url"], asked, CLIENTS, RATE) as load:
            await load.more(200)
            began = len(command.heard)
            write(folder, NEW, rules)
            await command.until(partial(done, version=NEW), "the release has ended", 90)
            ended_at = command.heard[-1][0]
            await load.more(400)
        (model,) = command.deployment["status"]["models"]
        logs = "".join(map(read_log, command.deployment["pods"]))
    assert load.per_second >= LEAST_RATE
    return Seen(load, moments(command.heard[began:]), ended_at, model, logs)


def read_log(pod):
    return Path(pod["logFile"]).read_text(encoding="utf-8")


def tell(line):
    sys.stdout.write(f"{line}\n")


async def test_a_good_version_gets_5_then_50_then_100_percent_and_is_promoted(folder):
    rules = ERRORS | RESTARTS | {"latencyP50": {"maxIncrease": "100%"}}
    seen = await release(folder, GOOD, rules, is_promoted)
    steps = [each for each in seen.moments if each.target == NEW and each.weight]
    first = [each.at for each in steps if each.weight == FIRST_WEIGHT]
    asked = [each.word for each in between(seen.load.asked, first[0], first[-1])]
    routed = asked.count(NEW)
    tell(f"first step: 2.0 answered {routed} of {len(asked)}; all: {dict(seen.load.words)}")
    assert weights(steps, NEW) == [5, 50, 100]
    assert seen.load.failed == []
    assert 0 < routed <= most_of(FIRST_WEIGHT / 100, len(asked))
    assert {each.word for each in seen.load.asked if each.sent_at > seen.ended_at} == {NEW}


@pytest.mark.parametrize("bad", BAD_VERSIONS)
async def test_a_bad_version_is_taken_back_in_its_first_step(folder, bad):
    seen = await release(folder, bad.does, bad.rule, is_rolled_back)
    begun = next(each.at for each in seen.moments if each.target == NEW and each.weight)
    during = [each for each in seen.load.asked if begun <= each.done_at]
    during = [each for each in during if each.sent_at <= seen.ended_at]
    failed = sum(bool(each.failure) for each in during)
    answered = sum(each.word == NEW for each in during)
    reached = (folder / f"asked-{NEW}").stat().st_size
    failure = seen.model["rollout"]["lastFailure"]
    tell(f"{seen.ended_at - begun:.1f} s at {FIRST_WEIGHT} %: {len(during)} requests")
    tell(f"2.0 answered {answered} and failed {failed}; {failure['reason']}: {failure['message']}")
    assert failure["reason"] == "AnalysisFailed"
    assert re.match(bad.words, failure["message"])
    assert bad.logged in seen.logs
    assert max(weights(seen.moments, NEW)) == FIRST_WEIGHT
    assert answered + failed <= most_of(FIRST_WEIGHT / 100, len(during))
    assert len(seen.load.failed) == failed <= reached - answered, "the old version failed, too"
    assert {each.word for each in seen.load.asked if each.sent_at > seen.ended_at} == {OLD}
