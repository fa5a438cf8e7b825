"""The listeners of a runtime: where it binds, and what is behind each address."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

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
    make_inference_gate,
    make_management_gate,
    make_state_gate,
)
from flambeau_runtime.api.grpc.listener import Behind, GrpcListener, Server, claim
from flambeau_runtime.api.hot_path import HotPath, make_protocol
from flambeau_runtime.api.listener import Listener, bind
from flambeau_runtime.api.tls import Identity, make_context, read_fitting_identity
from flambeau_runtime.parts import Parts
from flambeau_runtime.settings import Address, MetricsMode, Settings

log = logging.getLogger(__name__)

Urls = Mapping[str, str]
"""inference, management, metrics → where a client on this machine reaches it; grpc_inference and
grpc_management → host:port."""

ROLES = ("inference", "management", "metrics")
IDLE_S = 1.0
SETTLING_S = 0.2
"""A scrape waits no longer for what workers have to say."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Every address of a runtime, held before anything is built, and what TLS shows there."""

    sockets: Mapping[Address, tuple[socket.socket, set[str]]]
    tls: ssl.SSLContext | None
    claims: list[tuple[socket.socket, set[str]]]  # of gRPC, whose library binds by itself
    identity: Identity | None


def bind_all(settings: Settings) -> Bound:
    """Hold every address that the settings name.

    Raises:
        InvalidSettings: one cannot be had, or what TLS needs is not there.
    """
    tls = _make_tls(settings)
    sockets = _bind_all(settings)
    identity = read_fitting_identity(settings.tls) if settings.grpc_tls else None
    return Bound(sockets, tls, _claim_all(settings), identity)


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


class Doors:
    """The listeners of this process, and what is behind each."""

    def __init__(
        self,
        parts: Parts,
        bound: Bound,
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
        self._grpc = [(roles, GrpcListener(held, drain_timeout_s)) for held, roles in bound.claims]
        self._behind_grpc = Behind(
            parts.settings,
            parts.catalogue,
            parts.telemetry,
            apps["management"],
            gate,
            bound.identity,
        )
        self._listeners = [
            (
                roles,
                self._listener(parts, listening, roles, apps, bound.tls if address.tls else None),
            )
            for address, (listening, roles) in bound.sockets.items()
        ]

    def _listener(
        self,
        parts: Parts,
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
        """Return where each role is reached on this machine."""
        urls = {role: listener.url for roles, listener in self._listeners for role in roles}
        for roles, listener in self._grpc:
            urls |= dict.fromkeys((f"grpc_{role}" for role in roles), listener.target)
        return urls

    async def open(self) -> None:
        """Answer over HTTP."""
        for _, listener in self._listeners:
            await listener.open()

    async def open_grpc(self) -> None:
        """Answer over gRPC, whose library takes a while to be there."""
        for roles, listener in self._grpc:
            await listener.open(partial(_make_grpc_server, self._behind_grpc, roles))
            extra = dict.fromkeys(sorted(roles), listener.target)
            log.info("listening for gRPC", extra=extra)

    def ask_to_leave(self, *, away: bool = True) -> None:
        """Have every answered prediction close its connection; not `away`: let it stay open."""
        self._protocol.door.draining = away

    def close_idle(self) -> None:
        """Close the connections for predictions that lie idle."""
        for _, listener in self._listeners:
            listener.close_idle(IDLE_S)

    async def close(self, *, inference_only: bool) -> None:
        """Let what was asked be answered, and close: the doors for inference, or the others."""
        async with asyncio.TaskGroup() as closing:
            for roles, listener in self._everything():
                if ("inference" in roles) is inference_only:
                    closing.create_task(listener.close())

    def hurry(self) -> None:
        """Wait for no answer any more."""
        for _, listener in self._everything():
            listener.hurry()

    def _everything(self) -> list[tuple[set[str], Listener | GrpcListener]]:
        return [*self._listeners, *self._grpc]


def _make_grpc_server(behind: Behind, roles: set[str], target: str) -> Server:
    # grpc and protobuf take a third of a second to import: not before HTTP answers.
    from flambeau_runtime.api.grpc.services import make_server  # noqa: PLC0415

    return make_server(behind, roles, target)


def _make_apps(parts: Parts, gate: InferenceGate | None) -> dict[str, asgi.App]:
    state_gate = make_state_gate(parts.settings, parts.keys, parts.accepted)
    return {
        "inference": inference.make_inference_app(parts.catalogue, gate),
        "state": state.make_state_app(
            parts.catalogue, state_gate, parts.accepted, parts.memory_meter
        ),
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


def _management_app(parts: Parts) -> asgi.App:
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


def _metrics_app(parts: Parts) -> asgi.App:
    # prometheus_client and psutil likewise: not before somebody scrapes.
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    from flambeau_runtime.api.machine import Machine, make_look  # noqa: PLC0415
    from flambeau_runtime.api.metrics import RuntimeCollector, make_metrics_app  # noqa: PLC0415
    from flambeau_runtime.api.saturation import SaturationCollector  # noqa: PLC0415

    settings, recorder = parts.settings, parts.telemetry.recorder
    registry = CollectorRegistry()
    machine = Machine(make_look(settings), recorder)
    if settings.metrics_page and settings.metrics_mode is not MetricsMode.LOG:
        registry.register(machine)  # first: what it finds may be shown by the other
        registry.register(RuntimeCollector(parts.telemetry, recorder))
        registry.register(SaturationCollector(lambda: tuple(parts.catalogue.lives())))
    return make_metrics_app(registry, machine.read, lambda: parts.supervisor.settle(SETTLING_S))


async def watch_machine(parts: Parts) -> None:
    """Log the machine's numbers now and then, where nobody can scrape them."""
    recorder = parts.telemetry.recorder
    if recorder is None or parts.settings.metrics_mode is MetricsMode.PROMETHEUS:
        return
    from flambeau_runtime.api.machine import Machine, make_look, watch  # noqa: PLC0415

    machine = Machine(make_look(parts.settings), recorder)
    await watch(machine, parts.settings.metrics_interval_s)
