"""Measure the serving path beside mosec: requests/s, p50, p99, CPU, as ratios within a round.

Every case starts our runtime twice (the second one shows the noise: self against self) and mosec,
then goes round them again and again, so that a slow minute of the machine meets all of them. Load
comes from wrk (Debian's package `wrk`) with one thread. Nothing else should run meanwhile.

    python -m bench                      all cases, 7 rounds
    python -m bench --case tiny --rounds 3 --seconds 1
    python -m bench --before v0.1.0      another commit's runtime in the same rounds
    python -m bench --json results.json
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.servers import HERE, Case, prepare_before, start_flambeau, start_mosec

EXAMPLE = HERE.parent / "examples" / "classifier"
FEATURES = [13.2, 1.78, 2.14, 11.2, 100.0, 2.65, 2.76, 0.26, 1.28, 4.38]
JSON_BODY = json.dumps({"features": FEATURES}).encode()


def cases() -> list[Case]:
    """Return every case; the expectations are ratios to mosec in requests/s, by clients."""
    handlers = HERE / "handlers"
    sleepy = handlers / "sleepy.py"
    classifier = Case(
        "classifier",
        EXAMPLE / "handler.py",
        workers=1,
        batch=32,
        delay_ms=2,
        body=JSON_BODY,
        serialized=EXAMPLE / "build" / "model-1.0.pt",
        extra=(EXAMPLE / "labels" / "index_to_name.json",),
        expected={1: 5.0, 32: 1.4, 128: 1.7},
    )
    return [
        classifier,
        Case("tiny", handlers / "tiny.py", 1, 32, 2, JSON_BODY, expected={1: 5, 32: 1.4, 128: 1.7}),
        Case("sleepy1", sleepy, 1, 16, 5, JSON_BODY, expected={1: 1.0, 32: 1.0, 128: 1.0}),
        Case(
            *("sleepy2", sleepy, 2, 16, 5, JSON_BODY),
            clients=(1, 16, 32, 128),
            expected={1: 1.0, 16: 1.15, 32: 1.0, 128: 1.0},
        ),
        Case(
            *("mebibyte", handlers / "bulk.py", 1, 4, 2, bytes(1 << 20)),
            content_type="application/octet-stream",
            clients=(1, 8),
            expected={1: 1.5, 8: 1.5},
        ),
    ]


def measure(server, case: Case, clients: int, seconds: int) -> dict:
    """Run wrk once and return its figures and the CPU the server's processes used meanwhile."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(case.body)
        body.flush()
        env = {**os.environ, "BENCH_BODY": body.name, "BENCH_CONTENT_TYPE": case.content_type}
        before = server.cpu_s()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "-s", HERE / "load.lua"]
        done = subprocess.run(
            [*command, "--latency", server.url], env=env, check=True, capture_output=True, text=True
        )
        after = server.cpu_s()
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("RESULT ")]
    result = json.loads(line.removeprefix("RESULT "))
    used = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
    answered = max(1, result["requests"])
    result["rps"] = result["requests"] / result["seconds"]
    result["cpu_us"] = 1e6 * sum(used.values()) / answered
    result["front_cpu_us"] = 1e6 * used.get(server.process.pid, 0.0) / answered
    return result


def bare(case: Case, seconds: float) -> float:
    """Return rows/s of the handler called in a loop in one process, full batches: the limit."""
    facts = {
        "handler": str(case.handler),
        "serialized": str(case.serialized or ""),
        "extra": [str(path) for path in case.extra],
        "batch": case.batch,
        "seconds": seconds,
        "body": case.body.decode("latin-1"),
        "content_type": case.content_type,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(facts, file)
        file.flush()
        done = subprocess.run(
            [sys.executable, HERE / "bare.py", file.name],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return float(done.stdout.split()[-1])


def run_case(case: Case, rounds: int, seconds: int, before: Path | None = None) -> dict:
    """Measure one case and return every figure of every round.

    `before` is the Python of another checkout, whose runtime goes round with the others.
    """
    servers = [start_flambeau(case), start_flambeau(case, "self"), start_mosec(case)]
    if before is not None:
        servers.append(start_flambeau(case, "before", before))
    results: dict = {"bare_rows_per_s": bare(case, seconds), "clients": {}}
    try:
        for clients in case.clients:
            for server in servers:
                measure(server, case, clients, 1)  # warm-up, not counted
        for number in range(rounds):
            for clients in case.clients:
                for server in random.sample(servers, len(servers)):
                    figures = measure(server, case, clients, seconds)
                    by_name = results["clients"].setdefault(clients, {})
                    by_name.setdefault(server.name, []).append(figures)
            print(f"  {case.name}: round {number + 1} of {rounds}", file=sys.stderr)
    finally:
        for server in servers:
            server.stop()
    return results


def ratio(rows: dict, top: str, bottom: str, key: str = "rps") -> tuple[float, float, float]:
    """Return median, lowest and highest of the ratios within each round."""
    ratios = [a[key] / b[key] for a, b in zip(rows[top], rows[bottom], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def before_table(results: dict[str, dict]) -> str:
    """Return the Markdown table of this checkout beside the other commit."""
    lines = ["| case | clients | requests/s, ratio to before (lowest to highest) | self/self |"]
    lines.append("|---|---|---|---|")
    for name, result in results.items():
        for clients, rows in result["clients"].items():
            median, low, high = ratio(rows, "flambeau", "before")
            noise, noise_low, noise_high = ratio(rows, "self", "flambeau")
            lines.append(
                f"| {name} | {clients} | **{median:.2f}** ({low:.2f} to {high:.2f}) "
                f"| {noise:.2f} ({noise_low:.2f} to {noise_high:.2f}) |"
            )
    return "\n".join(lines)


def table(results: dict[str, dict], wanted: dict[str, dict[int, float]]) -> str:
    """Return the Markdown table of all cases."""
    head = (
        "case | clients | requests/s | mosec | ratio (lowest to highest) | wanted | self/self | "
        "p50 ms (mosec) | p99 ms (mosec) | CPU µs/request (mosec) | front µs | bare rows/s"
    )
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    for name, result in results.items():
        for clients, rows in result["clients"].items():
            mid = {
                who: {key: statistics.median(r[key] for r in runs) for key in runs[0]}
                for who, runs in rows.items()
            }
            us, peer = mid["flambeau"], mid["mosec"]
            median, low, high = ratio(rows, "flambeau", "mosec")
            noise, noise_low, noise_high = ratio(rows, "self", "flambeau")
            goal = wanted[name].get(int(clients))
            errors = sum(r["errors"] for runs in rows.values() for r in runs)
            lines.append(
                f"| {name} | {clients} | {us['rps']:,.0f} | {peer['rps']:,.0f} "
                f"| **{median:.2f}** ({low:.2f} to {high:.2f}) | {goal or ''} "
                f"| {noise:.2f} ({noise_low:.2f} to {noise_high:.2f}) "
                f"| {us['p50_ms']:.2f} ({peer['p50_ms']:.2f}) "
                f"| {us['p99_ms']:.2f} ({peer['p99_ms']:.2f}) "
                f"| {us['cpu_us']:.0f} ({peer['cpu_us']:.0f}) | {us['front_cpu_us']:.0f} "
                f"| {result['bare_rows_per_s']:,.0f} |" + (f" errors: {errors}" if errors else "")
            )
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", help="only this case (repeatable)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of load per measurement")
    parser.add_argument("--before", metavar="REF", help="a commit to measure this one against")
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt-get install wrk")
    if not (EXAMPLE / "build" / "model-1.0.pt").exists():
        subprocess.run([sys.executable, EXAMPLE / "train.py"], check=True)
    chosen = [case for case in cases() if not options.case or case.name in options.case]
    if not chosen:
        raise SystemExit(f"no such case; there are: {', '.join(c.name for c in cases())}")
    before = prepare_before(options.before) if options.before else None
    started = time.monotonic()
    results = {
        case.name: run_case(case, options.rounds, options.seconds, before) for case in chosen
    }
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(table(results, {case.name: case.expected for case in chosen}))
    if before is not None:
        print(f"\n{before_table(results)}")
    print(f"\n{options.rounds} rounds, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
