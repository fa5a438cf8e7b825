"""`flambeau rollout` and `flambeau plan` against a `flambeau up` that runs, as programs."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tests import archives
from tests.up_command import UpCommand, is_rolled_out, is_running

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

STEPS = [{"weight": 50, "pause": "1h"}, {"weight": 80, "pause": "1h"}, {"weight": 100}]
ANOTHER_ANSWER = """
class Handler:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return [{"version": "1.0", "score": 0.25} for _ in data]
"""


@pytest.fixture
def workplace(tmp_path):
    """A folder with archives and a manifest of 1.0, and a short one for what is temporary.

    The name of a session's socket must fit into an address of some 100 bytes.
    """
    for version, handler in (
        ("1.0", archives.ECHO),
        ("2.0", archives.ECHO),
        ("3.0", ANOTHER_ANSWER),
        ("4.0", archives.RAISES_ON_IMPORT),
    ):
        archives.write_archive(tmp_path, version, handler)
    with tempfile.TemporaryDirectory(prefix="fl-") as temporary:
        yield Workplace(tmp_path, Path(temporary))


class Workplace:
    """The files of one user, and their command line."""

    def __init__(self, folder, temporary):
        self.folder, self.temporary = folder, temporary
        self.file = self.write("1.0")

    def write(self, version, name="echo.yaml", **spec):
        """Write a manifest of this version."""
        body = archives.manifest(self.folder / f"echo-{version}.mar", version)
        body["spec"] |= {"rollout": {"hot": {"steps": STEPS}}, **spec}
        file = self.folder / name
        file.write_text(yaml.safe_dump(body), encoding="utf-8")
        return file

    def up(self):
        return UpCommand([self.file], temp_dir=self.temporary)

    async def run(self, *words, within_s=60):
        """Run `flambeau …` without any cluster in sight; return exit code, stdout and stderr."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flambeau_operator.cli", *map(str, words)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                **{name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
                "TMPDIR": str(self.temporary),
                "HOME": str(self.temporary),
            },
        )
        try:
            async with asyncio.timeout(within_s):
                out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode, out.decode(), errors.decode()

    async def json(self, *words, code=0, within_s=60):
        """Run a command that answers with JSON and must end so."""
        found, out, errors = await self.run(*words, "-o", "json", within_s=within_s)
        assert found == code, out + errors
        return json.loads(out)


def in_step(number):
    def is_so(deployment):
        (model,) = deployment["status"]["models"]
        rollout = model["rollout"]
        return model["phase"] == "Canary" and rollout.get("step") == number

    return is_so


async def canary(work, up, version="2.0"):
    """Begin a release of a version, and return once its first step has begun."""
    await up.until(lambda each: is_rolled_out(each, "1.0"), "1.0 serves")
    work.write(version)
    await up.until(in_step(0), "the first step is taken", within_s=90)


async def test_a_pause_by_command_holds_through_edits_and_is_in_no_file(workplace):
    async with workplace.up() as up:
        await canary(workplace, up)
        written = workplace.file.read_text()
        paused = await workplace.json("rollout", "pause", "echo")
        assert (paused["outcome"], paused["paused"]) == ("Paused", True)
        assert paused["request"]["takenUp"] is True
        code, _, errors = await workplace.run("rollout", "pause", "mdep/echo")
        assert (code, errors) == (1, "flambeau rollout: rollouts of echo are paused already\n")
        assert workplace.file.read_text() == written
        workplace.write("2.0", replicas=3)
        await up.until(lambda each: each["status"].get("replicas") == 3, "the edit is taken up")
        seen = await workplace.json("rollout", "status", "echo", "--no-watch", code=3)
        assert seen["paused"] is True
        assert (await workplace.json("rollout", "resume", "echo"))["paused"] is False


async def test_a_release_is_looked_at_and_promoted_step_by_step(workplace):
    async with workplace.up() as up:
        await canary(workplace, up)
        seen = await workplace.json("rollout", "status", "echo", "--no-watch", code=3)
        (model,) = seen["models"]
        assert seen["outcome"] == "Progressing"
        assert seen["where"] == f"flambeau up, pid {up.process.pid}"
        assert (model["activeVersion"], model["candidate"]) == ("1.0", "2.0")
        assert [each["state"] for each in model["steps"]] == ["current", "next", "next"]

        step = await workplace.json("rollout", "promote", "echo", "--step")
        value = f"{model['candidateHash']}/0"
        assert step["request"]["annotations"] == {"serving.flambeau.dev/promote": value}
        await up.until(in_step(1), "the second step is taken")
        code, out, errors = await workplace.run("rollout", "promote", "echo")
        assert code == 0, out + errors
        assert out.startswith("echo: asked for echo@2.0 to 100 %\n")
        code, out, _ = await workplace.run("rollout", "status", "echo", "--timeout", "60s")
        assert code == 0, out
        told = await workplace.json("rollout", "history", "echo")
        assert [it["outcome"] for it in told["models"][0]["history"]] == ["Promoted"]
        assert told["models"][0]["running"] is None


async def test_a_candidate_is_aborted_and_comes_again_when_it_is_retried(workplace):
    async with workplace.up() as up:
        await canary(workplace, up)
        aborted = await workplace.json("rollout", "abort", "echo")
        assert aborted["request"]["takenUp"] is True
        code, out, _ = await workplace.run("rollout", "status", "echo", "--timeout", "60s")
        assert code == 1, out
        assert "Aborted" in out
        assert "flambeau rollout retry echo" in out
        code, _, errors = await workplace.run("rollout", "promote", "echo")
        assert code == 1
        assert "nothing to promote: echo@2.0 was rolled back (Aborted)" in errors

        retried = await workplace.json("rollout", "retry", "echo")
        assert retried["request"]["takenUp"] is True
        await up.until(in_step(0), "it is on its way again", within_s=90)
        code, _, errors = await workplace.run("rollout", "status", "echo", "--timeout", "1s")
        assert code == 3
        assert "it was still going when --timeout ended" in errors


async def test_what_is_not_there_is_said_with_where_it_was_looked_for(workplace):
    code, _, errors = await workplace.run("rollout", "status", "echo")
    assert code == 2
    assert "no flambeau up on this machine serves default/echo" in errors
    async with workplace.up() as up:
        await up.until(lambda each: is_rolled_out(each, "1.0"), "1.0 serves")
        code, _, errors = await workplace.run("rollout", "status", "echo", "--session", "1")
        assert (code, "no flambeau up with pid 1 serves default/echo" in errors) == (2, True)
        assert (await workplace.run("rollout", "status", "echo", "--local"))[0] == 0
    assert list(workplace.temporary.iterdir()) == []  # neither session leaves anything


async def test_who_watches_a_session_that_ends_is_told_so(workplace):
    async with workplace.up() as up:
        await canary(workplace, up)
        watching = asyncio.create_task(workplace.run("rollout", "status", "echo"))
        await workplace.json("rollout", "pause", "echo")
        await up.stop()
        code, out, errors = await watching
    assert (code, "Canary" in out) == (2, True), errors
    assert "has ended" in errors


async def test_a_plan_says_what_a_running_flambeau_up_would_do(workplace):
    async with workplace.up() as up:
        await up.until(lambda each: is_rolled_out(each, "1.0"), "1.0 serves")
        code, out, _ = await workplace.run("plan", workplace.file)
        assert (code, "nothing changes" in out) == (0, True)
        new = workplace.write("2.0", "new.yaml", runtime={"config": {"job_queue_size": "9"}})
        (found,) = (await workplace.json("plan", new, code=1))["deployments"]
        assert found["podsRollFor"] == ["runtime.config.job_queue_size"]
        (model,) = found["models"]
        # Auto is decided here: the pods are asked what memory they have.
        assert (model["rollout"], model["mode"]) == (True, "SideBySide")
        reused = workplace.write("2.0", "reused.yaml")
        reused.write_text(reused.read_text().replace("version: '2.0'", "version: '1.0'"))
        code, out, _ = await workplace.run("plan", reused)
        assert (code, "give the new archive a new version" in out) == (2, True)
        broken = workplace.folder / "broken.yaml"
        broken.write_text(workplace.file.read_text().replace("replicas", "replica"))
        code, _, errors = await workplace.run("plan", broken)
        assert (code, "did you mean 'replicas'" in errors) == (2, True)
        assert up.deployment["generation"] == 1  # nothing of it was applied


@pytest.fixture
def golden(workplace):
    file = workplace.folder / "golden.jsonl"
    lines = [{"body": {}}, {"body": {"a": 1}, "expect": {"version": "2.0"}}]
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return file


async def test_a_trial_loads_a_good_a_different_and_a_bad_candidate_and_leaves_nothing(
    workplace, golden
):
    ask = ("--load", "--requests", golden)
    async with workplace.up() as up:
        await up.until(lambda each: is_rolled_out(each, "1.0"), "1.0 serves")
        pods = dict(up.pods)

        good = workplace.write("2.0", "good.yaml")
        (found,) = (await workplace.json("plan", good, *ask, code=1, within_s=120))["deployments"]
        (trial,) = found["trials"]
        assert trial["good"] is True
        for tried, version in ((trial["old"], "1.0"), (trial["new"], "2.0")):
            assert (tried["version"], tried["ready"], tried["errors"]) == (version, True, [])
            assert tried["requests"] >= 50
            assert 0 < tried["latencyMs"]["p50"] <= tried["latencyMs"]["p95"]
            assert tried["loadSeconds"] > 0
            assert tried["workerBytes"] > 1 << 20
        assert (trial["compared"], trial["different"]) == (2, 2)
        assert '$.version: "2.0", not "1.0"' in trial["differences"][0]

        other = workplace.write("3.0", "other.yaml")
        (found,) = (await workplace.json("plan", other, *ask, code=2, within_s=120))["deployments"]
        (trial,) = found["trials"]
        assert (trial["good"], trial["new"]["ready"]) == (False, True)
        assert trial["differences"][0].endswith("golden.jsonl:1: $.score: 0.25, not nothing")
        (wrong,) = trial["new"]["unexpected"]
        assert wrong.endswith('golden.jsonl:2: $.version: "1.0", not "2.0"')

        bad = workplace.write("4.0", "bad.yaml")
        (found,) = (await workplace.json("plan", bad, *ask, code=2, within_s=120))["deployments"]
        failure = found["trials"][0]["new"]["failure"]
        assert failure["reason"] == "HandlerImportFailed"
        assert "a_module_that_nobody_has" in failure["message"]

        assert up.pods == pods  # whoever serves was not touched
        assert all(is_running(pid) for pid in pods.values())
    assert list(workplace.temporary.iterdir()) == []


async def test_a_version_that_is_the_first_one_is_tried_by_itself(workplace):
    warmup = {"requests": [{"body": "{}"}]}
    body = yaml.safe_load(workplace.file.read_text())
    body["spec"]["models"][0]["warmup"] = warmup
    workplace.file.write_text(yaml.safe_dump(body))
    (found,) = (await workplace.json("plan", workplace.file, "--load", code=1, within_s=120))[
        "deployments"
    ]
    assert (found["exists"], found["where"]) == (False, None)
    (trial,) = found["trials"]
    assert (trial["old"], trial["good"], trial["compared"]) == (None, True, 0)
    assert trial["new"]["requests"] >= 50  # its warm-up requests
    assert list(workplace.temporary.iterdir()) == []
