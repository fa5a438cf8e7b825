"""What a value in `config.properties` may be: a parser per kind, naming what to write instead."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flambeau_runtime.settings import Address, MetricsMode, ModelDefaults
from flambeau_runtime.worker import envelopes

LARGEST_PORT = 65_535


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


def port(value: str) -> int:
    """Return a port; 0 takes a free one."""
    number = natural(value)
    if number > LARGEST_PORT:
        raise Impossible(f"write a port from 0 to {LARGEST_PORT}")
    return number


def host(value: str) -> str:
    """Return an address of this machine, without a port."""
    bare = value.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", bare):
            raise Impossible(
                "write an address of this machine alone; the port has a key of its own"
            ) from None
    return bare


def lifetime(value: str) -> float:
    """Return milliseconds, 1 or more, as seconds."""
    return positive(value) / 1000


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


_DEFAULT_PORTS = {"": None, "http": 80, "https": 443}
_ADDRESS = "write http://host:port, https://host:port or unix:/path"


def address(value: str) -> Address:
    """Return where `http://host:port`, `https://host:port` or `unix:/path` binds."""
    if value.startswith("unix:"):
        return _unix_address(value)
    url = urlsplit(value if "://" in value else f"//{value}")
    try:
        port = url.port
    except ValueError:
        raise Impossible("the port must be a number from 0 to 65535") from None
    if url.scheme not in _DEFAULT_PORTS or not url.hostname or url.path.strip("/"):
        raise Impossible(_ADDRESS)
    port = _DEFAULT_PORTS[url.scheme] if port is None else port
    if port is None:
        raise Impossible(_ADDRESS)
    return Address(url.hostname, port, tls=url.scheme == "https")


def _unix_address(value: str) -> Address:
    path = urlsplit(value).path
    if not path:
        raise Impossible(_ADDRESS)
    return Address(path=Path(path))


def keystore_type(value: str) -> str:
    """Return the kind of a keystore, in capitals."""
    if value.upper() not in {"PKCS12", "JKS"}:
        raise Impossible("write PKCS12")
    return value.upper()


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


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def header_name(value: str) -> str:
    """Return the name of an HTTP header."""
    if not _HEADER_NAME.fullmatch(value):
        raise Impossible("write the name of an HTTP header, without spaces and colons")
    return value


_MODEL_FIELDS: Mapping[str, tuple[str, float]] = {
    "minWorkers": ("min_workers", 1),
    "maxWorkers": ("max_workers", 1),
    "batchSize": ("batch_size", 1),
    "maxBatchDelay": ("max_batch_delay_s", 0.001),
    "responseTimeout": ("response_timeout_s", 1),
    "startupTimeout": ("startup_timeout_s", 1),
}
"""Field of `models` → (field of ModelDefaults, its unit)."""
_MODEL_WORDS = frozenset({"defaultVersion", "marName", "runtimeType"})


_NUMBER = re.compile(r"-?\d+")


def model_defaults(value: str) -> tuple[ModelDefaults, ...]:
    """Return what the JSON of the key `models` says, field by field."""
    shape = Impossible('write JSON: {"model": {"1.0": {"minWorkers": 1, "batchSize": 8}}}')
    return _models(_json(value, shape), 1, shape)


def model_snapshot(value: str) -> tuple[ModelDefaults, ...]:
    """Return the versions that a snapshot of TorchServe lists, each with its archive."""
    shape = Impossible(
        'write JSON: {"models": {"model": {"1.0": {"marName": "model.mar", "minWorkers": 1}}}}'
    )
    fields = dict(_items(_json(value, shape), shape))
    found = _models(fields.get("models", {}), 0, shape)
    for version in found:
        if version.archive is None:
            raise Impossible(f"models.{version.model}.{version.version} lacks marName")
    return found


def _json(value: str, otherwise: Impossible) -> object:
    try:
        return json.loads(value)
    except ValueError:
        raise otherwise from None


def _items(value: object, otherwise: Impossible) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise otherwise
    return value.items()


def _models(value: object, least_workers: int, shape: Impossible) -> tuple[ModelDefaults, ...]:
    return tuple(
        _model_defaults(model, version, dict(_items(fields, shape)), least_workers)
        for model, versions in _items(value, shape)
        for version, fields in _items(versions, shape)
    )


def _model_defaults(
    model: str, version: str, fields: Mapping[str, Any], least_workers: int
) -> ModelDefaults:
    where = f"models.{model}.{version}"
    _check_names(where, fields)
    known: dict[str, Any] = {}
    for name, (attribute, unit) in _MODEL_FIELDS.items():
        number = _number(f"{where}.{name}", fields.get(name))
        least = least_workers if name == "minWorkers" else 1
        # TorchServe ignores numbers below 1 here.
        if number is not None and number >= least:
            known[attribute] = number if unit == 1 else number * unit
    archive = fields.get("marName")
    return ModelDefaults(
        model=model,
        version=version,
        is_default=str(fields.get("defaultVersion")).lower() == "true",
        archive=None if archive is None else str(archive),
        **known,
    )


def _check_names(where: str, fields: Mapping[str, Any]) -> None:
    for name in fields:
        if name not in _MODEL_FIELDS and name not in _MODEL_WORDS:
            known = sorted({*_MODEL_FIELDS, *_MODEL_WORDS})
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
            raise Impossible(f"{where} has no field {name}: {hint}")


def _number(where: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    raise Impossible(f"{where} is {json.dumps(value)}: write a whole number")
