"""The inference port beside predictions: ping, descriptions of the API, and clear refusals.

Plain ASGI: probes ask `/ping` all the time, and must not be what makes a framework get imported.
"""

from __future__ import annotations

from flambeau_runtime.api import asgi
from flambeau_runtime.api.problems import pretty
from flambeau_runtime.serving.catalogue import Catalogue

SEGMENTS = ("ping", "predictions")
"""First segments of the paths that belong to this port when one address serves several."""


def is_healthy(catalogue: Catalogue) -> bool:
    """Return whether every default version has the workers it is wanted with, or has them soon."""
    for name in {model.name for model in catalogue.wanted.models}:
        version = catalogue.default_of(name)
        live = None if version is None else catalogue.live(name, version)
        if live is None:
            continue
        counts = live.counts()
        if counts.ready + counts.starting < counts.wanted:
            return False
    return True


def describe_port() -> dict[str, object]:
    """Return the OpenAPI document of the inference port."""
    return _document(
        "Inference API",
        {
            "/ping": {"get": _operation("ping", "Say whether the workers are well.")},
            "/predictions/{model_name}": _prediction("{model_name}", ["model_name"]),
            "/predictions/{model_name}/{model_version}": _prediction(
                "{model_name}", ["model_name", "model_version"]
            ),
        },
    )


def describe_model(name: str) -> dict[str, object]:
    """Return the OpenAPI document of one model's predictions."""
    path = f"/predictions/{name}"
    return _document(f"RESTful API for: {name}", {path: _prediction(name, [])})


def _document(title: str, paths: dict[str, object]) -> dict[str, object]:
    return {"openapi": "3.0.1", "info": {"title": title, "version": "1.0.0"}, "paths": paths}


def _prediction(name: str, parameters: list[str]) -> dict[str, object]:
    operation = _operation("predictions", f"Ask model {name} for a prediction.")
    operation["parameters"] = [
        {"in": "path", "name": parameter, "required": True, "schema": {"type": "string"}}
        for parameter in parameters
    ]
    operation["requestBody"] = {
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    }
    return {"post": operation}


def _operation(name: str, summary: str) -> dict[str, object]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "The answer."}},
    }


def make_inference_app(catalogue: Catalogue) -> asgi.App:
    """Return the application behind the hot path: it gets what is not a prediction."""

    async def inference(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:  # noqa: ARG001  ASGI's signature
        segments = scope["path"].strip("/").split("/")
        if segments[0] == "ping":
            await _ping(catalogue, send)
        elif scope["method"] == "OPTIONS":
            await _describe(catalogue, segments, send)
        elif segments == ["api-description"]:
            await asgi.answer(send, 200, pretty(describe_port()))
        elif segments == [""]:
            await asgi.not_allowed(send)
        else:
            await asgi.not_found(send)

    return inference


async def _ping(catalogue: Catalogue, send: asgi.Send) -> None:
    if is_healthy(catalogue):
        await asgi.answer(send, 200, pretty({"status": "Healthy"}))
    else:
        closing = [("connection", "close")]
        await asgi.answer(send, 500, pretty({"status": "Unhealthy"}), headers=closing)


async def _describe(catalogue: Catalogue, segments: list[str], send: asgi.Send) -> None:
    match segments:
        case [""]:
            await asgi.answer(send, 200, pretty(describe_port()))
        case ["predictions", name] if catalogue.model(name) is not None:
            await asgi.answer(send, 200, pretty(describe_model(name)))
        case ["predictions", name]:
            message = f"Model not found: {name}"
            await asgi.refuse(send, 404, "ModelNotFoundException", message)
        case _:
            await asgi.not_found(send)
