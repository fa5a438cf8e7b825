"""One row's answer, as it leaves the worker: body, status, headers, and how long they may be."""

from __future__ import annotations

from flambeau_runtime.worker.context import RequestProcessor, RowResult

LONGEST_HEADERS = 32 * 1024
"""Characters."""


def row_result(body: bytes, processor: RequestProcessor) -> RowResult:
    """Return one row's answer: its body, with the status and headers that the handler set."""
    if processor.untouched:
        return RowResult(body)
    return RowResult(
        body,
        final_code(processor.status),
        _one_line(processor.phrase or ""),
        tuple(
            (_one_line(name), _one_line(value))
            for name, value in processor.get_response_headers().items()
        ),
    )


def _one_line(text: object) -> str:
    """Return text that cannot end its header early."""
    return " ".join(str(text).split("\r\n")).replace("\n", " ").replace("\r", " ")


def final_code(code: object) -> int:
    """Return a status that HTTP knows; 500 in the place of any other."""
    known = isinstance(code, int) and 100 <= code <= 599  # noqa: PLR2004  HTTP's own bounds
    return int(code) if known else 500  # type: ignore[call-overload]


def too_long(result: RowResult, limit: int) -> str | None:
    """Return what is wrong with an answer's length, None when nothing is."""
    if len(result.body) > limit:
        return (
            f"The response of {len(result.body)} bytes is larger than max_response_size "
            f"({limit} bytes); return less, or raise it."
        )
    if result.headers and sum(len(k) + len(v) for k, v in result.headers) > LONGEST_HEADERS:
        return f"The response's headers are longer than {LONGEST_HEADERS} characters."
    return None
