"""TorchServe's management API: register, list, describe, scale, set the default, unregister.

Every writing verb is an edit of the wanted document; the converger brings it about, and the
synchronous verbs wait for it. Texts and codes are TorchServe's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from flambeau_runtime.api import asgi, management_calls as calls, problems
from flambeau_runtime.api.authorisation import Keys, ManagementGate
from flambeau_runtime.api.describe import customised, describe
from flambeau_runtime.api.device_usage import device_usage
from flambeau_runtime.api.openapi_management import describe_model as describe_api
from flambeau_runtime.archive.sources import presentable
from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import (
    LoadFailed,
    ManagedElsewhere,
    ModelNotFound,
    NoWorkerToDescribe,
    PayloadTooLarge,
    RuntimeFault,
    VersionNotFound,
)
from flambeau_runtime.serving import edits, placement, registration
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.desired import Document, ModelSpec, VersionSpec
from flambeau_runtime.serving.job import Payload, ask
from flambeau_runtime.serving.steps import Key
from flambeau_runtime.settings import ModelApi, Settings

log = logging.getLogger(__name__)

MOVING_DEFAULT_S = 5.0
LARGEST_BODY = 1024 * 1024
ACCEPTED = 202
PARTIAL = 206
TIMED_OUT = 408
NOT_ALLOWED = 405
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the management calls work on."""

    settings: Settings
    catalogue: Catalogue
    converger: Converger
    store: Store
    loaded_at_startup: set[Key] = field(default_factory=set)

    def edit(self, change: Callable[[Document], Document]) -> None:
        """Change the wish.

        Raises:
            ManagedElsewhere: a ModelDeployment owns this runtime.
        """
        self.refuse_if_owned()
        self.converger.want(change(self.catalogue.wanted))

    def refuse_if_owned(self) -> None:
        """Raise ManagedElsewhere when a ModelDeployment owns this runtime."""
        owner = self.catalogue.wanted.owner
        if owner is not None:
            raise ManagedElsewhere(owner.namespace, owner.name)
        if self.settings.managed is not None:
            raise ManagedElsewhere("?", self.settings.managed.uid)

    def model(self, name: str) -> ModelSpec:
        """Return what is wanted of a model; raises ModelNotFound."""
        model = self.catalogue.model(name)
        if model is None:
            raise ModelNotFound(name)
        return model

    def version(self, name: str, version: str | None) -> VersionSpec:
        """Return a version (None: the default one); raises ModelNotFound, VersionNotFound."""
        model = self.model(name)
        chosen = version or self.catalogue.default_of(name)
        for spec in model.versions:
            if spec.version == chosen:
                return spec
        raise VersionNotFound(name, chosen or "default")


def said(status: str, code: int = 200) -> Response:
    """Return TorchServe's one-line answer."""
    return pretty({"status": status}, code)


def pretty(value: object, code: int = 200) -> Response:
    """Return JSON as TorchServe prints it."""
    return Response(problems.pretty(value), code, media_type=asgi.JSON)


def problem(status: int, kind: str, message: str) -> Response:
    """Return TorchServe's error body."""
    body = problems.problem_body(status, kind, message)
    return Response(body, status, media_type=asgi.JSON, headers={"connection": "close"})


def parameters(request: Request) -> calls.Said:
    """Return the fields of the query."""
    return calls.read_query(request.scope["query_string"])


async def registration_fields(request: Request) -> calls.Said:
    """Return the fields of a JSON body, which then counts alone, or those of the query.

    Raises:
        BadRequest: a JSON body that cannot be read.
        PayloadTooLarge: a body that no call has a use for.
    """
    kind = request.headers.get("content-type", "").lower()
    body = await _bounded_body(request) if kind.startswith(asgi.JSON) else b""
    return calls.read_json(body) if body else parameters(request)


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise PayloadTooLarge(LARGEST_BODY)
    return bytes(body)


Spoken = Annotated[calls.Said, Depends(parameters)]
Registered = Annotated[calls.Said, Depends(registration_fields)]


def make_management_router(verbs: Verbs) -> APIRouter:
    """Return TorchServe's routes."""
    router = APIRouter()
    _add_reading_routes(router, verbs)
    _add_scaling_routes(router, verbs)
    _add_registering_routes(router, verbs)
    return router


def _add_reading_routes(router: APIRouter, verbs: Verbs) -> None:
    @router.get("/models")
    async def list_models(spoken: Spoken) -> Response:
        """List the registered models, a page at a time."""
        models = sorted(verbs.catalogue.wanted.models, key=lambda model: model.name)
        page = calls.read_page(spoken, len(models))
        body: dict[str, Any] = {}
        if page.next_begin is not None:
            body["nextPageToken"] = str(page.next_begin)
        body["models"] = [
            {"modelName": model.name, "modelUrl": _default_url(verbs, model)}
            for model in models[page.begin : page.end]
        ]
        return pretty(body)

    @router.get("/models/{name}")
    @router.get("/models/{name}/{version}")
    async def describe_model(spoken: Spoken, name: str, version: str | None = None) -> Response:
        """Describe the default version, a named one, or `all`."""
        if version == "all":
            chosen = list(verbs.model(name).versions)
        else:
            chosen = [verbs.version(name, version)]
        usage = await _device_usage(verbs, chosen)
        found = [_describe(verbs, spec, usage) for spec in chosen]
        if calls.switch(spoken, "customized", otherwise=False):
            for description, spec in zip(found, chosen, strict=True):
                description["customizedMetadata"] = await _ask_handler(verbs, spec)
        return pretty(found)

    @router.get("/v1/models/{name}")
    async def readiness(name: str) -> Response:
        """Say whether a model has a worker (KServe v1)."""
        spec = verbs.version(name, None)
        live = verbs.catalogue.live(spec.model, spec.version)
        return pretty({"name": name, "ready": live is not None and live.counts().ready > 0})


def _default_url(verbs: Verbs, model: ModelSpec) -> str:
    try:
        return presentable(verbs.version(model.name, None).source.uri)
    except VersionNotFound:
        return presentable(model.versions[0].source.uri) if model.versions else ""


async def _device_usage(verbs: Verbs, specs: list[VersionSpec]) -> dict[int, str]:
    """Ask the driver about the devices of these versions' workers; most have none."""
    lives = [verbs.catalogue.live(spec.model, spec.version) for spec in specs]
    workers = [worker for live in lives if live is not None for worker in live.workers()]
    devices = {worker.device for worker in workers if worker.device is not None}
    if not devices:
        return {}

    def ask() -> dict[int, str]:
        return {device: device_usage(device, os.environ) for device in sorted(devices)}

    return await asyncio.to_thread(ask)


def _describe(verbs: Verbs, spec: VersionSpec, usage: Mapping[int, str]) -> dict[str, Any]:
    live = verbs.catalogue.live(spec.model, spec.version)
    at_startup = (spec.model, spec.version) in verbs.loaded_at_startup
    devices = verbs.settings.devices
    return describe(spec, live, loaded_at_startup=at_startup, devices=devices, usage=usage)


async def _ask_handler(verbs: Verbs, spec: VersionSpec) -> object:
    live = verbs.catalogue.live(spec.model, spec.version)
    if live is None or live.counts().ready == 0:
        raise NoWorkerToDescribe(spec.model, spec.version)
    payload = Payload("describe", b"", b"", "", describe=True)
    prediction = await ask(live, payload, spec.timeouts.response_s, spec.model)
    return customised(prediction.body)


def _add_scaling_routes(router: APIRouter, verbs: Verbs) -> None:
    @router.put("/models/{name}")
    @router.put("/models/{name}/{version}")
    async def scale(spoken: Spoken, name: str, version: str | None = None) -> Response:
        """Change the number of workers."""
        scaling = calls.read_scaling(spoken, version)
        spec = verbs.version(name, scaling.version)
        room = placement.room_for_workers(verbs.settings.devices, spec.config)
        least, most = (
            it if room is None else min(it, room) for it in (scaling.least, scaling.most)
        )
        scaled = replace(spec, workers=least, max_workers=most)
        verbs.edit(lambda wanted: _with_spec(wanted, scaled))
        if not scaling.synchronous:
            return said("Processing worker updates...", ACCEPTED)
        which = f", version: {scaling.version}" if scaling.version else ""
        done = f"Workers scaled to {scaling.least} for model: {name}{which}"
        return await _when_settled(verbs, scaled, done)

    @router.put("/models/{name}/{version}/set-default")
    async def set_default(name: str, version: str) -> Response:
        """Make a version answer the requests that name none."""
        try:
            verbs.edit(lambda wanted: edits.with_default(wanted, name, version))
        except VersionNotFound:
            message = f"Model version {version} does not exist for model {name}"
            return problem(NOT_FOUND, "ModelVersionNotFoundException", message)
        # The converger moves the default in its next pass, and only to a version that serves: the
        # wish is recorded either way, so a version that does not serve is no reason to refuse.
        with contextlib.suppress(LoadFailed):
            await verbs.converger.settled(name, version, MOVING_DEFAULT_S)
        return said(f'Default version successfully updated for model "{name}" to "{version}"')


def _with_spec(document: Document, changed: VersionSpec) -> Document:
    models = tuple(
        replace(
            model,
            versions=tuple(
                changed if spec.version == changed.version else spec for spec in model.versions
            ),
        )
        if model.name == changed.model
        else model
        for model in document.models
    )
    return replace(document, models=models)


async def _when_settled(verbs: Verbs, spec: VersionSpec, done: str) -> Response:
    """Wait until the version has its workers, and say so.

    Raises:
        LoadFailed: its workers fail.
    """
    try:
        if await verbs.converger.settled(spec.model, spec.version, spec.timeouts.startup_s):
            return said(done)
    except LoadFailed as failure:
        raise LoadFailed(
            failure.reason,
            f"Failed to start workers for model {spec.model} version: {spec.version}"
            f" ({failure.reason}: {failure})",
            failure.log_tail,
        ) from failure
    return said("Workers scaling in progress...", PARTIAL)


def _add_registering_routes(router: APIRouter, verbs: Verbs) -> None:
    @router.post("/models")
    async def register(spoken: Registered) -> Response:
        """Serve an archive."""
        if verbs.settings.model_api is ModelApi.OFF:
            return _model_api_is_off()
        verbs.refuse_if_owned()
        call = calls.read_registration(spoken, verbs.settings.workers_per_model)
        spec = await registration.prepare(call.asked, verbs.store, verbs.settings)
        verbs.edit(lambda wanted: edits.with_version(wanted, spec))
        return await _registered(verbs, spec, synchronous=call.synchronous)

    @router.delete("/models/{name}")
    @router.delete("/models/{name}/{version}")
    async def unregister(name: str, version: str | None = None) -> Response:
        """Take a version out of service; what it has begun is answered first."""
        if verbs.settings.model_api is ModelApi.OFF:
            return _model_api_is_off()
        verbs.edit(lambda wanted: edits.without_version(wanted, name, version))
        limit_s = verbs.settings.limits.unregister_timeout_s
        if await verbs.converger.gone(name, version, limit_s):
            return said(f'Model "{name}" unregistered')
        message = f"Model {name} was not unloaded within {limit_s:g} s; it is still being unloaded."
        return problem(TIMED_OUT, "RequestTimeoutException", message)


def _model_api_is_off() -> Response:
    message = (
        f"{asgi.NOT_ALLOWED} Registering and unregistering are switched off:"
        " set enable_model_api=true or start with --enable-model-api."
    )
    return problem(NOT_ALLOWED, "MethodNotAllowedException", message)


async def _registered(verbs: Verbs, spec: VersionSpec, *, synchronous: bool) -> Response:
    start = f'Model "{spec.model}" Version: {spec.version} registered with {spec.workers}'
    if spec.workers == 0:
        # Whoever asks the model next is to hear that it has no worker, not that it is on its way.
        with contextlib.suppress(RuntimeFault):
            await verbs.converger.settled(spec.model, spec.version, MOVING_DEFAULT_S)
        return said(f"{start} initial workers. Use scale workers API to add workers for the model.")
    if not synchronous:
        return said("Processing worker updates...", ACCEPTED)
    try:
        return await _when_settled(verbs, spec, f"{start} initial workers")
    except LoadFailed:
        # TorchServe takes a model back that could not start; the caller may register it again.
        with contextlib.suppress(RuntimeFault):
            verbs.edit(lambda wanted: edits.without_version(wanted, spec.model, spec.version))
            await verbs.converger.gone(spec.model, spec.version, MOVING_DEFAULT_S)
        raise


def make_management_app(verbs: Verbs, gate: ManagementGate, keys: Keys | None = None) -> FastAPI:
    """Return the application of the management port.

    Args:
        verbs: what the calls work on.
        gate: raises Unauthorised when a caller may not use TorchServe's verbs.
        keys: TorchServe's key file, None when there is none.
    """

    async def admit(request: Request) -> None:
        peer = None if request.client is None else request.client.host
        if "origin" in request.headers:
            # A page in a local browser can send requests to loopback too: it needs the key.
            peer = None
        gate(peer, request.headers.get("authorization"))

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(make_management_router(verbs), dependencies=[Depends(admit)])
    _add_descriptions(app, verbs)
    app.add_middleware(_NoSlashAtTheEnd)
    if keys is not None:
        _add_token_route(app, keys)
    app.add_exception_handler(RuntimeFault, _say_fault)
    app.add_exception_handler(HTTPException, _say_http)
    app.add_exception_handler(Exception, _say_unforeseen)
    return app


class _NoSlashAtTheEnd:
    """Slashes at the end of a path say nothing, as in TorchServe."""

    def __init__(self, app: asgi.App) -> None:
        self._app = app

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        path = scope.get("path", "")
        if path.endswith("/"):
            scope = {**scope, "path": path.rstrip("/") or "/"}
        await self._app(scope, receive, send)


def _add_descriptions(app: FastAPI, verbs: Verbs) -> None:
    @app.options("/models/{name}")
    @app.options("/models/{name}/{version}")
    @app.options("/models/{name}/{version}/set-default")
    async def describe_one(name: str) -> Response:
        """Return the OpenAPI document of one model's management."""
        verbs.model(name)
        return pretty(describe_api(name))


def _add_token_route(app: FastAPI, keys: Keys) -> None:
    @app.api_route("/token", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def rotate(request: Request) -> Response:
        """Replace one key; the caller shows the API key."""
        kind = calls.read_query(request.scope["query_string"]).get("type", "")
        keys.rotate(kind, request.headers.get("authorization"))
        return Response("\n", media_type=asgi.JSON)


Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _say_fault(request: Request, error: Exception) -> Response:
    told = problems.describe(error)
    log.info(
        "call refused",
        extra={"call": f"{request.method} {request.url.path}", "why": told.message},
    )
    response = problem(told.status, told.type, told.message)
    if told.retry_after_s is not None:
        response.headers["retry-after"] = str(told.retry_after_s)
    return response


async def _say_http(_: Request, error: Exception) -> Response:
    if getattr(error, "status_code", 0) == NOT_ALLOWED:
        return problem(NOT_ALLOWED, "MethodNotAllowedException", asgi.NOT_ALLOWED)
    return problem(NOT_FOUND, "ResourceNotFoundException", asgi.NOT_FOUND)


async def _say_unforeseen(request: Request, error: Exception) -> Response:
    log.error("call failed", exc_info=error, extra={"call": f"{request.method} {request.url.path}"})
    told = problems.describe(error)
    return problem(told.status, told.type, told.message)
