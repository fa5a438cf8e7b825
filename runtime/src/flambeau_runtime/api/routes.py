"""From a request target to the model it asks: every spelling of a prediction's path.

TorchServe unescapes the whole path and then cuts it at each slash; slashes at its end say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

from flambeau_runtime.protocol import WITH_QUERY, WITHOUT_PATH


class Route(NamedTuple):
    """What a prediction's path says. `model` is None where the body may name it.

    `spelling` is the wire's; `url_path` is the query string where the row gets its fields.
    `open_inference`: errors are said as the Open Inference Protocol says them.
    """

    model: str | None
    version: str | None
    url_path: str
    explain: bool
    spelling: int = 0
    open_inference: bool = False


def cut(path: bytes) -> list[str]:
    """Return the segments of a path: unescaped, without the empty ones at its end."""
    segments = unquote_to_bytes(path).decode("utf-8", "replace").split("/")
    while segments and not segments[-1]:
        segments.pop()
    return segments[1:]


@lru_cache(maxsize=1024)
def find_route(target: bytes) -> Route | None:
    """Return the route of a request target, None when it is no prediction's."""
    if target.startswith((b"http://", b"https://")):
        target = b"/" + target.split(b"/", 3)[-1]
    path, _, query = target.partition(b"?")
    segments = cut(path)
    if not segments:
        return None
    read = _FAMILIES.get(segments[0], _oldest)
    return read(segments, query.partition(b"#")[0].decode("latin-1"))


def _torchserve(segments: list[str], _: str) -> Route | None:
    """Read /predictions/{model}[/{version}[/{url_path}]], and the same under /explanations."""
    if len(segments) == 1:
        return None
    kind, model, *rest = segments
    version = rest[0] if rest else None
    return Route(model, version, "/".join(rest[1:]), kind == "explanations")


_VERBS_V1 = {"predict": False, "explain": True}
_VERBS_V2 = {"infer": False, "explain": True}


def _kserve_v1(segments: list[str], _: str) -> Route | None:
    """Read /v1/models/{model}:predict and :explain."""
    if len(segments) != 3 or segments[1] != "models":  # noqa: PLR2004  as the path is spelled
        return None
    model, _colon, verb = segments[2].partition(":")
    explain = _VERBS_V1.get(verb)
    return None if explain is None else Route(model, None, "", explain, WITHOUT_PATH)


def _kserve_v2(segments: list[str], _: str) -> Route | None:
    """Read /v2/models/{model}[/versions/{version}]/infer and /explain."""
    match segments:
        case [_, "models", model, verb] if verb in _VERBS_V2:
            version = None
        case [_, "models", model, "versions", version, verb] if verb in _VERBS_V2:
            pass
        case _:
            return None
    return Route(model, version, "", _VERBS_V2[verb], WITHOUT_PATH, open_inference=True)


def _invocations(segments: list[str], query: str) -> Route | None:
    """Read /invocations[?model_name={model}]."""
    if len(segments) != 1:
        return None
    return Route(first_value(query, "model_name"), None, query, False, WITH_QUERY)


def _invoke(segments: list[str], query: str) -> Route | None:
    """Read /models/{model}/invoke."""
    if len(segments) != 3 or segments[2] != "invoke":  # noqa: PLR2004  as the path is spelled
        return None
    return Route(segments[1], None, query, False, WITH_QUERY)


def _oldest(segments: list[str], query: str) -> Route | None:
    """Read /{model}/predict and /{model}/{version}/predict."""
    match segments:
        case [model, "predict"]:
            return Route(model, None, query, False, WITH_QUERY)
        case [model, version, "predict"]:
            return Route(model, version, query, False, WITH_QUERY)
        case _:
            return None


def _nothing(_: list[str], __: str) -> Route | None:
    return None


_FAMILIES: Mapping[str, Callable[[list[str], str], Route | None]] = {
    "predictions": _torchserve,
    "explanations": _torchserve,
    "v1": _kserve_v1,
    "v2": _kserve_v2,
    "invocations": _invocations,
    "models": _invoke,
    "ping": _nothing,
    "metrics": _nothing,
}


def first_value(query: str, name: str) -> str | None:
    """Return the first value of a name in a query string or a form."""
    pairs = parse_qsl(query.replace(";", "&"), keep_blank_values=True)
    return next((value for known, value in pairs if known == name), None)


_PART = re.compile(
    rb'\r\ncontent-disposition:[^\r\n]*;[ \t]*name="?model_name"?[ \t]*(?:;[^\r\n]*)?\r\n'
    rb"(?:[^\r\n]+\r\n)*\r\n([^\r\n]{0,1024})\r\n",
    re.IGNORECASE,
)
LONGEST_FORM = 64 * 1024
"""So far a form is searched for the name of a model."""


def model_in_form(content_type: str, body: bytes | bytearray | memoryview) -> str | None:
    """Return the field `model_name` of a form or multipart body, None where there is none."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return first_value(bytes(body[:LONGEST_FORM]).decode("latin-1"), "model_name")
    if kind == "multipart/form-data":
        found = _PART.search(bytes(body[:LONGEST_FORM]))
        return None if found is None else found[1].decode("utf-8", "replace")
    return None
