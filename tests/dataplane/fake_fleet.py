"""Stand-ins for the supervisor and the archive store: their interface, no process, no file.

`tests/processes/test_converge_real.py` holds the real ones to the same claims.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from flambeau_runtime.archive.package import Package
from flambeau_runtime.errors import ModelNotReady
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import Document, ModelSpec, Owner, Source, Swap, VersionSpec
from flambeau_runtime.serving.job import Job, Prediction
from flambeau_runtime.serving.modes import Mode
from flambeau_runtime.serving.observed import Failure, WorkerCounts

DIGEST = "sha256:" + "0" * 64


def version(number: str = "1.0", model: str = "vision", **changes) -> VersionSpec:
    changes.setdefault("source", Source(f"file:///models/{model}-{number}.mar"))
    return VersionSpec(model=model, version=number, **changes)


def document(
    *specs: VersionSpec, default: str | None = "", swap: Swap = Swap.SIDE_BY_SIDE, **changes
) -> Document:
    """A document with these versions; the first version of each model is its default."""
    models: dict[str, list[VersionSpec]] = {}
    for spec in specs:
        models.setdefault(spec.model, []).append(spec)
    return Document(
        models=tuple(
            ModelSpec(
                name,
                versions[0].version if default == "" else default,
                tuple(versions),
                swap=swap,
            )
            for name, versions in models.items()
        ),
        **changes,
    )


OWNER = Owner("team-a", "vision", "uid-1")


class FakeLive:
    """A version whose workers are ready after a turn of the loop, unless they are held."""

    def __init__(self, fleet: FakeFleet, spec: VersionSpec, package: Package) -> None:
        self.fleet = fleet
        self.spec = spec
        self.package = package
        self.counters = Counters()
        self.mode = Mode()
        self.listens_only = False
        self.ready = 0
        self.broken: Failure | None = None
        self.answered: list[Job] = []
        self.applied: list[VersionSpec] = []
        self.drained = False
        self.queue: list[Job] = []
        self.may_leave = asyncio.Event()
        self.may_leave.set()

    def listen(self, *, only: bool) -> None:
        self.listens_only = only

    def become_ready(self) -> None:
        self.ready = self.spec.workers
        self.fleet.announce()

    def break_with(self, reason: str, message: str = "it broke") -> None:
        self.ready = 0
        self.broken = Failure(reason, message, "last words")
        self.fleet.announce()

    def submit(self, job: Job) -> None:
        if self.drained or self.spec.workers == 0:
            raise ModelNotReady(self.spec.model, self.spec.version, "has no worker")
        self.answered.append(job)
        self.fleet.answer(self, job)

    def apply(self, spec: VersionSpec) -> None:
        self.applied.append(spec)
        self.spec = spec
        asyncio.get_running_loop().call_soon(self.become_ready)

    def workers(self) -> tuple[()]:
        return ()

    def counts(self) -> WorkerCounts:
        if self.broken is not None:
            return WorkerCounts(self.spec.workers, 0, 0, self.spec.workers)
        return WorkerCounts(self.spec.workers, self.ready, max(self.spec.workers - self.ready, 0))

    @property
    def possible(self) -> int:
        return self.ready

    def failure(self) -> Failure | None:
        return self.broken

    def last_failure(self) -> Failure | None:
        return self.broken

    def log_tail(self) -> str:
        return "last words"

    def busy_seconds(self) -> float:
        return 0.0

    def queue_wait_s(self) -> float:
        return 0.0


class FakeFleet:
    """A supervisor without processes. `held` versions do not become ready by themselves."""

    def __init__(self) -> None:
        self.changed: list[Callable[[], None]] = []
        self.added: list[FakeLive] = []
        self.present: list[FakeLive] = []
        self.held: set[str] = set()
        self.broken: dict[str, str] = {}
        self.status = 200

    def add(self, spec: VersionSpec, package: Package) -> FakeLive:
        live = FakeLive(self, spec, package)
        self.added.append(live)
        self.present.append(live)
        if spec.version in self.broken:
            reason = self.broken[spec.version]
            asyncio.get_running_loop().call_soon(live.break_with, reason)
        elif spec.version not in self.held:
            asyncio.get_running_loop().call_soon(live.become_ready)
        return live

    def bound(self, capacities) -> None:
        self.capacities = capacities

    async def remove(self, live: FakeLive, timeout_s: float | None = None) -> None:
        live.drained = True
        if timeout_s != 0:
            await live.may_leave.wait()
        self.present.remove(live)
        self.announce()

    def answer(self, live: FakeLive, job: Job) -> None:  # noqa: ARG002  tests replace it
        job.resolve(Prediction(status=self.status, body=b'"warm"'))

    def announce(self) -> None:
        for callback in tuple(self.changed):
            callback()

    def of(self, number: str) -> FakeLive:
        """The one live version of that number."""
        (live,) = [live for live in self.present if live.spec.version == number]
        return live

    def numbers(self) -> list[str]:
        return sorted(live.spec.version for live in self.present)


class FakeStore:
    """A store without files. `errors` are raised for a URI, `gates` hold a fetch back."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.fetched: list[str] = []
        self.removed: list[Path] = []
        self.progress: Iterable[tuple[int, int | None]] = ()  # a local file tells none

    async def fetch(
        self,
        uri,
        digest=None,  # noqa: ARG002  the door's
        on_progress=None,
        credentials=None,  # noqa: ARG002  the door's
    ) -> Path:
        self.fetched.append(uri)
        for so_far, in_all in self.progress:
            on_progress(so_far, in_all)
        if uri in self.gates:
            await self.gates[uri].wait()
        if uri in self.errors:
            raise self.errors[uri]
        return Path("/store") / uri.rsplit("/", 1)[-1]

    async def open(
        self, path: Path, digest=None, *, model=None, version=None, handler=None
    ) -> Package:
        return Package(model, version, path, {}, digest or DIGEST, 10, handler or "handler.py", {})

    async def remove(self, package: Package) -> None:
        self.removed.append(package.directory)


class World:
    """A converger over fakes, and the questions that tests ask of it."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.fleet = FakeFleet()
        self.store = FakeStore()
        self.converger = Converger(
            self.catalogue, self.fleet, self.store, retry_delays_s=(0.01, 0.02)
        )

    async def wants(self, *specs: VersionSpec, **changes) -> None:
        """Want these versions and wait until they are there."""
        self.converger.want(document(*specs, **changes))
        for spec in specs:
            assert await self.converger.settled(spec.model, spec.version, 5)

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until the claim holds."""
        async with asyncio.timeout(5):
            while not claim():  # noqa: ASYNC110  a claim about anything has no event
                await asyncio.sleep(0)

    async def loading(self, number: str) -> None:
        """Wait until the version has workers that load."""
        await self.until(lambda: self.phase(number) == "Loading" and number in self.fleet.numbers())

    def phase(self, number: str, model: str = "vision") -> str | None:
        """The phase of a version, None when nobody knows it."""
        report = self.seen(number, model)
        return None if report is None else str(report.phase)

    def seen(self, number: str, model: str = "vision"):
        for seen in self.catalogue.report().models:
            for report in seen.versions:
                if (seen.name, report.version) == (model, number):
                    return report
        return None

    def answering(self, number: str | None = None, model: str = "vision") -> str:
        """The version that a request reaches."""
        return self.catalogue.route(model, number).spec.version
