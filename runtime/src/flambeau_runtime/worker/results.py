"""From what a handler returns to bytes, byte for byte as TorchServe does it, and faster."""

from __future__ import annotations

import io
import json
import sys
from json.encoder import encode_basestring_ascii
from typing import Any, TypeAlias

import orjson

from flambeau_runtime.errors import PredictionFailed

Result: TypeAlias = Any
"""What handlers return: anything, until it is found to be JSON."""

_OPTIONS = (
    orjson.OPT_INDENT_2
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)

# orjson's text is json's own but for small floats (1e-05 is written 0.00001, 1e-07 is 1e-7), NaN
# and infinity (null), and characters beyond printable ASCII (not escaped). Whatever could be one
# of these is written the slow way. Older orjson writes large floats differently, too.
_SUSPECTS = (b"e-", b"null", b"0.0000", b"\x7f")
_FAST = orjson.dumps(1e16) == b"1e+16"


def encode(result: Result) -> bytes:
    """Return the body of an answer: text and bytes as they are, all else as indented JSON.

    Raises:
        PredictionFailed: the result cannot become JSON.
    """
    kind = type(result)
    if kind is dict or kind is list:
        return dumps(result)
    if kind is str:
        return bytes(result, "utf-8")
    if isinstance(result, (bytes, bytearray)):
        return bytes(result)
    if isinstance(result, str):
        return result.encode()
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(result, torch.Tensor):
        buffer = io.BytesIO()
        torch.save(result, buffer)
        return buffer.getvalue()
    return dumps(result)


def dumps(value: Result) -> bytes:
    """Return `json.dumps(value, indent=2)`, encoded.

    Raises:
        PredictionFailed: the value cannot become JSON.
    """
    try:
        text = orjson.dumps(value, option=_OPTIONS)
    except TypeError:  # orjson's JSONEncodeError is one: large integers, keys that are not str, …
        return _dumps_slowly(value)
    if _FAST and text.isascii() and not any(suspect in text for suspect in _SUSPECTS):
        return text
    return _dumps_slowly(value)


def _dumps_slowly(value: Result) -> bytes:
    try:
        return _write(value, "\n").encode()
    except (_Unusual, RecursionError):
        pass
    try:
        return json.dumps(value, indent=2).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PredictionFailed(
            f"Unsupported model output data type. {type(error).__name__}: {error}"
        ) from error


class _Unusual(Exception):
    """A value for which only `json` itself is sure to write what `json` writes."""


def _write(value: Result, line: str) -> str:
    """Write the plain types; twice as fast as json, whose indenting encoder is pure Python."""
    kind = type(value)
    if kind is float:
        return _write_float(value)
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is int:
        return repr(value)
    if kind is list:
        return _write_list(value, line)
    if kind is dict:
        return _write_dict(value, line)
    return _write_constant(value)


def _write_float(value: float) -> str:
    if value - value == 0.0:  # false for NaN and infinities
        return repr(value)
    if value != value:  # noqa: PLR0124  NaN is what differs from itself
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _write_constant(value: Result) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    raise _Unusual


def _write_list(values: list[Any], line: str) -> str:
    if not values:
        return "[]"
    deeper = line + "  "
    if set(map(type, values)) == {float}:
        texts = map(_write_float, values)
    else:
        texts = (_write(value, deeper) for value in values)  # type: ignore[assignment]
    return "[" + deeper + ("," + deeper).join(texts) + line + "]"


def _write_dict(values: dict[Any, Any], line: str) -> str:
    if not values:
        return "{}"
    deeper = line + "  "
    if set(map(type, values)) != {str}:
        raise _Unusual
    texts = [
        encode_basestring_ascii(key) + ": " + _write(value, deeper) for key, value in values.items()
    ]
    return "{" + deeper + ("," + deeper).join(texts) + line + "}"
