"""What the OpenAPI documents of all ports are made of, and the application that gives them out.

OpenAPI 3.0.1, as TorchServe announces; operation names, titles and paths are its own where it has
them. Everything is plain data: no framework is imported to describe a port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flambeau_runtime.api import asgi
from flambeau_runtime.api.problems import pretty

Json = dict[str, Any]

TITLE = "TorchServe APIs"
VERSION = "0.12.0"
ABOUT = "Serves PyTorch models with TorchServe's interface."

TEXT: Json = {"type": "string"}
INTEGER: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
SWITCH: Json = {"type": "boolean"}
BINARY: Json = {"type": "string", "format": "binary"}
FREE: Json = {"type": "object"}

SCHEMAS: Json = {
    "Error": {
        "type": "object",
        "required": ["code", "type", "message"],
        "properties": {
            "code": {"type": "integer", "description": "The status."},
            "type": {"type": "string", "description": "The kind of error."},
            "message": {"type": "string", "description": "What went wrong, and what to do."},
        },
    },
    "Document": {
        "type": "object",
        "required": ["openapi", "info", "paths"],
        "properties": {
            "openapi": {"type": "string"},
            "info": {"type": "object"},
            "paths": {"type": "object"},
        },
    },
    "Status": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "description": "What happened."}},
    },
}

ERRORS: Mapping[int, str] = {
    400: "The request cannot be understood, or carries no valid key",
    401: "The request carries no valid signature",
    403: "The default version cannot be removed while others exist",
    404: "No such model or version, or nothing at that address",
    405: "Registering and unregistering are switched off",
    408: "It was not done in time",
    409: "There is such a version already, or a ModelDeployment owns this runtime",
    413: "The body is too large",
    414: "The request target is too long",
    422: "A field of the document is wrong",
    431: "The headers are too long",
    500: "The worker died or gave no answer in time, or could not be started",
    503: "No worker can answer now, the queue is full, or the handler failed",
    504: "The model gave no answer in time",
    507: "The worker ran out of memory",
}

OF_ANY_REQUEST = (400, 408, 413, 414, 431, 500)


def reference(name: str) -> Json:
    """Return a reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def array_of(items: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def record(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    """Return the schema of an object."""
    schema: Json = {"type": "object", "properties": {**required, **(optional or {})}}
    return {**schema, "required": list(required)} if required else schema


def answer(description: str, schema: Json | None = None, media: str = asgi.JSON) -> Json:
    """Return one response."""
    if schema is None:
        return {"description": description}
    return {"description": description, "content": {media: {"schema": schema}}}


def errors(*statuses: int, schema: str = "Error") -> Json:
    """Return the responses of these errors (with this schema), and of what any request can meet."""
    of_call = dict.fromkeys(statuses, schema)
    every = {**dict.fromkeys(OF_ANY_REQUEST, "Error"), **of_call}
    return {
        str(status): answer(ERRORS[status], reference(every[status])) for status in sorted(every)
    }


def in_path(name: str, description: str) -> Json:
    """Return a parameter of the path."""
    return {
        "in": "path",
        "name": name,
        "description": description,
        "required": True,
        "schema": TEXT,
    }


def in_query(name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    """Return a parameter of the query."""
    return {
        "in": "query",
        "name": name,
        "description": description,
        "required": required,
        "schema": schema,
    }


def operation(
    name: str,
    description: str,
    responses: Json,
    parameters: Iterable[Json] = (),
    **more: Json | bool,
) -> Json:
    """Return one operation; `more` are further fields of it."""
    return {
        "description": description,
        "operationId": name,
        "parameters": list(parameters),
        **more,
        "responses": responses,
    }


def document(paths: Json, schemas: Json, title: str = TITLE, version: str = VERSION) -> Json:
    """Return a whole document."""
    info = {"title": title, "description": ABOUT, "version": version}
    return {
        "openapi": "3.0.1",
        "info": info,
        "paths": paths,
        "components": {"schemas": {**SCHEMAS, **schemas}},
    }


def own_paths() -> Json:
    """Return the paths under which a port describes itself."""
    described = {"200": answer("An OpenAPI 3.0.1 document", reference("Document")), **errors()}
    return {
        "/": {"options": operation("apiDescription", "Get this document.", described)},
        "/api-description": {
            "get": operation(
                "api-description", "Get this document (old spelling).", described, deprecated=True
            )
        },
    }


def metrics_paths() -> Json:
    """Return the paths of the metrics port."""
    names = in_query("name[]", array_of(TEXT), "Only these metrics.")
    page = answer("The metrics in Prometheus' text format", TEXT, "text/plain")
    responses = {"200": page, **errors()}
    description = "Get the metrics of server and models."
    return {"/metrics": {"get": operation("metrics", description, responses, (names,))}}


SEGMENTS = ("", "api-description")
"""First segments of the paths under which a port describes itself."""


def make_description_app(describe: Callable[[], Json]) -> asgi.App:
    """Return the application of `OPTIONS /` and `/api-description`."""

    async def description(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:  # noqa: ARG001  ASGI's signature
        match asgi.segments(scope):
            case [] if scope["method"] != "OPTIONS":
                await asgi.not_allowed(send)
            case [] | ["api-description"]:
                await asgi.answer(send, 200, pretty(describe()))
            case _:
                await asgi.not_found(send)

    return description
