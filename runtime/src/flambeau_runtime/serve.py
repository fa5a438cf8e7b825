"""The composition root: builds every part once, serves until told to stop, and drains.

Nothing else in the runtime constructs these parts or knows how they hang together.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvloop

from flambeau_runtime import logs, state_dir
from flambeau_runtime.api import (
    asgi,
    inference,
    openapi,
    openapi_inference,
    openapi_management,
    state,
)
from flambeau_runtime.api.authorisation import (
    InferenceGate,
    Keys,
    make_inference_gate,
    make_keys,
    make_management_gate,
    make_state_gate,
)
from flambeau_runtime.api.grpc.listener import Behind, GrpcListener, Server, claim
from flambeau_runtime.api.hot_path import HotPath, make_protocol
from flambeau_runtime.api.listener import Listener, bind, url_of_address
from flambeau_runtime.api.tls import Identity, make_context, read_fitting_identity
from flambeau_runtime.archive.environments import Environments
from flambeau_runtime.archive.store import Around, Store
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.serving import orphans
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.start_models import (
    StartModels,
    count_start_workers,
    has_start_models,
)
from flambeau_runtime.serving.supervisor import Supervisor, without_hidden
from flambeau_runtime.settings import Address, MetricsMode, Settings
from flambeau_runtime.telemetry import Telemetry, VersionMetrics, make_telemetry

log = logging.getLogger(__name__)

Urls = Mapping[str, str]
"""inference, management, metrics → where a client on this machine reaches it; grpc_inference and
grpc_management → host:port."""

OnStarted = Callable[[Urls], None]

ROLES = ("inference", "management", "metrics")
LOOK_AGAIN_S = 3600.0
START_PATIENCE_S = 30.0
IDLE_S = 1.0
SETTLING_S = 0.2
"""A scrape waits no longer for what workers have to say."""
LISTENING_FILE = "listening.json"


def run(settings: Settings, log_level: str = "INFO", on_started: OnStarted | None = None) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    Args:
        settings: the whole configuration.
        log_level: the lowest level that is logged.
        on_started: called once, when the listeners answer and start-up models take requests, or
            half a minute after they were asked for.

    Raises:
        InvalidSettings: an address or the state directory cannot be had.
    """
    with (
        state_dir.held(settings) as complete,
        logs.writing(settings.log_dir, log_level, metrics_dir=settings.metrics_dir) as access,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        telemetry = make_telemetry(complete)
        if access is not None:
            telemetry.listen(access.note)
        try:
            runner.run(serve(complete, telemetry, on_started))
        except InvalidSettings:
            raise
        except Exception:
            # In the background nobody sees what Python prints at the end of a process.
            log.exception("ended unexpectedly")
            raise


async def serve(
    settings: Settings, telemetry: Telemetry, on_started: OnStarted | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; see `run`."""
    if settings.introduction:
        log.info(settings.introduction)
    tls = _make_tls(settings)
    sockets = _bind_all(settings)
    identity = read_fitting_identity(settings.tls) if settings.grpc_tls else None
    claims = _claim_all(settings)
    for warning in settings.warnings:
        log.warning("configuration", extra={"why": warning})
    async with _signals() as signals, AsyncExitStack() as stack:
        stack.enter_context(orphans.buried())
        parts = await _build(settings, telemetry, stack)
        doors = _Doors(parts, sockets, tls, claims, identity)
        await doors.open()
        urls = doors.urls()
        if settings.log_dir is not None:
            _say_that_it_listens(settings)
        with _listening_file(settings.state_dir, urls):
            log.info("listening", extra=dict(urls))
            async with asyncio.TaskGroup() as tasks:
                meanwhile = (
                    tasks.create_task(_start(parts, doors, on_started)),
                    tasks.create_task(_ask_to_leave_once_draining(parts.catalogue, doors)),
                    tasks.create_task(_watch_machine(parts)),
                )
                await signals.stop.wait()
                for task in meanwhile:
                    task.cancel()
                await _drain(parts, doors, signals)
    log.info("stopped")


def _say_that_it_listens(settings: Settings) -> None:
    """Say what scripts around TorchServe wait for."""
    for role in ROLES:
        where = url_of_address(getattr(settings, role))
        log.info("%s API bind to: %s", role.capitalize(), where)
    logging.getLogger(logs.CONSOLE).info("Model server started.")


async def _start(parts: _Parts, doors: _Doors, on_started: OnStarted | None) -> None:
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(_ask_for_start_models(parts))
        await doors.open_grpc()
        # Whoever waits for the start does not wait for a download of an hour.
        await asyncio.wait([asking], timeout=START_PATIENCE_S)
        if on_started is not None:
            on_started(doors.urls())


async def _ask_for_start_models(parts: _Parts) -> None:
    if parts.settings.managed is None:
        await parts.start_models.ask_for_all()
        parts.catalogue.begin()


@dataclass(frozen=True, slots=True)
class _Parts:
    settings: Settings
    telemetry: Telemetry
    catalogue: Catalogue
    store: Store
    supervisor: Supervisor
    converger: Converger
    start_models: StartModels
    accepted: state.Documents | None
    keys: Keys | None


async def _build(settings: Settings, telemetry: Telemetry, stack: AsyncExitStack) -> _Parts:
    catalogue = Catalogue(
        waits_for_document=settings.managed is not None or has_start_models(settings)
    )
    telemetry.versions = lambda: _version_metrics(catalogue)
    store = _make_store(settings)
    supervisor = Supervisor(settings, telemetry)
    supervisor.expected_workers = count_start_workers(settings)
    await stack.enter_async_context(supervisor)
    converger = await stack.enter_async_context(Converger(catalogue, supervisor, store))
    accepted = await _accept_documents(settings, converger, stack)
    keys = make_keys(settings)
    if keys is not None:
        stack.callback(keys.remove)
    start_models = StartModels(settings, store, catalogue, converger)
    return _Parts(
        settings,
        telemetry,
        catalogue,
        store,
        supervisor,
        converger,
        start_models,
        accepted,
        keys,
    )


def _make_store(settings: Settings) -> Store:
    root = (settings.cache_dir or settings.state_dir) / "archives"
    environments = Environments(
        root / "environments",
        without_hidden(os.environ, settings.hidden_env),
        install=settings.install_requirements,
    )
    return Store(
        root,
        settings.model_store,
        settings.allowed_urls,
        around=Around(
            shared=settings.cache_dir is not None, default_handler=settings.default_handler
        ),
        environments=environments,
    )


async def _accept_documents(
    settings: Settings, converger: Converger, stack: AsyncExitStack
) -> state.Documents | None:
    if settings.managed is None:
        return None
    # pydantic parses documents; a runtime that gets none does without it until it is managed.
    from flambeau_runtime.serving.accepted import AcceptedDocument  # noqa: PLC0415

    return await stack.enter_async_context(
        AcceptedDocument(settings.managed, settings.state_dir, settings.limits, converger)
    )


def _version_metrics(catalogue: Catalogue) -> list[VersionMetrics]:
    return [
        VersionMetrics(
            model=live.spec.model,
            version=live.spec.version,
            errors=live.counters.errors,
            latency=live.counters.latency,
            queue=live.counters.queue,
            queue_wait_ms=live.queue_wait_s() * 1000,
            batch_ms=live.queue.policy.batch_s * 1000,
            workers=live.counts().ready,
        )
        for live in catalogue.lives()
    ]


# the listeners


def _bind_all(settings: Settings) -> dict[Address, tuple[socket.socket, set[str]]]:
    """Bind every address once: equal ones share a socket, port 0 is never equal to another."""
    bound: dict[Address, tuple[socket.socket, set[str]]] = {}
    for role in ROLES:
        address: Address = getattr(settings, role)
        if (address.port or address.path) and address in bound:
            bound[address][1].add(role)
            continue
        listening = bind(f"{role}_address", address)
        if address.path is None:
            address = replace(address, port=listening.getsockname()[1])
        bound[address] = listening, {role}
    return bound


def _make_tls(settings: Settings) -> ssl.SSLContext | None:
    if not any(getattr(settings, role).tls for role in ROLES):
        return None
    return make_context(settings.tls)


def _claim_all(settings: Settings) -> list[tuple[socket.socket, set[str]]]:
    """Hold every gRPC address once; equal ones share a server."""
    claimed: dict[Address, tuple[socket.socket, set[str]]] = {}
    for role in ("inference", "management"):
        address: Address | None = getattr(settings, f"grpc_{role}")
        if address is None:
            continue
        if address.port and address in claimed:
            claimed[address][1].add(role)
            continue
        held = claim(f"grpc_{role}", address)
        claimed[Address(address.host, held.getsockname()[1])] = held, {role}
    return list(claimed.values())


class _Doors:
    """The listeners of this process, and what is behind each."""

    def __init__(
        self,
        parts: _Parts,
        bound: Mapping[Address, tuple[socket.socket, set[str]]],
        tls: ssl.SSLContext | None,
        claims: Iterable[tuple[socket.socket, set[str]]],
        identity: Identity | None,
    ) -> None:
        gate = make_inference_gate(parts.settings, parts.keys)
        self._protocol = make_protocol(
            parts.catalogue,
            parts.settings,
            parts.telemetry,
            gate,
            parts.settings.limits.max_connection_age_s,
        )
        apps = _make_apps(parts, gate)
        drain_timeout_s = parts.settings.limits.drain_timeout_s
        self._grpc = [(roles, GrpcListener(held, drain_timeout_s)) for held, roles in claims]
        self._behind_grpc = Behind(
            parts.settings,
            parts.catalogue,
            parts.telemetry,
            apps["management"],
            gate,
            identity,
        )
        self._listeners = [
            (roles, self._listener(parts, listening, roles, apps, tls if address.tls else None))
            for address, (listening, roles) in bound.items()
        ]

    def _listener(
        self,
        parts: _Parts,
        listening: socket.socket,
        roles: set[str],
        apps: Mapping[str, asgi.App],
        tls: ssl.SSLContext | None,
    ) -> Listener:
        protocol: type[HotPath] | None = self._protocol if "inference" in roles else None
        app = asgi.Counted(_one_app(roles, apps), parts.telemetry)
        drain_timeout_s = parts.settings.limits.drain_timeout_s
        cors = parts.settings.cors
        return Listener(listening, app, protocol, drain_timeout_s, cors, tls)

    def urls(self) -> Urls:
        urls = {role: listener.url for roles, listener in self._listeners for role in roles}
        for roles, listener in self._grpc:
            urls |= dict.fromkeys((f"grpc_{role}" for role in roles), listener.target)
        return urls

    async def open(self) -> None:
        for _, listener in self._listeners:
            await listener.open()

    async def open_grpc(self) -> None:
        for roles, listener in self._grpc:
            await listener.open(partial(_make_grpc_server, self._behind_grpc, roles))
            extra = dict.fromkeys(sorted(roles), listener.target)
            log.info("listening for gRPC", extra=extra)

    def ask_to_leave(self) -> None:
        """Have every answered prediction close its connection."""
        self._protocol.door.draining = True

    def close_idle(self) -> None:
        """Close the connections for predictions that lie idle."""
        for _, listener in self._listeners:
            listener.close_idle(IDLE_S)

    async def close(self, *, inference_only: bool) -> None:
        async with asyncio.TaskGroup() as closing:
            for roles, listener in self._everything():
                if ("inference" in roles) is inference_only:
                    closing.create_task(listener.close())

    def hurry(self) -> None:
        for _, listener in self._everything():
            listener.hurry()

    def _everything(self) -> list[tuple[set[str], Listener | GrpcListener]]:
        return [*self._listeners, *self._grpc]


def _make_grpc_server(behind: Behind, roles: set[str], target: str) -> Server:
    # grpc and protobuf take a third of a second to import: not before HTTP answers.
    from flambeau_runtime.api.grpc.services import make_server  # noqa: PLC0415

    return make_server(behind, roles, target)


def _make_apps(parts: _Parts, gate: InferenceGate | None) -> dict[str, asgi.App]:
    state_gate = make_state_gate(parts.settings, parts.keys, parts.accepted)
    return {
        "inference": inference.make_inference_app(parts.catalogue, gate),
        "state": state.make_state_app(parts.catalogue, state_gate, parts.accepted),
        "management": asgi.MadeWhenCalled(lambda: _management_app(parts)),
        "metrics": asgi.MadeWhenCalled(lambda: _metrics_app(parts)),
    }


def _one_app(roles: set[str], apps: Mapping[str, asgi.App]) -> asgi.App:
    """Return what is behind one address; where it has several roles, the path tells them apart."""
    described = openapi.make_description_app(lambda: _describe(roles))
    segments: dict[str, asgi.App] = dict.fromkeys(openapi.SEGMENTS, described)
    if "inference" in roles:
        segments.update(dict.fromkeys(inference.SEGMENTS, apps["inference"]))
    if "metrics" in roles or {"inference", "management"} <= roles:
        segments["metrics"] = apps["metrics"]
    if "management" in roles:
        segments.update(dict.fromkeys(state.SEGMENTS, apps["state"]))
    last = next(role for role in ("management", "inference", "metrics") if role in roles)
    return asgi.Doors(segments, apps[last])


def _describe(roles: set[str]) -> openapi.Json:
    """Return the OpenAPI document of an address with these roles."""
    paths = openapi.own_paths()
    schemas: openapi.Json = {}
    for role, part in (("inference", openapi_inference), ("management", openapi_management)):
        if role in roles:
            paths |= part.paths()
            schemas |= part.schemas()
    if "metrics" in roles or {"inference", "management"} <= roles:
        paths |= openapi.metrics_paths()
    return openapi.document(paths, schemas)


def _management_app(parts: _Parts) -> asgi.App:
    # fastapi takes most of a second to import: not before somebody manages something.
    from flambeau_runtime.api.management import Verbs, make_management_app  # noqa: PLC0415

    verbs = Verbs(
        parts.settings,
        parts.catalogue,
        parts.converger,
        parts.store,
        parts.start_models.keys,
    )
    gate = make_management_gate(parts.settings, parts.keys)
    return make_management_app(verbs, gate, parts.keys)


def _metrics_app(parts: _Parts) -> asgi.App:
    # prometheus_client and psutil likewise: not before somebody scrapes.
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    from flambeau_runtime.api.machine import Machine, make_look  # noqa: PLC0415
    from flambeau_runtime.api.metrics import RuntimeCollector, make_metrics_app  # noqa: PLC0415

    settings, recorder = parts.settings, parts.telemetry.recorder
    registry = CollectorRegistry()
    machine = Machine(make_look(settings), recorder)
    if settings.metrics_page and settings.metrics_mode is not MetricsMode.LOG:
        registry.register(machine)  # first: what it finds may be shown by the other
        registry.register(RuntimeCollector(parts.telemetry, recorder))
    return make_metrics_app(registry, machine.read, lambda: parts.supervisor.settle(SETTLING_S))


async def _watch_machine(parts: _Parts) -> None:
    """Log the machine's numbers now and then, where nobody can scrape them."""
    recorder = parts.telemetry.recorder
    if recorder is None or parts.settings.metrics_mode is MetricsMode.PROMETHEUS:
        return
    from flambeau_runtime.api.machine import Machine, make_look, watch  # noqa: PLC0415

    machine = Machine(make_look(parts.settings), recorder)
    await watch(machine, parts.settings.metrics_interval_s)


@contextmanager
def _listening_file(folder: Path, urls: Urls) -> Iterator[None]:
    """Tell others on this machine where we listen, for as long as we do."""
    path = folder / LISTENING_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": os.getpid(), **urls}))
    partial.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


# the end


async def _ask_to_leave_once_draining(catalogue: Catalogue, doors: _Doors) -> None:
    """Watch for `POST /drain`: from then on every answer closes its connection."""
    while not catalogue.draining:
        await catalogue.wait_changed(catalogue.revision, LOOK_AGAIN_S)
    doors.ask_to_leave()


@dataclass(frozen=True, slots=True)
class _Signals:
    stop: asyncio.Event
    hurry: asyncio.Event

    def take(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


@asynccontextmanager
async def _signals() -> AsyncIterator[_Signals]:
    """Take SIGTERM and SIGINT: the first says stop, the second says now."""
    taken = _Signals(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, taken.take)
    try:
        yield taken
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _drain(parts: _Parts, doors: _Doors, signals: _Signals) -> None:
    """Stop being ready, wait until others have noticed, answer what was asked, close."""
    log.info("draining")
    parts.catalogue.start_draining()
    doors.ask_to_leave()
    await _let_clients_leave(parts.settings.limits.drain_delay_s, doors, signals)
    async with asyncio.TaskGroup() as tasks:
        hurrying = tasks.create_task(_hurry_when_told(signals, doors))
        await doors.close(inference_only=True)
        parts.catalogue.close()
        await doors.close(inference_only=False)
        hurrying.cancel()


async def _let_clients_leave(seconds: float, doors: _Doors, signals: _Signals) -> None:
    """Wait until others have noticed, and close early what lies idle.

    A request that is sent just as its connection is closed is lost. What was not used for a second
    is hardly picked by a client; at the end, when the start of a successor may slow clients down
    and have them reach for whatever they have kept, nothing is left to pick.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0 and not signals.hurry.is_set():
        doors.close_idle()
        await _wait(signals.hurry, min(left, IDLE_S / 2))


async def _hurry_when_told(signals: _Signals, doors: _Doors) -> None:
    await signals.hurry.wait()
    doors.hurry()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
