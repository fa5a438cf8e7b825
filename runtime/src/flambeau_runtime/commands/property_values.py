"""What a value in `config.properties` may be: a parser per kind, naming what to write instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from flambeau_runtime.settings import Address, MetricsMode, ModelDefaults
from flambeau_runtime.worker import envelopes


class Impossible(ValueError):
    """Why a value cannot be, ending in what to write instead."""


def natural(value: str) -> int:
    """Return a whole number, 0 or more."""
    if not re.fullmatch(r"\+?\d+", value):
        raise Impossible("write a whole number, 0 or more")
    return int(value)


def positive(value: str) -> int:
    """Return a whole number, 1 or more."""
    if not re.fullmatch(r"\+?\d+", value) or int(value) == 0:
        raise Impossible("write a whole number, 1 or more")
    return int(value)


def or_none(value: str) -> int | None:
    """Return a whole number; 0 means that nothing is said."""
    return natural(value) or None


def milliseconds(value: str) -> float:
    """Return milliseconds as seconds."""
    return natural(value) / 1000


def switch(value: str) -> bool:
    """Return true or false."""
    try:
        return {"true": True, "false": False}[value.lower()]
    except KeyError:
        raise Impossible("write true or false") from None


def metrics_mode(value: str) -> MetricsMode:
    """Return the mode; an unknown word is log, as TorchServe takes it."""
    try:
        return MetricsMode(value.lower())
    except ValueError:
        return MetricsMode.LOG


def opposite(value: str) -> bool:
    """Return the other one of true and false."""
    return not switch(value)


def _words(value: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in value.split(",")) if word)


def envelope(value: str) -> str | None:
    """Return the name of an envelope; None for an empty value."""
    if value and value not in envelopes.NAMES:
        raise Impossible(f"write one of {', '.join(envelopes.NAMES)}")
    return value or None


def visibility(value: str) -> str:
    """Return own or all."""
    if value not in {"own", "all"}:
        raise Impossible("write own (each worker sees its device) or all")
    return value


def pattern(value: str) -> str:
    """Return a regular expression that compiles."""
    try:
        re.compile(value)
    except re.error as error:
        raise Impossible(f"write a regular expression ({error})") from None
    return value


def patterns(value: str) -> tuple[str, ...]:
    """Return regular expressions separated by commas."""
    return tuple(pattern(word) for word in _words(value))


def address(value: str) -> Address:
    """Return where `http://host:port` binds."""
    url = urlsplit(value if "://" in value else f"//{value}")
    if url.scheme == "https":
        raise Impossible("TLS is not available yet, write http://host:port")
    if url.scheme not in {"", "http"} or value.startswith("unix:"):
        raise Impossible("write http://host:port")
    try:
        port = url.port
    except ValueError:
        raise Impossible("the port must be a number from 0 to 65535") from None
    if not url.hostname or port is None or url.path.strip("/"):
        raise Impossible("write http://host:port")
    return Address(url.hostname, port)


def load_models(value: str) -> tuple[tuple[str | None, str], ...]:
    """Return (name or None, archive) for `all`, `a.mar,b=b.mar`; the archive of `all` is "all"."""
    if value.strip().lower() in {"", "none"}:
        return ()
    return tuple(_named_archive(word) for word in _words(value))


def _named_archive(word: str) -> tuple[str | None, str]:
    if word.lower() == "all":
        return None, "all"
    name, separator, archive = word.partition("=")
    if not separator:
        return None, word
    if not name.strip() or not archive.strip():
        raise Impossible("write NAME=FILE, FILE or ALL")
    return name.strip(), archive.strip()


_MODEL_FIELDS: Mapping[str, tuple[str, float]] = {
    "minWorkers": ("min_workers", 1),
    "maxWorkers": ("max_workers", 1),
    "batchSize": ("batch_size", 1),
    "maxBatchDelay": ("max_batch_delay_s", 0.001),
    "responseTimeout": ("response_timeout_s", 1),
    "startupTimeout": ("startup_timeout_s", 1),
}
"""Field of `models` → (field of ModelDefaults, its unit)."""


def model_defaults(value: str) -> tuple[ModelDefaults, ...]:
    """Return what the JSON of the key `models` says, field by field."""
    shape = Impossible('write JSON: {"model": {"1.0": {"minWorkers": 1, "batchSize": 8}}}')
    try:
        models = json.loads(value)
    except ValueError:
        raise shape from None
    found = []
    for model, versions in _items(models, shape):
        for version, fields in _items(versions, shape):
            found.append(_model_defaults(model, version, dict(_items(fields, shape))))
    return tuple(found)


def _items(value: object, otherwise: Impossible) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise otherwise
    return value.items()


def _model_defaults(model: str, version: str, fields: Mapping[str, Any]) -> ModelDefaults:
    known: dict[str, Any] = {}
    for name, (attribute, unit) in _MODEL_FIELDS.items():
        number = fields.get(name)
        # TorchServe ignores numbers below 1 here, and anything that is not a number.
        if isinstance(number, int) and number > 0:
            known[attribute] = number if unit == 1 else number * unit
    return ModelDefaults(
        model=model, version=version, is_default=fields.get("defaultVersion") is True, **known
    )
