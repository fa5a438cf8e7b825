"""`make demo-releases`: a good release and a bad one, watched under load and checked.

Serve version 1.0 with three replicas, edit the file to 2.0, which goes from 5 % of the requests to
50 % and to all of them, then to 3.0, which fails on reviews that neither praise nor complain and is
taken back. Prints what the status said and what the clients got, ends by itself, and with exit code
1 if anything was off. It works in a temporary folder and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from examples.findings import Findings, check_leftovers, say
from tests.load import Answer, Load, Question, expect
from tests.releases import Moment, between, is_promoted, is_rolled_back, moments, most_of, weights
from tests.up_command import UpCommand

HERE = Path(__file__).parent
CLIENTS, RATE = 8, 250.0  # requests per second
MIN_PER_SECOND = 150.0
FIRST_WEIGHT = 5
REVIEWS = (
    "a good camera",
    "the lens came broken and late",
    "great pictures and a lovely screen",
    "not good at night",
    "it takes pictures",  # neither praise nor complaint
)


def review(number: int) -> Question:
    """Return the n-th request; the word about a right answer is the version that gave it."""
    body = json.dumps({"text": REVIEWS[number % len(REVIEWS)]}).encode()
    return Question("/predictions/reviews", body, version_of)


def version_of(answer: Answer) -> str:
    """Return the version whose answer this is."""
    expect(answer.status == 200, f"{answer.status} {answer.body[:80]!r}")
    told = json.loads(answer.body)
    expect(told["verdict"] in {"praise", "complaint", "neutral"}, f"verdict {told['verdict']!r}")
    return str(told["version"])


def build(folder: Path) -> None:
    """Pack the three versions, with the commands of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([HERE / "build.sh", folder], check=True, env={**os.environ, "PATH": path})


def edit(file: Path, before: str, after: str) -> None:
    """Change the version as a user does: in the file."""
    text = file.read_text().replace(f'version: "{before}"', f'version: "{after}"')
    file.write_text(text.replace(f"reviews-{before}.mar", f"reviews-{after}.mar"))


async def watch(up: UpCommand, target: str, since: float) -> None:
    """Print each phase and weight of a version, once, and how each step of it ended."""
    told, read = set(), len(up.heard)
    before = Moment(since, target, "", 0, "", "", 0, 0)
    while True:
        new, read = moments(up.heard[read:]), len(up.heard)
        for each in (each for each in new if each.target == target):
            if 0 < before.weight < each.weight:
                say(f"          {before.verdict}: {before.message}")
            if (each.phase, each.weight) not in told:
                say(f"  {each.at - since:4.1f} s  {each.phase:<11} {each.weight:3} %")
            told.add((each.phase, each.weight))
            before = each
        await asyncio.sleep(0.02)


async def release(
    up: UpCommand, file: Path, versions: tuple[str, str], done: Callable[[Mapping[str, Any]], bool]
) -> tuple[float, float]:
    """Edit the version, watch until it has ended, and return from when until when that was."""
    clock = asyncio.get_running_loop().time
    began = clock()
    edit(file, *versions)
    watching = asyncio.create_task(watch(up, versions[1], began))
    try:
        await up.until(done, f"the end of {versions[1]}", 120)
        await asyncio.sleep(0.1)  # the last line is printed, too
    finally:
        watching.cancel()
    return began, clock()


def check_good(
    load: Load, seen: list[Moment], times: tuple[float, float], findings: Findings
) -> None:
    """Check the release of 2.0."""
    steps = [weight for weight in weights(seen, "2.0") if weight]
    findings.check(steps == [5, 50, 100], "2.0 got 5 %, then 50 %, then all")
    first = [each.at for each in seen if each.target == "2.0" and each.weight == FIRST_WEIGHT]
    step = [each.word for each in between(load.asked, min(first), max(first))] if first else []
    new = step.count("2.0")
    findings.check(
        0 < new <= most_of(FIRST_WEIGHT / 100, len(step)),
        f"in its first step 2.0 answered {new} of {len(step)} requests",
    )
    findings.check(not load.failed, f"none of {len(load.asked)} requests has failed")
    after = {each.word for each in load.asked if each.sent_at > times[1]}
    findings.check(after <= {"2.0"}, "from then on every answer was 2.0's")


def check_bad(
    load: Load, seen: list[Moment], times: tuple[float, float], findings: Findings
) -> None:
    """Check the release of 3.0."""
    asked = [each for each in load.asked if times[0] <= each.sent_at <= times[1]]
    failed = sum(bool(each.failure) for each in asked)
    new = failed + sum(each.word == "3.0" for each in asked)
    findings.check(
        max(weights(seen, "3.0")) <= FIRST_WEIGHT,
        f"3.0 never got more than {FIRST_WEIGHT} % of the requests",
    )
    findings.check(
        failed <= new <= most_of(FIRST_WEIGHT / 100, len(asked)),
        f"{failed} of {len(asked)} requests failed, all among the {new} that 3.0 was asked",
    )
    last = [each for each in load.asked if each.sent_at > times[1]]
    findings.check(
        {each.word for each in last} == {"2.0"} and not any(each.failure for each in last),
        f"afterwards 2.0 answered all of {len(last)} requests",
    )


async def serve(folder: Path, findings: Findings) -> UpCommand:
    """Serve, release the good version and then the bad one; return the command, stopped."""
    file = folder / "reviews.yaml"
    async with UpCommand([file], temp_dir=folder / "tmp") as up:
        say(f"\nflambeau up {file.name}: three replicas")
        deployment = await up.until(lambda each: is_promoted(each, "1.0"), "1.0 serves", 120)
        pods = up.pods
        async with Load(deployment["url"], review, CLIENTS, RATE) as load:
            await load.more(300)
            say(f"\n1.0 → 2.0 by an edit of the file, at {RATE:.0f} requests/s")
            good = await release(up, file, ("1.0", "2.0"), lambda each: is_promoted(each, "2.0"))
            await load.more(300)
            check_good(load, moments(up.heard, good[0]), good, findings)
            say("\n2.0 → 3.0 by an edit of the file; one review in five is neutral")
            bad = await release(up, file, ("2.0", "3.0"), lambda each: is_rolled_back(each, "3.0"))
            await load.more(300)
            failure = up.deployment["status"]["models"][0]["rollout"]["lastFailure"]
            say(f"          {failure['reason']}: {failure['message']}")
            check_bad(load, moments(up.heard, bad[0]), bad, findings)
        say(f"\n{len(load.asked)} requests, {load.per_second:.0f}/s; answers: {dict(load.words)}")
        findings.check(load.per_second >= MIN_PER_SECOND, f"at least {MIN_PER_SECOND:.0f}/s")
        findings.check(up.pods == pods and len(pods) == 3, "the same three runtimes all along")
        code = await up.stop()
    findings.check(code == 0, f"flambeau up ended with exit code {code}")
    return up


def main() -> int:
    """Run the demo in a temporary folder and return the exit code."""
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="flambeau-demo-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        shutil.copy(HERE / "reviews.yaml", folder)
        say("pack three versions of a model that judges reviews")
        build(folder)
        up = asyncio.run(serve(folder, findings))
        check_leftovers(up, folder, findings)
    return findings.exit_code()


if __name__ == "__main__":
    sys.exit(main())
