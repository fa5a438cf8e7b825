"""What a handler sees besides its rows: the batch's context, and the rows as they come off the wire."""

from __future__ import annotations


class Row:
    """One request of a batch, undecoded."""

    __slots__ = (
        "body",
        "content_type",
        "describe",
        "explain",
        "headers",
        "request_id",
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
    ) -> None:
        self.request_id = request_id
        self.headers = headers  # b"Name: value\r\n" per header, in the client's spelling
        self.content_type = content_type
        self.body = body
        self.url_path = url_path
        self.explain = explain
        self.describe = describe


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
