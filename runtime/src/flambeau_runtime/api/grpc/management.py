"""TorchServe's management service: the calls of the management port, asked in this process.

Texts, rules and rights are those of the REST API, for it is what answers. What differs is how it is
said: proto3 cannot tell nothing from zero, so zero counts as nothing, and statuses are gRPC's.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from grpc import StatusCode

from flambeau_runtime.api import asgi
from flambeau_runtime.api.grpc.calls import Call
from flambeau_runtime.api.grpc.protos.management_pb2 import (
    DescribeModelRequest,
    ListModelsRequest,
    ManagementResponse,
    RegisterModelRequest,
    ScaleWorkerRequest,
    SetDefaultRequest,
    UnregisterModelRequest,
)
from flambeau_runtime.api.grpc.refusals import HTTP, MODEL, Refused, code_of, not_there
from flambeau_runtime.errors import ModelNotFound

log = logging.getLogger(__name__)

JAVA_NAMES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "InvalidModelException",
            "InvalidModelVersionException",
            "ModelException",
            "ModelNotFoundException",
            "ModelVersionNotFoundException",
        ),
        MODEL,
    ),
    "DownloadArchiveException": "org.pytorch.serve.archive",
}
"""Type of an error → the package that TorchServe names with it; all others are in `http`."""

UNKNOWN = frozenset({"ConflictStatusException", "InvalidModelVersionException"})
"""What TorchServe does not foresee over gRPC: a version that is there, a default that must stay."""

CLOSED = frozenset({"InvalidKeyException", "Unauthorised"})
API_OFF = "MethodNotAllowedException"
NOBODY_TO_ASK = ("NotFoundException", "ServiceUnavailableException")
"""INTERNAL where a handler is to be asked about itself, as for predictions."""
OK = range(200, 300)

NOTHING_SAID = b'{"type": "InternalServerException", "message": "Internal server error."}'

Said = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the REST API said."""

    status: int
    body: bytes


@dataclass(slots=True)
class _Caught:
    """The end of the ASGI conversation: what was sent."""

    status: int = 500
    body: bytearray = field(default_factory=bytearray)

    async def send(self, message: asgi.Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


class ManagementService:
    """`org.pytorch.serve.grpc.management.ManagementAPIsService`."""

    def __init__(self, app: asgi.App, *, api_is_off: bool) -> None:
        """Begin.

        Args:
            app: the REST API of the management port.
            api_is_off: whether nothing may be registered or unregistered.
        """
        self._app = app
        self._api_is_off = api_is_off
        self._changes: set[asyncio.Task[Answer]] = set()

    async def describe_model(self, request: DescribeModelRequest, call: Call) -> ManagementResponse:
        """Describe the default version, a named one, or `all`."""
        path = _path(request.model_name, request.model_version)
        customised = request.customized and request.model_version != "all"
        said: Said = {"customized": True} if customised else {}
        try:
            return _document(await self._ask(call, path, said))
        except Refused as refused:
            if customised and refused.kind.endswith(NOBODY_TO_ASK):
                raise Refused(StatusCode.INTERNAL, refused.message, refused.kind) from refused
            raise

    async def list_models(self, request: ListModelsRequest, call: Call) -> ManagementResponse:
        """List the models, a page at a time."""
        said: Said = {"limit": request.limit, "next_page_token": request.next_page_token}
        return _document(await self._ask(call, "/models", said))

    async def register_model(self, request: RegisterModelRequest, call: Call) -> ManagementResponse:
        """Serve an archive."""
        said: dict[str, str | int | bool] = {"synchronous": request.synchronous}
        texts = {
            "url": request.url,
            "model_name": request.model_name,
            "handler": request.handler,
            "runtime": request.runtime,
        }
        numbers = {
            "batch_size": request.batch_size,
            "initial_workers": request.initial_workers,
            "max_batch_delay": request.max_batch_delay,
            "response_timeout": request.response_timeout,
            "startup_timeout": request.startup_timeout,
        }
        said |= {name: text for name, text in texts.items() if text}
        said |= {name: number for name, number in numbers.items() if number > 0}
        if request.s3_sse_kms:
            said["s3_sse_kms"] = True
        return _sentence(await self._do(call, "POST", "/models", said))

    async def scale_worker(self, request: ScaleWorkerRequest, call: Call) -> ManagementResponse:
        """Change the number of workers."""
        least = max(request.min_worker, 1)
        said: dict[str, str | int | bool] = {
            "min_worker": least,
            "max_worker": request.max_worker if request.max_worker > 0 else least,
            "synchronous": request.synchronous,
        }
        path = _path(request.model_name, request.model_version)
        return _sentence(await self._do(call, "PUT", path, said))

    async def set_default(self, request: SetDefaultRequest, call: Call) -> ManagementResponse:
        """Make a version answer the requests that name none."""
        path = _path(request.model_name, "")
        if not request.model_version:
            await self._ask(call, path, {})  # the model first, as TorchServe looks for it
            message = f"Model version  does not exist for model {request.model_name}"
            kind = f"{MODEL}.ModelVersionNotFoundException"
            raise Refused(StatusCode.NOT_FOUND, message, kind)
        path = f"{_path(request.model_name, request.model_version)}/set-default"
        return _sentence(await self._do(call, "PUT", path, {}))

    async def unregister_model(
        self, request: UnregisterModelRequest, call: Call
    ) -> ManagementResponse:
        """Take a version out of service."""
        if self._api_is_off:
            raise api_off()
        if not request.model_name:
            # TorchServe's own words, although it is the name that is missing.
            kind = f"{HTTP}.BadRequestException"
            raise Refused(StatusCode.INVALID_ARGUMENT, "Parameter url is required.", kind)
        path = _path(request.model_name, request.model_version)
        return _sentence(await self._do(call, "DELETE", path, {}))

    async def close(self) -> None:
        """Give up what is still under way."""
        for change in self._changes:
            change.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)

    async def _do(self, call: Call, method: str, path: str, said: Said) -> Answer:
        """Ask for a change, which is carried out even if the client leaves."""
        change = asyncio.create_task(self._answer(_scope(call, method, path, said)))
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        return _granted(await asyncio.shield(change))

    async def _ask(self, call: Call, path: str, said: Said) -> Answer:
        return _granted(await self._answer(_scope(call, "GET", path, said)))

    async def _answer(self, scope: asgi.Scope) -> Answer:
        caught = _Caught()
        try:
            await self._app(scope, _nothing_more, caught.send)
        except Exception:
            # The framework raises again what it has answered, for servers to log.
            log.exception("a management call failed")
        return Answer(caught.status, bytes(caught.body))


def _granted(answer: Answer) -> Answer:
    if answer.status not in OK:
        raise refusal(answer)
    return answer


def api_off() -> Refused:
    """Return how TorchServe says that nothing may be registered or unregistered."""
    disabled = "Model API disabled"
    return Refused(StatusCode.PERMISSION_DENIED, disabled, f"{MODEL}.ModelException")


def refusal(answer: Answer) -> Refused:
    """Return how TorchServe says over gRPC what REST says with this answer."""
    error = json.loads(answer.body or NOTHING_SAID)
    kind, message = str(error["type"]), str(error["message"])
    if kind in CLOSED:
        return Refused(StatusCode.PERMISSION_DENIED, message)
    if kind == API_OFF:
        return api_off()
    code = StatusCode.UNKNOWN if kind in UNKNOWN else code_of(answer.status)
    return Refused(code, message, f"{JAVA_NAMES.get(kind, HTTP)}.{kind}")


def _path(model: str, version: str) -> str:
    """Return the path of a model or a version.

    Raises:
        Refused: no model can have that name.
    """
    if not model or "/" in model or "/" in version:
        raise not_there(ModelNotFound(model))
    return f"/models/{model}/{version}" if version else f"/models/{model}"


def _scope(call: Call, method: str, path: str, said: Said) -> asgi.Scope:
    authorization = call.metadata("authorization")
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    words = {
        name: str(value).lower() if value is True or value is False else value
        for name, value in said.items()
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": urlencode(words).encode(),
        "root_path": "",
        "headers": headers,
        "client": call.peer,
        "server": None,
    }


async def _nothing_more() -> asgi.Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _document(answer: Answer) -> ManagementResponse:
    return ManagementResponse(msg=answer.body.decode().removesuffix("\n"))


def _sentence(answer: Answer) -> ManagementResponse:
    return ManagementResponse(msg=json.loads(answer.body)["status"])
