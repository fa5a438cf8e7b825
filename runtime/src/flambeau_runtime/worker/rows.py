"""From a request's body to the dict that a handler gets, by content type, as TorchServe does it."""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.worker.context import RequestProcessor, Row, mime_type

Value: TypeAlias = Any
"""What a body decodes to: a JSON value, a str or a bytearray."""

_NINES = bytes(ord("9") if byte in b"0123456789" else byte for byte in range(256))
_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"?|[^;]*)')
_ESCAPED = re.compile(r'\\(["\\])')
_LONG_NUMBER = b"9" * 19  # from here on an integer may not fit into 64 bits


def read_row(row: Row, processor: RequestProcessor, decode: bool = True) -> dict[str, Any]:
    """Return what the handler gets for one request.

    JSON becomes its value, `text/*` a str, a multipart or form body one key per part, as do the
    inputs of a gRPC call; everything else, and whatever cannot be decoded, a bytearray of the
    handler's own under "body". Where the query counts, its fields go first, and the body's
    overwrite them. As with TorchServe, a content type counts in lower case only, but for forms.
    """
    if row.spelling and row.spelling & protocol.WITH_QUERY:
        return {**_read_query(row.url_path), **_read_body(row, processor, decode)}
    return _read_body(row, processor, decode)


def _read_query(query: str) -> dict[str, Any]:
    """Return the fields of a query string; a name said twice keeps its last value."""
    return _read_form(query.replace(";", "&").encode("utf-8", "replace"))


def _read_body(row: Row, processor: RequestProcessor, decode: bool) -> dict[str, Any]:
    content_type = row.content_type
    if not content_type:
        return {"body": bytearray(row.body)}
    kind = mime_type(content_type)
    if kind == "multipart/form-data":
        return _read_multipart(row, processor, decode)
    if kind.lower() == "application/x-www-form-urlencoded":
        fields = _read_form(bytes(row.body))
        processor.note_parts(dict.fromkeys(fields, ""))
        return fields
    if content_type == protocol.PARTS:
        return _read_parts(row, processor, decode)
    return {"body": decode_value(row.body, kind) if decode else bytearray(row.body)}


def decode_value(body: bytes | bytearray | memoryview, kind: str) -> Value:
    """Decode one body or part by its content type, given without parameters."""
    if kind == "application/json":
        try:
            return loads(bytes(body))
        except (ValueError, RecursionError):  # TorchServe hands broken JSON to the handler as bytes
            return bytearray(body)
    if kind.startswith("text"):
        try:
            return bytes(body).decode()
        except UnicodeDecodeError:
            return bytearray(body)
    return bytearray(body)


def loads(body: bytes) -> Value:
    """Parse JSON as `json.loads` does, at orjson's speed where the two agree.

    They differ in integers beyond 64 bits (orjson rounds them to floats, without a word) and in
    NaN, Infinity, lone surrogates and overflowing floats (orjson refuses them). Both refuse what
    is not UTF-8, and a byte order mark.
    """
    if len(body) >= len(_LONG_NUMBER) and _LONG_NUMBER in body.translate(_NINES):
        return json.loads(body.decode())
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body.decode())


def _read_form(body: bytes) -> dict[str, Any]:
    # Latin-1 there and back keeps every byte, whatever the client's character set was
    pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    return {
        name.encode("latin-1").decode("utf-8", "replace"): bytearray(value, "latin-1")
        for name, value in pairs
    }


def _read_parts(row: Row, processor: RequestProcessor, decode: bool) -> dict[str, Any]:
    """Return the values of a gRPC call; those without a content type stay bytes."""
    parts = list(protocol.unpack_parts(row.body))
    processor.note_parts({name: kind for name, kind, _ in parts})
    return {
        name: decode_value(value, kind) if decode else bytearray(value)
        for name, kind, value in parts
    }


def _read_multipart(row: Row, processor: RequestProcessor, decode: bool) -> dict[str, Any]:
    boundary = parameters(row.content_type).get("boundary", "")
    parts = split_parts(bytes(row.body), boundary.encode("latin-1")) if boundary else None
    if not parts:
        return {"body": bytearray(row.body)}
    processor.note_parts({name: kind for name, kind, _ in parts})
    return {
        name: decode_value(value, kind) if decode else bytearray(value)
        for name, kind, value in parts
    }


def split_parts(body: bytes, boundary: bytes) -> list[tuple[str, str, bytes]] | None:
    """Return (name, type, value) of each part; None if it is no multipart body, or cut.

    Only a part with a file name has a type, as with TorchServe: a plain field is never decoded.
    """
    sections = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if not sections[1:] or not sections[-1].startswith(b"--"):
        return None
    parts = []
    for section in sections[1:-1]:
        head, blank, value = section.partition(b"\r\n\r\n")
        headers = _part_headers(head)
        named = parameters(headers.get("content-disposition", ""))
        if blank and "name" in named:
            kind = mime_type(headers.get("content-type", "application/octet-stream"))
            parts.append((named["name"], kind if "filename" in named else "", value))
    return parts


def _part_headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("utf-8", "replace").split("\r\n"))
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}


def parameters(header: str) -> dict[str, str]:
    """Return the parameters of a header such as `form-data; name="a; b"; filename=x`."""
    return {match[1].lower(): _unquote(match[2]) for match in _PARAMETER.finditer(header)}


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    return _ESCAPED.sub(r"\1", value[1:].removesuffix('"'))
