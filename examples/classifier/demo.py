"""`make demo`: the whole story on one machine, checked at every step.

Train and archive two versions, serve the first with two replicas, swap to the second and kill a
worker while requests run. Prints what it saw and ends with exit code 1 if anything was off. It
works in a temporary folder and leaves nothing behind: no process, no port, no file.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from examples.classifier.questions import Wine, read_wines
from examples.findings import Findings, check_leftovers, say
from tests.load import Connection, Load, Question, WrongAnswer
from tests.up_command import UpCommand, is_rolled_out

HERE = Path(__file__).parent
CLIENTS, RATE = 8, 160.0  # requests per second; half of the clients connect anew each time
MIN_PER_SECOND = 100.0
FIRST_ANSWER_WITHIN_S = 120
EXTRA_S = 3.0  # time to the first answer: twice the import of torch, and this


def build(folder: Path) -> None:
    """Train and archive both versions into a folder, with the commands of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([HERE / "build.sh", folder], check=True, env={**os.environ, "PATH": path})


def import_torch_s() -> float:
    """Measure how long Python takes to import torch on this machine, now."""
    script = "from time import perf_counter as t; a = t(); import torch; print(t() - a)"
    command = [sys.executable, "-c", script]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def first_answer(up: UpCommand, question: Question) -> str:
    """Ask until the first right answer; nothing that is said before counts."""
    url = (await up.until(lambda deployment: deployment["url"], "an address"))["url"]
    deadline = asyncio.get_running_loop().time() + FIRST_ANSWER_WITHIN_S
    while True:
        connection = Connection(url)
        try:
            async with asyncio.timeout_at(deadline):
                return question.check(await connection.ask(question))
        except (EOFError, ConnectionError, WrongAnswer):
            await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(
                f"no answer within {FIRST_ANSWER_WITHIN_S} s\n{up.story()}"
            ) from None
        finally:
            connection.close()


async def accuracy(url: str, wines: list[Wine]) -> tuple[int, str]:
    """Ask about every held-out wine; return how many answers are right, and from which version."""
    connection = Connection(url)
    right, versions = 0, set()
    for wine in wines:
        answer = await connection.ask(wine.question())
        versions.add(wine.version_of(answer))
        right += json.loads(answer.body)["predicted_class"] == wine.grower
    connection.close()
    return right, "+".join(sorted(versions))


def edit_to_2(file: Path) -> None:
    """Change the version as a user does: in the file."""
    text = file.read_text().replace('version: "1.0"', 'version: "2.0"')
    file.write_text(text.replace("classifier-1.0.mar", "classifier-2.0.mar"))


def worker_of(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a pod's first worker as its management API describes it."""
    with urlopen(f"{pod['managementUrl']}/models/classifier", timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read())[0]["workers"][0]


async def swap(up: UpCommand, load: Load, file: Path, findings: Findings) -> None:
    """Roll from 1.0 to 2.0 under load and check who answered when."""
    clock = asyncio.get_running_loop().time
    await load.more(300)
    edited_at = clock()
    edit_to_2(file)
    await up.until(lambda deployment: is_rolled_out(deployment, "2.0"), "2.0 serves", 180)
    swapped_at = clock()
    await load.more(300)
    say(f"  swap: {swapped_at - edited_at:.1f} s from the edit to 2.0 in every runtime")
    before = {each.word for each in load.asked if each.done_at < edited_at}
    after = {each.word for each in load.asked if each.sent_at > swapped_at}
    findings.check(before == {"1.0"}, "before the edit every answer was 1.0's")
    findings.check(after == {"2.0"}, "after the swap every answer was 2.0's")


async def kill_worker(up: UpCommand, load: Load) -> None:
    """SIGKILL a worker under load and wait until another has taken its place."""
    pod = up.deployment["pods"][0]
    pid = (await asyncio.to_thread(worker_of, pod))["pid"]
    os.kill(pid, signal.SIGKILL)
    say(f"  killed worker {pid} of {pod['name']} with SIGKILL")
    replaced = await until_replaced(pod, pid)
    await load.more(300)
    say(f"  worker {replaced} has taken its place")


async def until_replaced(pod: Mapping[str, Any], pid: int) -> int:
    """Return the process id of the worker that serves instead of a dead one."""
    async with asyncio.timeout(60):
        while True:
            worker = await asyncio.to_thread(worker_of, pod)
            if worker["status"] == "READY" and worker["pid"] != pid:
                return worker["pid"]
            await asyncio.sleep(0.1)


async def serve(folder: Path, torch_s: float, findings: Findings) -> UpCommand:
    """Serve, swap and kill; return the command, stopped."""
    file = folder / "classifier.yaml"
    wines = read_wines(folder / "build")
    clock = asyncio.get_running_loop().time
    started_at = clock()
    async with UpCommand([file], temp_dir=folder / "tmp") as up:
        say(f"\nflambeau up {file.name}: two replicas")
        await first_answer(up, wines[0].question())
        first_s, limit_s = clock() - started_at, 2 * torch_s + EXTRA_S
        findings.check(
            first_s <= limit_s,
            f"first answer {first_s:.1f} s after exec; limit {limit_s:.1f} s = "
            f"2 x {torch_s:.1f} s (import torch) + {EXTRA_S:.0f} s",
        )
        deployment = await up.until(lambda each: is_rolled_out(each, "1.0"), "both pods", 120)
        before = up.pods
        right, version = await accuracy(deployment["url"], wines)
        say(f"  {version} has {right} of {len(wines)} held-out wines right")
        async with Load(
            deployment["url"], lambda n: wines[n % len(wines)].question(), CLIENTS, RATE
        ) as load:
            say(f"\nversion 1.0 → 2.0 by an edit of the file, at {RATE:.0f} requests/s")
            await swap(up, load, file, findings)
            say("\na worker is killed at the same load")
            await kill_worker(up, load)
        right, version = await accuracy(deployment["url"], wines)
        say(f"  {version} has {right} of {len(wines)} held-out wines right")
        summarise(load, before, up.pods, findings)
        code = await up.stop()
    findings.check(code == 0, f"flambeau up ended with exit code {code}")
    return up


def summarise(
    load: Load, before: Mapping[str, int], after: Mapping[str, int], findings: Findings
) -> None:
    """Print the balance of the load."""
    say(f"\nrequests sent: {len(load.asked)} ({load.per_second:.0f}/s, every other client anew)")
    say(f"failed: {len(load.failed)}")
    for each in load.failed[:10]:
        say(f"    {each.failure}")
    say(
        f"answers: {dict(load.words)}, p50 {load.percentile_ms(50):.1f} ms, "
        f"p99 {load.percentile_ms(99):.1f} ms"
    )
    say(f"runtime process ids before: {sorted(before.values())}, after: {sorted(after.values())}")
    findings.check(not load.failed, "no request failed")
    findings.check(load.per_second >= MIN_PER_SECOND, f"at least {MIN_PER_SECOND:.0f} requests/s")
    findings.check(before == after and len(before) == 2, "the same two runtimes all along")


def main() -> int:
    """Run the demo in a temporary folder and return the exit code."""
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="flambeau-demo-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        shutil.copy(HERE / "classifier.yaml", folder)
        say("train and archive two versions of the classifier")
        build(folder)
        up = asyncio.run(serve(folder, import_torch_s(), findings))
        check_leftovers(up, folder, findings)
    findings.check(not folder.exists(), "the demo's own folder is gone")
    return findings.exit_code()


if __name__ == "__main__":
    sys.exit(main())
