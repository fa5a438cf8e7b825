"""What a handler sees: rows as they come off the wire, and the context of their batch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from flambeau_runtime import protocol
from flambeau_runtime.worker.metrics import CachingMetric, HandlerMetrics

SERVER_NAME = "MMS"  # what TorchServe calls itself here; handlers compare it
SERVER_VERSION = "0.12.0"  # of TorchServe, whose behaviour handlers may ask for

HTTP_OK = 200

HeaderValue: TypeAlias = str | dict[str, str] | None
"""A header's text; a part's content type as {"content-type": …} under the part's name."""


class Row:
    """One request of a batch, undecoded."""

    __slots__ = (
        "body",
        "content_type",
        "describe",
        "explain",
        "headers",
        "request_id",
        "spelling",
        "url_path",
    )

    def __init__(  # noqa: PLR0913, PLR0917  one field each, built once per request on the hot path
        self,
        request_id: str,
        headers: bytes = b"",
        content_type: str = "",
        body: bytes | bytearray | memoryview = b"",
        url_path: str = "",
        explain: bool = False,
        describe: bool = False,
        spelling: int = 0,
    ) -> None:
        self.request_id = request_id
        self.headers = headers  # b"Name: value\r\n" per header, in the client's spelling
        self.content_type = content_type
        self.body = body
        self.url_path = url_path
        self.explain = explain
        self.describe = describe
        self.spelling = spelling  # protocol.WITHOUT_PATH, WITH_QUERY


class RowResult:
    """One answer of a batch, encoded."""

    __slots__ = ("body", "headers", "phrase", "status")

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        phrase: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.status = status
        self.phrase = phrase
        self.headers = headers
        self.body = body


class RequestProcessor:
    """One row's side of the context: its request headers, and the answer's status and headers."""

    __slots__ = ("_headers", "_parts", "_response_headers", "_row", "phrase", "status")

    def __init__(self, row: Row | None = None, headers: dict[str, Any] | None = None) -> None:
        self._row = row
        self._headers: dict[str, Any] | None = headers
        self._parts: Mapping[str, str] | None = None  # types of a multipart body's or form's
        self._response_headers: dict[str, str] | None = None  # few handlers set any
        self.status = HTTP_OK
        self.phrase: str | None = None  # so a handler reads it before it has set one

    def get_request_properties(self) -> dict[str, Any]:
        """Return all request headers; parsed when first asked for, since few handlers ask."""
        if self._headers is None:
            self._headers = {} if self._row is None else read_headers(self._row, self._parts)
        return self._headers

    def get_request_property(self, key: str) -> HeaderValue:
        """Return one request header, in the client's own spelling; None when there is none."""
        return self.get_request_properties().get(key)

    def note_parts(self, types: Mapping[str, str]) -> None:
        """Let the handler find each part's content type under the part's name."""
        self._parts = types

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the answer's status."""
        self.status = code
        self.phrase = reason_phrase

    def get_response_status_code(self) -> int:
        """Return the answer's status as set so far."""
        return self.status

    def get_response_status_phrase(self) -> str | None:
        """Return the answer's reason phrase as set so far."""
        return self.phrase

    def add_response_property(self, key: str, value: str) -> None:
        """Set one header of the answer."""
        self.get_response_headers()[key] = value

    def get_response_headers(self) -> dict[str, str]:
        """Return the headers of the answer as set so far."""
        if self._response_headers is None:
            self._response_headers = {}
        return self._response_headers

    def get_response_header(self, key: str) -> str | None:
        """Return one header of the answer as set so far."""
        return self.get_response_headers().get(key)

    @property
    def untouched(self) -> bool:
        """Tell whether the handler left status and headers alone, as nearly all do."""
        return self._response_headers is None and self.status == HTTP_OK and not self.phrase


class Context:
    """What `initialize` and `handle` are given: one object per worker, renewed per batch."""

    def __init__(  # noqa: PLR0913, PLR0917  TorchServe's constructor, which users' unit tests call
        self,
        model_name: str,
        model_dir: str,
        manifest: Mapping[str, Any],
        batch_size: int,
        gpu: int | None,
        mms_version: str = SERVER_VERSION,
        limit_max_image_pixels: bool = True,
        metrics: HandlerMetrics | None = None,
        model_yaml_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": SERVER_NAME,
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }
        self.model_yaml_config: Mapping[str, Any] = (
            {} if model_yaml_config is None else model_yaml_config
        )
        self.metrics = HandlerMetrics(model_name) if metrics is None else metrics
        CachingMetric.current = self.metrics
        self.request_ids: dict[int, str] | None = None
        self.request_processor: list[RequestProcessor] = []
        self.cl_socket: Any = None  # by which pieces of an answer leave; `worker.streaming.Outlet`
        self.in_list = False  # the rows are elements of one request's JSON list
        self.stopping_criteria: Any = None
        self.header_key_sequence_id = _named("ID")
        self.header_key_sequence_start = _named("START")
        self.header_key_sequence_end = _named("END")

    def begin(self, rows: Sequence[Row]) -> None:
        """Turn to the next batch."""
        self.request_ids = {index: row.request_id for index, row in enumerate(rows)}
        self.request_processor = [RequestProcessor(row) for row in rows]
        self.metrics.request_ids = self.request_ids

    def get_request_id(self, idx: int = 0) -> str | None:
        """Return the id of one request, the answer's `x-request-id`."""
        return None if self.request_ids is None else self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> HeaderValue:
        """Return one request header, case-sensitive in the client's own spelling."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        """Return all headers of one request."""
        return self.request_processor[idx].get_request_properties()

    def get_sequence_id(self, idx: int) -> HeaderValue:
        """Return the sequence that one request belongs to; None where there are none."""
        return self.get_request_header(idx, self.header_key_sequence_id)

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the content type of one answer."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """Return the content type of one answer as set so far."""
        return self.request_processor[idx].get_response_header("content-type")

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of one answer; its body stays the row's result."""
        self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Set the status of every answer of the batch."""
        for processor in self.request_processor:
            processor.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """Return status and reason phrase of one answer as set so far."""
        processor = self.request_processor[idx]
        return processor.status, processor.phrase

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set one header of one answer."""
        self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """Return the headers of one answer as set so far."""
        return self.request_processor[idx].get_response_headers()


def _named(what: str) -> str:
    """Return the name of a header of sequences, which the server tells through the environment."""
    return os.environ.get(f"TS_REQUEST_SEQUENCE_{what}", f"ts_request_sequence_{what.lower()}")


def mime_type(content_type: str) -> str:
    """Return a content type without its parameters."""
    return content_type.partition(";")[0].strip()


def read_headers(row: Row, parts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Parse the raw block of a row; a repeated header keeps its last value.

    The server adds what handlers of TorchServe ask for: the content type of the body or of each of
    its parts under its name, `explain`, `url_path` and `describe`, as far as the request's path is
    of a kind that says them.
    """
    types = {"body": mime_type(row.content_type)} if parts is None else parts
    headers: dict[str, Any] = {name: {"content-type": kind} for name, kind in types.items()}
    for line in bytes(row.headers).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("latin-1")] = value.strip().decode("latin-1")
    if row.content_type == protocol.PARTS:
        return headers  # a call over gRPC has no path, and each part has a content type of its own
    if not row.spelling & protocol.WITH_QUERY:
        headers["explain"] = str(row.explain)
    if not row.spelling:
        headers["url_path"] = row.url_path
    if row.describe:
        headers["describe"] = "True"
    return headers
