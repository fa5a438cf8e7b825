"""How much of a GPU the server gets to use: requests/s beside the bare handler's loop.

python -m bench.gpu [--seconds 3]

The loop calls the handler on full batches in one process with no server around it, which is the
limit for one worker. Clients are processes of their own and wait for each answer.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

from bench.servers import Case, start_flambeau

HANDLER = Path(__file__).parent / "handlers" / "pictures.py"
BATCHES = (1, 8, 32)
CLIENTS = (32, 1, 8, 32, 64, 128)
"""The first round meets batches of sizes that are new to cuDNN, the others hardly any."""
SIDES = (32, 224)
CLIENT_PROCESSES = 4
FULL = 32
SETTLE_S = 1.0


def body(side: int) -> bytes:
    """Return a picture that is not all zeros: those can be quicker to compute with."""
    return bytes(number * 31 % 251 for number in range(side * side * 3))


def rows_per_second(side: int, batch: int, seconds: float) -> float:
    """Call the handler on batches, from the bytes of bodies to JSON, and count rows."""
    spec = importlib.util.spec_from_file_location("bench_handler", HANDLER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler = module.Pictures()
    where = {"model_dir": str(HANDLER.parent), "gpu_id": 0, "batch_size": batch}
    handler.initialize(SimpleNamespace(system_properties=where, manifest={"model": {}}))
    data = [{"body": body(side)} for _ in range(batch)]

    def once() -> None:
        answers = handler.postprocess(handler.inference(handler.preprocess(data)))
        for answer in answers:
            json.dumps(answer)

    for _ in range(20):  # kernels are chosen and loaded by the first calls
        once()
    if batch == FULL:
        print_first_calls(handler, data)
    calls, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        once()
        calls += 1
    return calls * batch / spent


def print_first_calls(handler, data: list) -> None:
    """Say what the first batch of each size costs, and what the next one of that size does."""
    first, second = [], []
    for size in range(2, FULL):
        for taken in (first, second):
            begun = time.perf_counter()
            handler.postprocess(handler.inference(handler.preprocess(data[:size])))
            taken.append((time.perf_counter() - begun) * 1000)
    print(
        f"a batch of a new size, sizes 2 to {FULL - 1}: median {statistics.median(first):.1f} ms, "
        f"at most {max(first):.0f}; the next of that size: {statistics.median(second):.1f} ms, "
        f"at most {max(second):.0f}"
    )


@dataclass(frozen=True)
class Load:
    """What one process of clients does."""

    url: str
    body: bytes
    clients: int
    seconds: float


def run_clients(load: Load) -> list[float]:
    """Return the milliseconds of each request after the first moments.

    Raises:
        RuntimeError: one was not answered by 200.
    """
    return asyncio.run(_clients(load))


async def _clients(load: Load) -> list[float]:
    begun = time.perf_counter()
    taken: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.clients):
            tasks.create_task(_client(load, begun + SETTLE_S, taken))
    return taken


async def _client(load: Load, counts_from: float, taken: list[float]) -> None:
    place = urlsplit(load.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    request = (
        f"POST {place.path} HTTP/1.1\r\nhost: here\r\ncontent-type: application/octet-stream\r\n"
        f"content-length: {len(load.body)}\r\n\r\n"
    ).encode() + load.body
    while (sent := time.perf_counter()) < counts_from + load.seconds:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if sent >= counts_from:
            taken.append((time.perf_counter() - sent) * 1000)
    writer.close()


def split(clients: int) -> list[int]:
    """Return how many clients each process gets."""
    processes = min(CLIENT_PROCESSES, clients)
    return [clients // processes + (it < clients % processes) for it in range(processes)]


class Utilisation:
    """What nvidia-smi says of the GPU while a block runs; None where there is no such tool."""

    def __enter__(self) -> Utilisation:
        command = ["nvidia-smi", "-i", "0", "--query-gpu=utilization.gpu", "-lms", "200"]
        try:
            self._tool = subprocess.Popen(
                [*command, "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, text=True
            )
        except OSError:
            self._tool = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._tool is not None:
            self._tool.terminate()

    def percent(self) -> str:
        """Return the mean of all readings but the first moments'."""
        if self._tool is None:
            return "?"
        self._tool.terminate()
        said, _ = self._tool.communicate()
        read = [int(it) for it in said.split() if it.isdecimal()]
        read = read[int(SETTLE_S * 5) :]
        return f"{sum(read) / len(read):.0f}" if read else "?"


def measure(side: int, workers: int, clients: tuple[int, ...], seconds: float, bare: float) -> None:
    """Print a line for each number of clients."""
    case = Case(
        f"pictures{side}w{workers}",
        HANDLER,
        workers,
        FULL,
        5,
        body(side),
        "application/octet-stream",
    )
    server = start_flambeau(case)
    try:
        for count in clients:
            loads = [Load(server.url, case.body, share, seconds) for share in split(count)]
            with (
                multiprocessing.get_context("spawn").Pool(len(loads)) as pool,
                Utilisation() as used,
            ):
                taken = sorted(ms for each in pool.map(run_clients, loads) for ms in each)
                percent = used.percent()
            rate = len(taken) / seconds
            p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
            print(
                f"| {side} | {workers} | {count} | {rate:,.0f} | {rate / bare:.2f} "
                f"| {p50:.2f} | {p99:.2f} | {percent} |",
                flush=True,
            )
    finally:
        server.stop()


def bare_rates(side: int, seconds: float) -> dict[int, float]:
    """Measure the loop in a process of its own: it would keep the GPU's memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return dict(
            zip(
                BATCHES,
                pool.starmap(rows_per_second, [(side, it, seconds) for it in BATCHES]),
                strict=True,
            )
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    for side in SIDES:
        bare = bare_rates(side, seconds)
        said = ", ".join(f"{rate:,.0f} in batches of {batch}" for batch, rate in bare.items())
        print(f"bare rows/s, {side}x{side}: {said}\n")
        print("| side | workers | clients | requests/s | to bare | p50 ms | p99 ms | GPU busy % |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        measure(side, 1, CLIENTS, seconds, bare[FULL])
        measure(side, 2, (64,), seconds, bare[FULL])
        print()


if __name__ == "__main__":
    sys.exit(main())
