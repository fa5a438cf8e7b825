"""Where the pieces of streamed answers leave a worker while its handler runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Protocol

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.errors import PredictionFailed
from flambeau_runtime.protocol import Kind
from flambeau_runtime.worker.answers import row_result, too_long
from flambeau_runtime.worker.context import Context, Row, RowResult
from flambeau_runtime.worker.results import Result, encode

NEXT = "ts_stream_next"
"""The header by which clients of TorchServe know that more pieces follow."""

OK = 200
ABSENT = RowResult(b"", protocol.ROW_ABSENT)


class ReaderLeft(ConnectionAbortedError):
    """Nobody reads the answers of this batch any more; whatever the handler does is in vain."""


class Pending(Protocol):
    """The part of an inbox that tells what has come while a handler runs."""

    def peek(self) -> tuple[int, int] | None:
        """Return kind and batch of a frame that has come, None when none has."""


class Sends(Protocol):
    """The part of a socket that is used here."""

    def sendall(self, data: bytes, /) -> None:
        """Send all bytes."""


class Outlet:
    """A handler's way to send before it returns: its context's `cl_socket`.

    One batch at a time has it; any thread of the handler may use it. `send` returns once the piece
    is on its way, and waits as long as a client does not read.
    """

    def __init__(self, sock: Sends, inbox: Pending, max_response_bytes: int) -> None:
        self._sock = sock
        self._inbox = inbox
        self._limit = max_response_bytes
        self._lock = Lock()
        self._batch = 0
        self._rows: Sequence[Row] | None = None
        self._begun: set[int] = set()

    def open(self, batch: int, rows: Sequence[Row]) -> None:
        """Let pieces of this batch leave."""
        self._batch = batch
        self._rows = rows

    def close(self) -> None:
        """Let nothing leave any more; a thread that is sending is waited for."""
        with self._lock:
            self._rows = None
            if self._begun:
                self._begun = set()

    @property
    def begun(self) -> bool:
        """Whether a client has had a piece of this batch: it cannot be run again."""
        return bool(self._begun)

    def send(
        self,
        results: Sequence[Result] | Mapping[int, Result] | None,
        ids: Mapping[int, str],
        message: str,
        code: int,
        context: Context,
    ) -> None:
        """Send one piece for each row that `ids` (index → request id) names.

        Args:
            results: what the pieces are made of, by the same index.
            ids: the rows; others of the batch are not touched.
            message: what the callers are told when `code` is not 200.
            code: 200; anything else ends these rows with that status.
            context: of the batch: its headers and statuses travel with a row's first piece.

        Raises:
            ReaderLeft: no client of the batch is there any more.
            PredictionFailed: a piece is no result, or too long, or cannot be streamed.
        """
        with self._lock:
            rows = self._rows
            if rows is None:
                raise PredictionFailed("A piece was sent while no request was being handled.")
            if context.in_list:
                raise PredictionFailed(
                    "The elements of a JSON list cannot be streamed; set splitJsonArrays: off."
                )
            pieces = [ABSENT] * len(rows)
            for index, request_id in ids.items():
                place = _place(rows, index, request_id)
                if code == OK:
                    result = b"error" if results is None else results[index]
                    pieces[place] = self._piece(place, index, result, context)
                else:
                    pieces[place] = _refusal(message, code)
            self._raise_if_left()
            self._sock.sendall(protocol.pack_end(self._batch, pieces, Kind.PART))

    def _piece(self, place: int, index: int, result: Result, context: Context) -> RowResult:
        body = encode(result)
        if place in self._begun:
            piece = RowResult(body)
        else:
            context.set_response_header(index, NEXT, "true")
            piece = row_result(body, context.request_processor[index])
        problem = too_long(piece, self._limit)
        if problem is not None:
            raise PredictionFailed(problem)
        self._begun.add(place)
        return piece

    def _raise_if_left(self) -> None:
        came = self._inbox.peek()
        if came == (Kind.CANCEL, self._batch):
            raise ReaderLeft("nobody reads the answers of this batch any more")


def _place(rows: Sequence[Row], index: int, request_id: str) -> int:
    """Return where in the batch a request is: nearly always at the index that the handler says."""
    if 0 <= index < len(rows) and rows[index].request_id == request_id:
        return index
    for place, row in enumerate(rows):
        if row.request_id == request_id:
            return place
    raise PredictionFailed(
        f"A piece was sent for request {request_id!r}, which is not handled now."
    )


def _refusal(message: str, code: int) -> RowResult:
    fault: dict[str, Any] = {"reason": "HandlerRefused", "message": message, "status": code}
    return RowResult(orjson.dumps(fault), protocol.ROW_FAULT)
