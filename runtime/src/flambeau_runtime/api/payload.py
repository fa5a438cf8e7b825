"""Request → Payload, Prediction → response, as bytes; what both HTTP doors share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from http import HTTPStatus
from itertools import count

from flambeau_runtime.api.problems import Problem, final_status
from flambeau_runtime.errors import BadRequest
from flambeau_runtime.serving.job import Prediction

METHODS = frozenset((b"POST", b"PUT", b"GET", b"DELETE", b"PATCH"))
"""Those that predict, as with TorchServe."""

OK = 200
BODILESS = frozenset((204, 304))
"""Statuses whose answers end with their head, and have no content-length."""
LONGEST_REQUEST_ID = 128
LONGEST_CONTENT_TYPE = 8 * 1024
_TYPE = b"\r\ncontent-type:"
_VISIBLE = re.compile(rb"[!-~]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

KEEP_ALIVE = b"\r\nconnection: keep-alive\r\n\r\n"
CLOSE = b"\r\nconnection: close\r\n\r\n"
"""How a head ends; what every answer has in common goes before it, once per listener."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

NEVER_CACHED = (
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache; no-store, must-revalidate, private"),
    ("Expires", "Thu, 01 Jan 1970 00:00:00 UTC"),
)
"""Headers of every answer."""


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return headers as they stand in a head, a line break before each."""
    return b"".join(b"\r\n%b: %b" % (name.encode(), _printable(value)) for name, value in headers)


def _printable(text: str) -> bytes:
    """Return a header's value without anything that could end its line."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.encode("latin-1", "replace")


_UNCACHED = header_lines(NEVER_CACHED)
_NEVER_CACHED = _UNCACHED + b"\r\ncontent-length: "
_CHUNKED = b"\r\ntransfer-encoding: chunked"
_PHRASES = {int(status): status.phrase.encode() for status in HTTPStatus}
_OK = b"HTTP/1.1 200 \r\nx-request-id: "
_OURS = frozenset(
    {"connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "trailer", "te"}
    | {"x-request-id", "pragma", "cache-control", "expires"}
)
"""Headers about the connection, which a handler cannot know, and those TorchServe overwrites."""


class RequestIds:
    """Fresh ids with the looks of a uuid: random once per process, then counted."""

    def __init__(self) -> None:
        seed = os.urandom(16).hex()
        self._prefix = f"{seed[:8]}-{seed[8:12]}-4{seed[13:16]}-a{seed[17:20]}-"
        self._next = count(int(seed[20:31], 16)).__next__

    def fresh(self) -> str:
        """Return an id that no other request of this process has."""
        return f"{self._prefix}{self._next() & 0xFFFFFFFFFFFF:012x}"


def find_header(block: bytes, lowered: bytes, name: bytes) -> bytes | None:
    r"""Return the value of the first header of that name.

    Args:
        block: `b"Name: value\r\n"` per header, with a line break before the first.
        lowered: the same in lower case.
        name: in lower case, between `b"\r\n"` and `b":"`.
    """
    at = lowered.find(name)
    if at < 0:
        return None
    start = at + len(name)
    return block[start : block.index(b"\r\n", start)].strip()


def accepted_id(sent: bytes) -> str | None:
    """Return the id that a client sent, None when it is too long or more than visible ASCII."""
    if len(sent) <= LONGEST_REQUEST_ID and _VISIBLE.fullmatch(sent):
        return sent.decode("ascii")
    return None


def read_content_type(block: bytes, lowered: bytes) -> str:
    """Return the content type, "" without one.

    Raises:
        BadRequest: it is longer than a worker could be told.
    """
    sent = find_header(block, lowered, _TYPE)
    if not sent:
        return ""
    if len(sent) > LONGEST_CONTENT_TYPE:
        raise BadRequest(f"The Content-Type is longer than {LONGEST_CONTENT_TYPE} bytes.")
    return sent.decode("latin-1")


def read_timeout_s(sent: bytes, longest_s: float) -> float:
    """Return how long a client wants to wait, at most `longest_s`.

    Raises:
        BadRequest: that is no positive number.
    """
    try:
        seconds = float(sent)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise BadRequest("X-Request-Timeout is not a positive number of seconds.")
    return min(seconds, longest_s)


def render(request_id: str, prediction: Prediction, size: int, ending: bytes) -> bytes:
    """Return the head of an answer with `size` bytes of body: TorchServe's and the handler's."""
    length = str(size).encode()
    if prediction.status == OK and not prediction.phrase and not prediction.headers:
        return b"".join((_OK, request_id.encode(), _NEVER_CACHED, length, ending))
    handlers = _handler_headers(prediction.headers)
    told = (_UNCACHED,) if prediction.status in BODILESS else (_NEVER_CACHED, length)
    return b"".join(
        (
            _status_line(prediction.status, prediction.phrase),
            handlers[2:] + b"\r\n" if handlers else b"",
            b"x-request-id: ",
            request_id.encode(),
            *told,
            ending,
        )
    )


def render_stream(request_id: str, first: Prediction, ending: bytes, *, chunked: bool) -> bytes:
    """Return the head of a streamed answer, whose first piece decides it."""
    handlers = _handler_headers(first.headers)
    return b"".join(
        (
            _status_line(first.status, first.phrase),
            handlers[2:] + b"\r\n" if handlers else b"",
            b"x-request-id: ",
            request_id.encode(),
            _UNCACHED,
            _CHUNKED if chunked else b"",
            ending,
        )
    )


def render_problem(request_id: str, problem: Problem, size: int, ending: bytes) -> bytes:
    """Return the head of an error's answer."""
    retry = b"" if problem.retry_after_s is None else b"\r\nRetry-After: %d" % problem.retry_after_s
    return b"".join(
        (
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\nx-request-id: "
            % (problem.status, _PHRASES.get(problem.status, b"")),
            request_id.encode(),
            retry,
            _NEVER_CACHED,
            str(size).encode(),
            ending,
        )
    )


def _status_line(status: int, phrase: str) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (final_status(status), _printable(phrase))


def _handler_headers(headers: tuple[tuple[str, str], ...]) -> bytes:
    return header_lines(
        (name, value)
        for name, value in headers
        if _TOKEN.fullmatch(name) and name.lower() not in _OURS
    )
