"""A streamed answer as HTTP/1.1 has it: one head, a chunk for each piece, and an end."""

from __future__ import annotations

from flambeau_runtime.api.payload import BODILESS, render_stream
from flambeau_runtime.api.problems import final_status
from flambeau_runtime.serving.job import Prediction

LAST_CHUNK = b"0\r\n\r\n"


class StreamedAnswer:
    """What is known of an answer that has begun: its status, and whether it may have a body."""

    __slots__ = ("keep", "status")

    def __init__(self, first: Prediction, *, keep: bool) -> None:
        self.status = final_status(first.status)
        self.keep = keep  # the connection, after the end

    def head(self, request_id: str, first: Prediction, ending: bytes) -> bytes:
        """Return the head, which the first piece decides, and which ends so."""
        return render_stream(request_id, first, ending, chunked=self.has_body)

    def chunk(self, body: bytes | bytearray | memoryview) -> list[bytes | bytearray | memoryview]:
        """Return the parts of one piece; none for an empty one, which would be the end."""
        if not body or not self.has_body:
            return []
        return [b"%x\r\n" % len(body), body, b"\r\n"]

    def end(self) -> bytes:
        """Return what tells that the answer is whole."""
        return LAST_CHUNK if self.has_body else b""

    @property
    def has_body(self) -> bool:
        """Whether the status lets a body follow."""
        return self.status not in BODILESS
