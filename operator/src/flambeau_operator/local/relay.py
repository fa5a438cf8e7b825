"""The two ends of a relayed connection: what one reads is written to the other, at its pace.

Both directions end on their own (half-close), and a side that leaves is heard to its last word.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final, Protocol, cast

WRITE_BUFFER_BYTES: Final = 256 << 10  # per direction, then the other side is not read
LINGER_S: Final = 2.0  # a client may read this long what a pod said before it hung up


class Keeper(Protocol):
    """Who brings the ends together and counts them."""

    def greet(self, client: Client) -> None:
        """Find a pod for a connection that was just accepted."""

    def adopt(self, side: Side) -> None:
        """Remember an open end."""

    def forget(self, side: Side) -> None:
        """The end is closed."""

    def release(self, name: str) -> None:
        """A pod has one connection less."""


class Side(asyncio.Protocol):
    """One end of a joined pair: what it reads is written to the other, at the other's pace."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._peer: Side | None = None
        self.transport: asyncio.Transport | None = None
        self.ended = False  # it will send nothing more
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be joined to the kernel's end, without delays for small writes."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Hand it on."""
        peer = self._peer
        if peer is not None and peer.transport is not None:
            peer.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the half-close on; the other direction stays open until it ends, too."""
        self.ended = True
        peer = self._peer
        if peer is None or peer.transport is None:
            return False
        if peer.ended:
            peer.transport.close()
            return False
        if not peer.transport.is_closing():
            peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Read no more from the other end than this one takes."""
        if self._peer is not None and self._peer.transport is not None:
            self._peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading from the other end."""
        if self._peer is not None and self._peer.transport is not None:
            self._peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Be gone, and let the other end know."""
        self.gone = True
        self._keeper.forget(self)
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.left_alone(broken=exc is not None)

    def left_alone(self, *, broken: bool) -> None:
        """The other end is gone: send what is buffered and close, or break off as it did."""
        self._peer = None
        if self.transport is not None and broken:
            self.transport.abort()
        elif self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection now."""
        if self.transport is not None:
            self.transport.abort()


class Client(Side):
    """The end towards a client; it is not read before a pod is there to read for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a pod."""
        super().connection_made(transport)
        # One turn later: in early CPython 3.11 a pause in here is undone by what asyncio does next,
        # and a request that comes before its pod is lost. The greeting's first step comes after.
        asyncio.get_running_loop().call_soon(cast("asyncio.Transport", transport).pause_reading)
        self._keeper.greet(self)

    def join(self, upstream: Upstream) -> None:
        """Let the bytes flow."""
        self._peer = upstream
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def left_alone(self, *, broken: bool) -> None:
        """The pod is gone, in whatever way: let the client read what it still said."""
        del broken
        self._peer = None
        if self.transport is None or self.transport.is_closing():
            return
        if self.ended:
            self.transport.close()
            return
        self.transport.resume_reading()
        self.transport.write_eof()
        self.linger()

    def turn_away(self) -> None:
        """Answer 503 and hang up once the client has heard it."""
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.resume_reading()
        self.transport.write(NO_POD)
        self.transport.write_eof()
        self.linger()

    def linger(self) -> None:
        """Close soon: at once would reset a client that still sends, and lose the answer."""
        asyncio.get_running_loop().call_later(LINGER_S, self._hang_up)

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Upstream(Side):
    """The end towards a pod."""

    def __init__(self, keeper: Keeper, client: Client, name: str) -> None:
        super().__init__(keeper)
        self._peer = client
        self._client = client
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the bytes flow, if the client is still there."""
        super().connection_made(transport)
        self._keeper.adopt(self)
        if self._client.gone:
            self.abort()
        else:
            self._client.join(self)

    def eof_received(self) -> bool:
        """The pod has said all it will: an HTTP server that hangs up reads no further request."""
        open_still = super().eof_received()
        if open_still:
            self._client.linger()
        return open_still

    def connection_lost(self, exc: Exception | None) -> None:
        """Be gone, once all that the pod said is handed on."""
        self._keeper.release(self._name)
        if exc is not None and self.transport is not None:
            # Our write may have met a reset before we read the answer that explains it (413, say).
            for words in _last_words(self.transport):
                self.data_received(words)
        super().connection_lost(exc)


def _last_words(transport: asyncio.Transport) -> Iterator[bytes]:
    """Read what a broken connection still holds; its socket is closed only after this."""
    descriptor = transport.get_extra_info("socket").fileno()
    with contextlib.suppress(OSError):
        for _ in range(16):
            words = os.read(descriptor, 65_536)
            if not words:
                return
            yield words


def _no_pod() -> bytes:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    body = json.dumps(
        {"code": status, "type": "NoReadyReplica", "message": "no replica is ready to answer"},
        indent=2,
    )
    return (
        f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body) + 1}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}\n"
    ).encode()


NO_POD: Final = _no_pod()
