"""What callers of the management API may say, read as TorchServe reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from flambeau_runtime.errors import BadRequest
from flambeau_runtime.serving.desired import MOST_WORKERS
from flambeau_runtime.serving.registration import Asked

Said = Mapping[str, Any]
"""Parameter → value; a query string brings text, a JSON body numbers and switches too."""

MOST_ON_A_PAGE = 100
RUNTIMES = frozenset({"python", "python3", "LSP"})


_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")
_LARGEST = 2**31 - 1
_NUMBERS = frozenset(
    {"batch_size", "max_batch_delay", "initial_workers", "response_timeout", "startup_timeout"}
)
_WORDS = frozenset({"url", "model_name", "handler", "runtime", "synchronous", "s3_sse_kms"})


def read_query(query: bytes) -> Said:
    """Return the fields of a query string; of a name said twice the first value counts."""
    said: dict[str, str] = {}
    fields = query.decode("latin-1").replace(";", "&")
    for name, value in parse_qsl(fields, keep_blank_values=True):
        said.setdefault(name, value)
    return said


def read_json(body: bytes) -> Said:
    """Return the fields of a registration's JSON body; null counts as not said.

    Raises:
        BadRequest: it is no JSON object, or a field is of a kind that cannot be read.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body is not a JSON object.")
    return {name: _json_value(name, value) for name, value in fields.items() if value is not None}


def _json_value(name: str, value: object) -> object:
    if name in _WORDS and isinstance(value, dict | list):
        raise BadRequest(f"{name} is not a text or a switch: write it in quotes.")
    if name not in _NUMBERS:
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    number = integer({name: value}, name)
    if number is None:
        raise BadRequest(f"{name} is not a whole number: {json.dumps(value)[:50]}")
    return number


def integer(said: Said, name: str) -> int | None:
    """Return a whole number of 32 bits; anything else counts as not said."""
    value = said.get(name)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        return None
    return value


def text(said: Said, name: str) -> str | None:
    """Return a text; an empty one counts as not said."""
    value = said.get(name)
    return str(value) if value not in {None, ""} else None


def switch(said: Said, name: str, *, otherwise: bool) -> bool:
    """Return whether the word is `true`, in any case; no other word is."""
    value = said.get(name)
    return otherwise if value is None else str(value).lower() == "true"


@dataclass(frozen=True, slots=True)
class Registration:
    """A call of `POST /models`."""

    asked: Asked
    synchronous: bool


def read_registration(said: Said, default_workers: int | None) -> Registration:
    """Return what is to be registered.

    Raises:
        BadRequest: there is no url, or an unknown runtime.
    """
    url = said.get("url")
    if url is None:
        raise BadRequest("Parameter url is required.")
    runtime = said.get("runtime")
    if runtime is not None and runtime not in RUNTIMES:
        raise BadRequest(f"Invalid RuntimeType value: {runtime}")
    workers = integer(said, "initial_workers")
    delay_ms = integer(said, "max_batch_delay")
    asked = Asked(
        url=str(url),
        model=text(said, "model_name"),
        handler=text(said, "handler"),
        batch_size=_positive(integer(said, "batch_size")),
        max_batch_delay_s=None if delay_ms is None or delay_ms < 0 else delay_ms / 1000,
        workers=max(0, (default_workers or 0) if workers is None else workers),
        response_timeout_s=_positive(integer(said, "response_timeout")),
        startup_timeout_s=_positive(integer(said, "startup_timeout")),
        runtime=runtime,
        s3_sse_kms=switch(said, "s3_sse_kms", otherwise=False),
    )
    return Registration(asked, switch(said, "synchronous", otherwise=True))


def _positive(number: int | None) -> int | None:
    return None if number is None or number <= 0 else number


@dataclass(frozen=True, slots=True)
class Scaling:
    """A call of `PUT /models/{name}[/{version}]`."""

    least: int
    most: int
    synchronous: bool
    version: str | None


def read_scaling(said: Said, version: str | None) -> Scaling:
    """Return the workers asked for; `version` is the one in the path, which goes first.

    Raises:
        BadRequest: the bounds cannot be.
    """
    least = integer(said, "min_worker")
    least = 1 if least is None else least
    most = integer(said, "max_worker")
    most = least if most is None else most
    if least < 0:
        raise BadRequest("min_worker cannot be negative.")
    if most < least:
        raise BadRequest("max_worker cannot be less than min_worker.")
    if least > MOST_WORKERS:
        raise BadRequest(f"min_worker cannot be more than {MOST_WORKERS}.")
    return Scaling(
        least,
        most,
        switch(said, "synchronous", otherwise=False),
        version or text(said, "model_version"),
    )


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and the number that begins the next one, if there is one."""

    begin: int
    end: int
    next_begin: int | None


def read_page(said: Said, length: int) -> Page:
    """Return which part of a list of `length` is asked for.

    A page that ends exactly at the last item promises another one, as TorchServe's does: scripts
    that follow the token until it is absent meet an empty page and then its end.
    """
    limit = integer(said, "limit")
    limit = MOST_ON_A_PAGE if limit is None or not 0 <= limit <= MOST_ON_A_PAGE else limit
    begin = min(max(0, integer(said, "next_page_token") or 0), length)
    end = begin + limit
    if end > length or begin == length > 0:
        return Page(begin, length, None)
    return Page(begin, end, end)
