"""What a runtime weighs and how fast it grows: front's own memory, and the time to a second worker.

python -m bench.footprint
"""

import json
import statistics
import time
import urllib.request
from pathlib import Path

from bench.__main__ import EXAMPLE, cases, measure
from bench.servers import BUILD, start_flambeau

ROUNDS = 7


def pss_mb(pid: int) -> float:
    """Return the proportional set size of one process, in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel reports no Pss")


def call(method: str, url: str) -> object:
    """Return the parsed answer of one management call."""
    request = urllib.request.Request(url, method=method)  # noqa: S310  loopback
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310  loopback
        return json.load(response)


def seconds_to_workers(model: str, count: int) -> float:
    """Ask for `count` workers and return the seconds until all of them are ready."""
    start = time.perf_counter()
    call("PUT", f"{model}?min_worker={count}")
    while True:
        (description,) = call("GET", model)
        states = [worker["status"] for worker in description["workers"]]
        if states == ["READY"] * count:
            return time.perf_counter() - start
        time.sleep(0.002)


def main() -> None:
    """Measure and print both."""
    if not (EXAMPLE / "build" / "model-1.0.pt").exists():
        raise SystemExit("build the example first: make example")
    (case,) = [case for case in cases() if case.name == "classifier"]
    server = start_flambeau(case)
    try:
        measure(server, case, 32, 2)
        print(f"front after predictions only:  {pss_mb(server.process.pid):.1f} MB PSS (<= 45)")
        listening = json.loads((BUILD / f"state-{case.name}-flambeau/listening.json").read_text())
        model = f"{listening['management']}/models/{case.name}"
        call("GET", model)
        print(f"front after a management call: {pss_mb(server.process.pid):.1f} MB PSS")
        times = []
        for _ in range(ROUNDS):
            times.append(seconds_to_workers(model, 2))
            call("PUT", f"{model}?min_worker=1&synchronous=true")
        print(
            f"a second torch worker serves after {statistics.median(times):.3f} s "
            f"({min(times):.3f} to {max(times):.3f}, {ROUNDS} times; <= 0.3)"
        )
        workers = [p.pid for p in server.tree()[1:]]
        sizes = ", ".join(f"{pss_mb(pid):.0f}" for pid in workers)
        print(f"other processes of the runtime: {sizes} MB PSS")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
