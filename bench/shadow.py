"""What a shadow costs those who get real answers: p50 and p99 with it, as ratios to without.

Three runtimes have the same two versions of a model; one of them copies every request to the second
version, the two others copy none (the second of those shows the noise: self against self). Clients
ask at a fifth of what one worker can do, and go round the runtimes again and again, so that a slow
minute of the machine meets all of them. Nothing else should run meanwhile.

    python -m bench.shadow                       both cases, 15 rounds of 4 s
    python -m bench.shadow --case sleepy1 --rounds 3 --seconds 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.__main__ import cases, measure
from bench.servers import BUILD, Case, Server, answers, archive, await_true
from flambeau_operator.runtime_client import Signer

OWNER = {"namespace": "bench", "name": "bench", "uid": "bench"}
SHARE = 0.2
CLIENTS = 4
WORSE_P50 = 1.10
WORSE_P99 = 1.10  # than the noise
WITHOUT, SELF, WITH = "without", "self", "with"


@dataclass
class Managed:
    """A runtime that takes documents."""

    server: Server
    management: str
    signer: Signer

    def call(self, method: str, body: bytes = b"") -> Any:
        """Make a signed call to /state."""
        request = urllib.request.Request(  # noqa: S310  our own server
            f"{self.management}/state",
            data=body or None,
            method=method,
            headers={"Authorization": self.signer.authorisation(OWNER["uid"], body)},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  our own server
            return json.load(answer)

    def versions(self) -> list[dict[str, Any]]:
        """Return what the runtime says of the model's versions."""
        models = self.call("GET")["observed"]["models"]
        return models[0]["versions"] if models else []


def start(case: Case, name: str) -> Managed:
    """Start a managed runtime with two versions of the case's model, and wait for both."""
    folder = BUILD / f"shadow-{case.name}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    signer = Signer(Ed25519PrivateKey.generate(), lambda: datetime.now(UTC))
    boot = folder / "boot.json"
    boot.write_text(json.dumps({"document": None, "publicKeys": [signer.public_key]}))
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flambeau_runtime", "--state-dir", folder),
            *("--boot-file", boot, "--owner-uid", OWNER["uid"]),
            *("--inference-address", "127.0.0.1:0", "--management-address", "127.0.0.1:0"),
            *("--metrics-address", "127.0.0.1:0"),
        ],
        stdout=log,
        stderr=log,
    )
    await_true((folder / "listening.json").exists, process)
    urls = json.loads((folder / "listening.json").read_text())
    server = Server(name, f"{urls['inference']}/predictions/{case.name}", process)
    managed = Managed(server, urls["management"], signer)
    managed.call("PUT", document(case, shadow=name == WITH))
    await_true(lambda: is_ready(managed), process)
    await_true(lambda: answers(server.url, case), process)
    return managed


def is_ready(managed: Managed) -> bool:
    """Return whether both versions are."""
    return [version["phase"] for version in managed.versions()] == ["Ready", "Ready"]


def document(case: Case, *, shadow: bool) -> bytes:
    """Return the wish: two versions of one archive, the second one without any requests."""
    version = {
        "source": {"uri": archive(case).as_uri()},
        "workers": {"min": case.workers},
        "batching": {"maxSize": case.batch, "maxDelaySeconds": case.delay_ms / 1000},
    }
    versions = [{"version": number, **version} for number in ("1.0", "2.0")]
    model: dict[str, Any] = {"name": case.name, "default": "1.0", "versions": versions}
    model["window"] = "bench"
    if shadow:
        model["shadow"] = {"version": "2.0", "percent": 100}
    return json.dumps({"owner": OWNER, "sequence": 1, "models": [model]}).encode()


def client(url: str, body: bytes, kind: str, rate: float, seconds: float) -> list[float]:
    """Ask at that rate, at random moments, over one connection; return the latencies in ms."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    dice = random.Random()  # noqa: S311  moments, no secrets
    latencies = []
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.monotonic()
        end = due + seconds
        while (due := due + dice.expovariate(rate)) < end:
            time.sleep(max(due - time.monotonic(), 0))
            began = time.perf_counter()
            connection.sendall(request)
            if not connection.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{url} did not answer with 200")
            latencies.append((time.perf_counter() - began) * 1_000)
    return latencies


def measured(pool: Any, server: Server, case: Case, rate: float, seconds: float) -> dict:
    """Ask with all clients; return p50, p99, and the CPU that the front used per request."""
    before = server.cpu_s().get(server.process.pid, 0.0)
    wishes = [(server.url, case.body, case.content_type, rate / CLIENTS, seconds)] * CLIENTS
    latencies = sorted(ms for one in pool.starmap(client, wishes) for ms in one)
    used = server.cpu_s().get(server.process.pid, 0.0) - before
    cuts = statistics.quantiles(latencies, n=100)
    front_us = 1e6 * used / len(latencies)
    return {"p50": cuts[49], "p99": cuts[98], "front_us": front_us, "requests": len(latencies)}


def run_case(case: Case, rounds: int, seconds: float) -> tuple[float, dict[str, list[dict]], dict]:
    """Measure one case; return the rate, every figure of every round, and the shadow's counts."""
    with ExitStack() as stack:
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(CLIENTS))
        managed = {}
        for name in (WITHOUT, SELF, WITH):
            managed[name] = start(case, name)
            stack.callback(managed[name].server.stop)
        full = measure(managed[WITHOUT].server, case, 64, 2)["rps"]
        rate = full * SHARE
        figures: dict[str, list[dict]] = {name: [] for name in managed}
        for one in managed.values():
            measured(pool, one.server, case, rate, 1)  # warm-up, not counted
        for number in range(rounds):
            for name in random.sample(list(managed), len(managed)):
                figures[name].append(measured(pool, managed[name].server, case, rate, seconds))
            print(f"  {case.name}: round {number + 1} of {rounds}", file=sys.stderr)
        return rate, figures, managed[WITH].versions()[1]["window"]


def ratios(figures: dict[str, list[dict]], name: str, key: str) -> list[float]:
    """Return the ratios to `without` within each round, in order."""
    pairs = zip(figures[name], figures[WITHOUT], strict=True)
    return sorted(one[key] / other[key] for one, other in pairs)


def noise(figures: dict[str, list[dict]], key: str) -> float:
    """Return what self against self reaches in every fourth round, taken both ways round."""
    found = ratios(figures, SELF, key)
    both = sorted(found + [1 / each for each in found])
    return both[len(both) * 3 // 4]


def row(case: Case, rate: float, figures: dict[str, list[dict]], key: str) -> tuple[str, bool]:
    """Return a line of the table, and whether it is as wanted."""
    mid = {name: statistics.median(it[key] for it in runs) for name, runs in figures.items()}
    found = ratios(figures, WITH, key)
    self_found = ratios(figures, SELF, key)
    median = statistics.median(found)
    limit = WORSE_P50 if key == "p50" else WORSE_P99 * noise(figures, key)
    words = (
        f"| {case.name} | {rate:,.0f} | {key} | {mid[WITHOUT]:.3f} | {mid[WITH]:.3f} "
        f"| **{median:.2f}** ({found[0]:.2f} to {found[-1]:.2f}) | {limit:.2f} "
        f"| {statistics.median(self_found):.2f} ({self_found[0]:.2f} to {self_found[-1]:.2f}) |"
    )
    return words, median <= limit


def arguments() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", help="sleepy1 or tiny (repeatable)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="of load per measurement")
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    return parser.parse_args()


def main() -> None:
    """Measure and print; exit with 1 if a limit is passed."""
    options = arguments()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt-get install wrk")
    wanted = options.case or ["sleepy1", "tiny"]
    chosen = [case for case in cases() if case.name in wanted]
    if not chosen:
        raise SystemExit("no such case; there are: sleepy1, tiny")
    started, good, results, notes = time.monotonic(), True, {}, []
    print(
        "| case | requests/s | | without, ms | with | ratio (lowest to highest) | wanted | self |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case in chosen:
        rate, figures, copies = run_case(case, options.rounds, options.seconds)
        results[case.name] = figures
        for key in ("p50", "p99"):
            words, fine = row(case, rate, figures, key)
            good = good and fine
            print(words, flush=True)
        notes.append(note(case, figures, copies))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print("\n" + "\n".join(notes))
    verdict = "as wanted" if good else "NOT as wanted"
    print(f"\n{options.rounds} rounds, {time.monotonic() - started:.0f} s: {verdict}")
    raise SystemExit(not good)


def note(case: Case, figures: dict[str, list[dict]], copies: dict[str, Any]) -> str:
    """Return what became of the copies, and what they cost the front."""
    mid = {name: statistics.median(it["front_us"] for it in runs) for name, runs in figures.items()}
    asked = sum(it["requests"] for it in figures[WITH])
    return (
        f"{case.name}: {copies['copies']:,} copies answered to {asked:,} requests and the warm-up, "
        f"{copies['compared']:,} compared, {copies['different']:,} different; the front's CPU "
        f"{mid[WITHOUT]:.0f} µs per request without, {mid[WITH]:.0f} with"
    )


if __name__ == "__main__":
    main()
