"""HTTP as bytes: nothing between a test and what went over the connection."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

LIMIT_S = 90.0
"""How long a test waits for the next bytes."""


class Closed(AssertionError):
    """The server closed the connection, where a test expected more bytes."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, with its head as it was sent."""

    head: bytes
    """Status line and header lines, up to and without the empty line."""
    body: bytes
    chunks: tuple[bytes, ...] = ()
    """The pieces of a chunked body, as they were sent."""

    @property
    def status_line(self) -> str:
        return self.head.split(b"\r\n")[0].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ")[1])

    @property
    def reason(self) -> str:
        return self.status_line.split(" ", 2)[2]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Header fields in the order and the spelling in which they were sent."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (it.partition(":") for it in lines)]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever its spelling."""
        return next((v for n, v in self.fields if n.lower() == name.lower()), None)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection. Waits at most `LIMIT_S` for each next byte."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._held = b""

    @classmethod
    def to_port(cls, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        """Connect to a port of this machine."""
        connected = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        return cls(tls.wrap_socket(connected, server_hostname="localhost") if tls else connected)

    @classmethod
    def to_socket(cls, path: str) -> Self:
        """Connect to a unix socket."""
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(LIMIT_S)
        try:
            connected.connect(path)
        except OSError:
            connected.close()
            raise
        return cls(connected)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and read its answer."""
        self.send(request_bytes(method, path, body, headers))
        return self.answer()

    def answer(self) -> Answer:
        """Read one answer, to the end that its head announces."""
        head = self.until(b"\r\n\r\n").removesuffix(b"\r\n\r\n")
        announced = Answer(head, b"")
        if (announced.header("transfer-encoding") or "").lower() == "chunked":
            chunks = tuple(self.chunks())
            return Answer(head, b"".join(chunks), chunks)
        if announced.status < 200 or announced.status in (204, 304):
            return announced
        length = announced.header("content-length")
        return Answer(head, self.rest() if length is None else self.exactly(int(length)))

    def chunks(self) -> Iterator[bytes]:
        """Yield the pieces of a chunked body as they come, to the end of the answer."""
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            piece = self.exactly(size)
            assert self.exactly(2) == b"\r\n"
            yield piece
        while self.until(b"\r\n") != b"\r\n":  # trailers
            pass

    def until(self, end: bytes) -> bytes:
        """Read up to `end`, and return it too."""
        while end not in self._held:
            self._receive()
        at = self._held.index(end) + len(end)
        data, self._held = self._held[:at], self._held[at:]
        return data

    def exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._receive()
        data, self._held = self._held[:size], self._held[size:]
        return data

    def rest(self) -> bytes:
        """Read until the server closes the connection."""
        while True:
            try:
                self._receive()
            except Closed:
                data, self._held = self._held, b""
                return data

    def is_closed(self) -> bool:
        """Wait until the server closes the connection; other bytes are the answer no."""
        try:
            self._receive()
        except Closed:
            return True
        return False

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(f"the server closed the connection after {self._held!r}")
        self._held += data


def request_bytes(
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return a request with the given headers and no others but Host and Content-Length."""
    named = {"Host": "localhost", **(headers or {})}
    lower = {name.lower() for name in named}
    if body is not None and not lower & {"content-length", "transfer-encoding"}:
        named["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b"")


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Hold a listening socket on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT_S)
        yield server
