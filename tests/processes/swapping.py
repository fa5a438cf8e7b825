"""A managed runtime's inside over real workers: converger, supervisor, memory, upkeep; no HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import RuntimeFault
from flambeau_runtime.serving.autoscale import Rules
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.desired import Source
from flambeau_runtime.serving.job import Payload, ask
from flambeau_runtime.serving.memory import held_bytes
from flambeau_runtime.serving.memory_meter import MemoryMeter
from flambeau_runtime.serving.supervisor import Supervisor
from flambeau_runtime.serving.upkeep import Upkeep
from flambeau_runtime.settings import Limits, Managed, Settings
from flambeau_runtime.telemetry import Telemetry
from tests.dataplane.archives import files, make_mar, manifest
from tests.dataplane.fake_fleet import OWNER, document, version
from tests.processes.living import until

MEBI = 1024 * 1024
SAYS = """
import time
BALLAST = bytearray({ballast})
BALLAST[::4096] = b"x" * len(BALLAST[::4096])
def handle(data, context):
    if data is not None:
        time.sleep({takes})
        return [{says!r} for _ in data]
"""


def archived(folder, number, source=None, ballast=0, takes=0.0, **changes):
    """A version and its archive; its workers hold `ballast` bytes and take `takes` seconds."""
    handler = source or SAYS.format(says=number, ballast=ballast, takes=takes)
    entries = files(manifest(modelName="vision", modelVersion=number))
    path = make_mar(folder / f"vision-{number}.mar", {**entries, "handler.py": handler})
    return version(number, source=Source(path.as_uri()), **changes)


class Inside:
    """The parts, and the questions that tests ask of them."""

    def __init__(self, catalogue, converger, supervisor, meter) -> None:
        self.catalogue = catalogue
        self.converger = converger
        self.supervisor = supervisor
        self.meter = meter

    def want(self, *specs, **changes):
        self.converger.want(document(*specs, owner=OWNER, **changes))

    async def wants(self, *specs, **changes):
        self.want(*specs, **changes)
        for spec in specs:
            assert await self.converger.settled(spec.model, spec.version, 30)

    async def says(self, number=None, body=b"{}"):
        live = self.catalogue.route("vision", number)
        answer = await ask(live, Payload("id", b"", body, "application/json"), 20)
        assert answer.status == 200, bytes(answer.body)
        return bytes(answer.body).decode()

    def seen(self, number):
        for model in self.catalogue.report().models:
            for report in model.versions:
                if report.version == number:
                    return report
        return None

    def ready(self, number):
        report = self.seen(number)
        return 0 if report is None else report.workers.ready

    async def settles(self, **ready):
        """Wait until there are exactly these workers: `v1=3` for version 1.0."""
        counts = {f"{name[1:]}.0": count for name, count in ready.items()}
        await until(
            lambda: (
                all(self.ready(number) == count for number, count in counts.items())
                and len(self.supervisor.pids()) == sum(counts.values())
            ),
            30,
        )


@asynccontextmanager
async def inside(folder, *, declared_bytes=None, swap_delay_s=0.0, rules=None):
    settings = Settings(
        state_dir=folder,
        preload_torch=False,
        limits=Limits(drain_timeout_s=10.0),
        managed=Managed(folder / "boot.json", OWNER.uid),
    )
    catalogue = Catalogue()
    async with Supervisor(settings, Telemetry()) as supervisor:
        meter = MemoryMeter(supervisor, declared_bytes)
        converger = Converger(
            catalogue,
            supervisor,
            Store(folder / "archives"),
            retry_delays_s=(0.3,),
            swap_delay_s=swap_delay_s,
            shortage=meter.shortage,
        )
        async with Upkeep(catalogue, meter, rules or Rules()), converger:
            yield Inside(catalogue, converger, supervisor, meter)


class Watch:
    """Clients that ask all the time, and an eye on the processes."""

    def __init__(self, within) -> None:
        self.within = within
        self.said = []
        self.failed = []
        self.most_processes = 0
        self.most_bytes = 0


@asynccontextmanager
async def watched(within, clients=4):
    """Ask and watch while the block runs."""
    watch = Watch(within)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_client(watch)) for _ in range(clients)]
        running += [tasks.create_task(_count(watch)), tasks.create_task(_weigh(watch))]
        yield watch
        for task in running:
            task.cancel()


async def _client(watch):
    while True:
        try:
            watch.said.append(await watch.within.says())
        except RuntimeFault as fault:
            watch.failed.append(fault)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.001)


async def _count(watch):
    while True:
        watch.most_processes = max(watch.most_processes, len(worker_processes()))
        await asyncio.sleep(0.003)


async def _weigh(watch):
    while True:
        watch.most_bytes = max(watch.most_bytes, await asyncio.to_thread(weight))
        await asyncio.sleep(0.02)


def weight():
    """What all workers of this process hold together."""
    return sum(map(held_bytes, worker_processes()))


def worker_processes():
    """Every child of this process that runs our worker, whatever the supervisor knows of it."""
    children = []
    for task in Path("/proc/self/task").iterdir():
        try:
            children += [int(pid) for pid in (task / "children").read_text().split()]
        except OSError:
            continue
    return [pid for pid in children if _is_worker(pid)]


def _is_worker(pid):
    try:
        return b"flambeau_runtime.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
