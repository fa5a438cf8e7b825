"""The converger over real workers and real archives, and the fakes of its tests held to the same.

First come the claims that the fake fleet and store keep as the real ones do: what the converger's
own tests stand on. Then what only real processes can show.
"""

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import LoadFailed, ModelNotReady, RuntimeFault
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.desired import Source, WarmupRequest
from flambeau_runtime.serving.job import Payload, ask
from flambeau_runtime.serving.supervisor import Supervisor
from flambeau_runtime.settings import Limits, Settings
from flambeau_runtime.telemetry import Telemetry
from tests.dataplane.archives import files, make_mar, manifest
from tests.dataplane.fake_fleet import FakeFleet, FakeStore, document, version

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

SAYS = """
import os
def handle(data, context):
    if data is not None:
        return [{{"says": {says!r}, "mode": os.environ.get("MODE")}} for _ in data]
"""
BREAKS = "print('nearly there')\nraise RuntimeError('no such device')\n"
COUNTS = """
import pathlib
SEEN = pathlib.Path({seen!r})
def handle(data, context):
    if data is not None:
        for row in data:
            with SEEN.open("a") as file:
                file.write("x")
        return ["fine" for _ in data]
"""
REFUSES = """
def handle(data, context):
    if data is not None:
        raise ValueError("cold feet")
"""


def archived(folder, number, source=None, **changes):
    """A version and its archive."""
    handler = SAYS.format(says=number) if source is None else source
    entries = files(manifest(modelName="vision", modelVersion=number))
    path = make_mar(folder / f"vision-{number}.mar", {**entries, "handler.py": handler})
    return version(number, source=Source(path.as_uri()), **changes)


@asynccontextmanager
async def real_fleet(folder):
    settings = Settings(state_dir=folder, preload_torch=False, limits=Limits(drain_timeout_s=10.0))
    async with Supervisor(settings, Telemetry()) as supervisor:
        yield supervisor, Store(folder / "archives")


@asynccontextmanager
async def fake_fleet(folder):  # noqa: ARG001  as the real one
    fleet, store = FakeFleet(), FakeStore()
    fleet.broken["broken"] = "HandlerImportFailed"
    yield fleet, store


FLEETS = pytest.mark.parametrize(
    "make_fleet",
    [pytest.param(fake_fleet, id="the fakes"), pytest.param(real_fleet, id="the real ones")],
)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  facts of workers have no event of their own
            await asyncio.sleep(0.005)


async def opened(store, spec):
    path = await store.fetch(spec.source.uri, None, lambda *_: None)
    return await store.open(path, model=spec.model, version=spec.version, handler=spec.handler)


@FLEETS
async def test_an_archive_becomes_a_package(make_fleet, tmp_path):
    async with make_fleet(tmp_path) as (_, store):
        package = await opened(store, archived(tmp_path, "1.0"))
        assert (package.model, package.version) == ("vision", "1.0")
        assert package.digest.startswith("sha256:")
        assert package.size_bytes > 0
        await store.remove(package)


@FLEETS
async def test_an_added_version_tells_of_its_changes_and_becomes_ready(make_fleet, tmp_path):
    changes = []
    spec = archived(tmp_path, "1.0", workers=2)
    async with make_fleet(tmp_path) as (fleet, store):
        fleet.changed.append(lambda: changes.append(1))
        live = fleet.add(spec, await opened(store, spec))
        assert (live.counts().wanted, live.counts().ready, live.failure()) == (2, 0, None)
        await until(lambda: live.counts().ready == 2)
        assert changes
        assert (live.failure(), live.counts().failed) == (None, 0)
        payload = Payload("id", b"", b"{}", "application/json")
        assert (await ask(live, payload, 20)).status == 200
        await fleet.remove(live, 5)


@FLEETS
async def test_a_version_that_cannot_load_says_why_and_can_be_removed_at_once(make_fleet, tmp_path):
    spec = archived(tmp_path, "broken", BREAKS)
    async with make_fleet(tmp_path) as (fleet, store):
        live = fleet.add(spec, await opened(store, spec))
        await until(lambda: live.failure() is not None)
        assert live.failure().reason == "HandlerImportFailed"
        assert live.last_failure() == live.failure()
        assert live.failure().message
        assert live.log_tail()
        assert live.counts().ready == 0
        async with asyncio.timeout(10):
            await fleet.remove(live, 0.0)


@FLEETS
async def test_workers_change_live_and_a_removed_version_takes_nothing(make_fleet, tmp_path):
    spec = archived(tmp_path, "1.0")
    async with make_fleet(tmp_path) as (fleet, store):
        live = fleet.add(spec, await opened(store, spec))
        await until(lambda: live.counts().ready == 1)
        live.apply(replace(spec, workers=2))
        await until(lambda: live.counts().ready == 2)
        live.apply(replace(spec, workers=0))
        await until(lambda: live.counts().ready == 0)
        assert (live.failure(), live.spec.workers) == (None, 0)
        await fleet.remove(live)
        with pytest.raises(ModelNotReady):
            await ask(live, Payload("id", b"", b"{}", "application/json"), 5)


# only the real ones


class Real:
    """A converger over real parts."""

    def __init__(self, catalogue, converger, supervisor) -> None:
        self.catalogue = catalogue
        self.converger = converger
        self.supervisor = supervisor

    async def wants(self, *specs, **changes) -> None:
        self.converger.want(document(*specs, **changes))
        for spec in specs:
            assert await self.converger.settled(spec.model, spec.version, 30)

    async def says(self, number=None) -> dict:
        """What the version says that a request reaches."""
        live = self.catalogue.route("vision", number)
        answer = await ask(live, Payload("id", b"", b"{}", "application/json"), 20)
        return orjson.loads(bytes(answer.body))

    def seen(self, number):
        for model in self.catalogue.report().models:
            for report in model.versions:
                if report.version == number:
                    return report
        return None


@pytest.fixture
async def real(tmp_path):
    async with real_fleet(tmp_path) as (supervisor, store):
        catalogue = Catalogue()
        async with Converger(catalogue, supervisor, store, retry_delays_s=(0.2,)) as converger:
            yield Real(catalogue, converger, supervisor)


async def test_a_swap_under_load_fails_no_request(real, tmp_path):
    await real.wants(archived(tmp_path, "1.0"))
    said, failed, stop = [], [], asyncio.Event()

    async def client():
        while not stop.is_set():
            try:
                said.append((await real.says())["says"])
            except RuntimeFault as fault:
                failed.append(str(fault))
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(client())
        await real.wants(archived(tmp_path, "2.0"))
        assert await real.converger.gone("vision", "1.0", 30)
        stop.set()
    assert failed == []
    assert {"1.0", "2.0"} == set(said)
    assert len(real.supervisor.pids()) == 1


async def test_a_broken_candidate_leaves_the_old_version_and_no_process(real, tmp_path):
    await real.wants(archived(tmp_path, "1.0"))
    real.converger.want(document(archived(tmp_path, "2.0", BREAKS)))
    with pytest.raises(LoadFailed, match="no such device") as failed:
        await real.converger.settled("vision", "2.0", 30)
    assert failed.value.reason == "HandlerImportFailed"
    assert "nearly there" in failed.value.log_tail
    assert (await real.says())["says"] == "1.0"
    await until(lambda: real.seen("2.0").last_failure.attempts >= 2)
    real.converger.want(document(archived(tmp_path, "1.0")))
    await until(lambda: real.seen("2.0") is None and len(real.supervisor.pids()) == 1)


async def test_an_archive_cut_short_is_a_failure_of_its_version(real, tmp_path):
    await real.wants(archived(tmp_path, "1.0"))
    spec = archived(tmp_path, "2.0")
    path = tmp_path / "vision-2.0.mar"
    os.truncate(path, path.stat().st_size - 100)
    real.converger.want(document(spec))
    with pytest.raises(LoadFailed) as failed:
        await real.converger.settled("vision", "2.0", 30)
    assert failed.value.reason == "ArchiveInvalid"


async def test_every_warmup_request_is_answered_before_the_version_is_ready(real, tmp_path):
    seen = tmp_path / "seen"
    warmup = (WarmupRequest("[1]", repeat=3), WarmupRequest("[2]"))
    await real.wants(archived(tmp_path, "1.0", COUNTS.format(seen=str(seen)), warmup=warmup))
    assert seen.read_text() == "xxxx"


async def test_a_version_that_fails_its_warmup_says_what_its_handler_said(real, tmp_path):
    spec = archived(tmp_path, "1.0", REFUSES, warmup=(WarmupRequest("[1]"),))
    real.converger.want(document(spec))
    with pytest.raises(LoadFailed, match="cold feet") as failed:
        await real.converger.settled("vision", "1.0", 30)
    assert failed.value.reason == "WarmupFailed"


async def test_a_changed_environment_reaches_the_workers_and_the_version_stays(real, tmp_path):
    spec = archived(tmp_path, "1.0", env={"MODE": "a"})
    await real.wants(spec)
    before = real.catalogue.route("vision")
    assert (await real.says())["mode"] == "a"
    await real.wants(replace(spec, env={"MODE": "b"}))
    async with asyncio.timeout(30):
        while (await real.says())["mode"] != "b":
            pass
    assert real.catalogue.route("vision") is before


async def test_extracted_files_go_with_the_last_version_that_uses_them(real, tmp_path):
    await real.wants(archived(tmp_path, "1.0"))
    directory = real.catalogue.route("vision").package.directory
    assert directory.is_dir()
    real.converger.want(document())
    assert await real.converger.gone("vision", None, 30)
    await until(lambda: not directory.exists())
