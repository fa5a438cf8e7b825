"""The inference port beside predictions: ping, the Open Inference Protocol, and clear refusals.

Plain ASGI: probes ask `/ping` all the time, and must not be what makes a framework get imported.
"""

from __future__ import annotations

from flambeau_runtime.api import asgi, open_inference
from flambeau_runtime.api.door import Gate
from flambeau_runtime.api.openapi_inference import describe_model
from flambeau_runtime.api.problems import describe, in_open_inference, pretty
from flambeau_runtime.api.routes import find_route
from flambeau_runtime.errors import ModelNotFound, RuntimeFault
from flambeau_runtime.serving.catalogue import Catalogue

SEGMENTS = ("ping", "predictions", "explanations", "invocations", "v2")
"""First segments of the paths that belong to this port when one address serves several."""

CLOSING = (("connection", "close"),)


def is_healthy(catalogue: Catalogue) -> bool:
    """Return whether every default version has the workers it is wanted with, or has them soon."""
    for name in {model.name for model in catalogue.wanted.models}:
        version = catalogue.default_of(name)
        if version is not None and not _is_well(catalogue, name, version):
            return False
    return True


def _is_well(catalogue: Catalogue, name: str, version: str) -> bool:
    if catalogue.is_failing(name, version):
        return False
    live = catalogue.live(name, version)
    if live is None:
        return True
    counts = live.counts()
    return counts.ready + counts.starting >= counts.wanted


def make_inference_app(catalogue: Catalogue, gate: Gate | None = None) -> asgi.App:
    """Return the application behind the hot path: it gets what is not a prediction.

    `gate` raises Unauthorised when a caller may not predict; probes pass by it.
    """

    async def inference(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:  # noqa: ARG001  ASGI's signature
        segments = asgi.segments(scope)
        if segments[:1] == ["ping"]:
            await _ping(catalogue, send)
            return
        in_v2 = segments[:1] == ["v2"]
        try:
            if gate is not None and not (in_v2 and open_inference.is_health(segments)):
                gate(asgi.raw_headers(scope))
            if in_v2 and await _open_inference(catalogue, scope, segments, send):
                return
            await _refuse(catalogue, scope, send)
        except RuntimeFault as fault:
            problem = describe(fault)
            problem = in_open_inference(problem, fault) if in_v2 else problem
            await asgi.answer(send, problem.status, problem.body(), headers=CLOSING)

    return inference


async def _ping(catalogue: Catalogue, send: asgi.Send) -> None:
    if is_healthy(catalogue):
        await asgi.answer(send, 200, pretty({"status": "Healthy"}))
    else:
        await asgi.answer(send, 500, pretty({"status": "Unhealthy"}), headers=CLOSING)


async def _open_inference(
    catalogue: Catalogue, scope: asgi.Scope, segments: list[str], send: asgi.Send
) -> bool:
    """Answer what the Open Inference Protocol asks beside predictions; return whether it was."""
    said = open_inference.answer(catalogue, segments)
    if said is None:
        return False
    if segments[1:2] == ["models"] and scope["method"] not in {"GET", "HEAD"}:
        await asgi.not_allowed(send)
    else:
        headers = CLOSING if said.status >= open_inference.UNAVAILABLE else ()
        await asgi.answer(send, said.status, pretty(said.content), headers=headers)
    return True


async def _refuse(catalogue: Catalogue, scope: asgi.Scope, send: asgi.Send) -> None:
    """Describe the model of a prediction's path to OPTIONS; refuse everything else.

    Raises:
        ModelNotFound: there is none of that name.
    """
    route = find_route(asgi.target(scope))
    if route is None:
        await asgi.not_found(send)
    elif scope["method"] != "OPTIONS" or route.model is None:
        await asgi.not_allowed(send)
    elif catalogue.model(route.model) is None:
        raise ModelNotFound(route.model)
    else:
        await asgi.answer(send, 200, pretty(describe_model(route.model)))
