"""TorchServe's management API: register, list, describe, scale, set the default, unregister.

Every writing verb is an edit of the wanted document; the converger brings it about, and the
synchronous verbs wait for it. Texts and codes are TorchServe's.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from flambeau_runtime.api import asgi, management_calls as calls, problems
from flambeau_runtime.api.authorisation import Keys, ManagementGate
from flambeau_runtime.api.describe import customised, describe
from flambeau_runtime.archive.sources import presentable
from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import (
    BadRequest,
    LoadFailed,
    ManagedElsewhere,
    ModelNotFound,
    ModelNotReady,
    PayloadTooLarge,
    RuntimeFault,
    VersionNotFound,
)
from flambeau_runtime.serving import edits, registration
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
    return Response(asgi.pretty(value), code, media_type=asgi.JSON)


def problem(status: int, kind: str, message: str) -> Response:
    """Return TorchServe's error body."""
    body = problems.problem_body(status, kind, message)
    return Response(body, status, media_type=asgi.JSON, headers={"connection": "close"})


async def parameters(request: Request) -> dict[str, Any]:
    """Return the query, or the fields of a JSON body; the body goes first.

    Raises:
        BadRequest: a JSON body that is not an object.
        PayloadTooLarge: a body that no call has a use for.
    """
    spoken: dict[str, Any] = dict(request.query_params)
    if request.headers.get("content-type", "").startswith(asgi.JSON):
        body = await _bounded_body(request)
        try:
            fields = json.loads(body) if body else {}
        except ValueError:
            raise BadRequest("The body is not JSON.") from None
        if not isinstance(fields, dict):
            raise BadRequest("The body is not a JSON object.")
        spoken.update(fields)
    return spoken


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise PayloadTooLarge(LARGEST_BODY)
    return bytes(body)


Spoken = Annotated[dict[str, Any], Depends(parameters)]


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
        found = [_describe(verbs, spec) for spec in chosen]
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


def _describe(verbs: Verbs, spec: VersionSpec) -> dict[str, Any]:
    live = verbs.catalogue.live(spec.model, spec.version)
    at_startup = (spec.model, spec.version) in verbs.loaded_at_startup
    return describe(spec, live, loaded_at_startup=at_startup)


async def _ask_handler(verbs: Verbs, spec: VersionSpec) -> object:
    live = verbs.catalogue.live(spec.model, spec.version)
    if live is None or live.counts().ready == 0:
        raise ModelNotReady(
            spec.model,
            spec.version,
            "has no worker to serve describe request. Please use scale workers API to add workers.",
        )
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
        scaled = replace(spec, workers=scaling.least, max_workers=scaling.most)
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
    async def register(spoken: Spoken) -> Response:
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

    app = FastAPI(title="Management API", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(make_management_router(verbs), dependencies=[Depends(admit)])
    _add_descriptions(app, verbs)
    if keys is not None:
        _add_token_route(app, keys)
    app.add_exception_handler(RuntimeFault, _say_fault)
    app.add_exception_handler(HTTPException, _say_http)
    app.add_exception_handler(Exception, _say_unforeseen)
    return app


def _add_descriptions(app: FastAPI, verbs: Verbs) -> None:
    @app.options("/")
    @app.get("/api-description")
    async def describe_api() -> Response:
        """Return the OpenAPI document of this port."""
        return pretty(app.openapi())

    @app.options("/models/{name}")
    async def describe_one(name: str) -> Response:
        """Return the OpenAPI document of this port, if there is such a model."""
        verbs.model(name)
        return pretty(app.openapi())


def _add_token_route(app: FastAPI, keys: Keys) -> None:
    @app.get("/token")
    async def rotate(request: Request) -> Response:
        """Replace one key; the caller shows the API key."""
        keys.rotate(request.query_params.get("type", ""), request.headers.get("authorization"))
        return Response()


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
