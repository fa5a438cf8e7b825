"""Accepting connections where TLS is spoken: who begins without it is told so.

An event loop's own listener would close such a connection without a word.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from flambeau_runtime.api.problems import pretty

HANDSHAKE = b"\x16"
"""The first byte of a client that speaks TLS."""
FIRST_BYTE_S = 10.0
HANDSHAKE_S = 10.0
SHUTDOWN_S = 5.0
LINGER_S = 5.0
ACCEPTED_AT_ONCE = 100
OUT_OF_DESCRIPTORS_S = 1.0

log = logging.getLogger(__name__)

_BODY = pretty({"status": "This TorchServe instance only accepts HTTPS requests"})
ONLY_HTTPS = (
    b"HTTP/1.1 403 Forbidden\r\n"
    b"content-type: application/json\r\n"
    b"Pragma: no-cache\r\n"
    b"Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
    b"Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class TlsDoor:
    """Accepts on one socket, looks at the first byte, and makes a protocol for who speaks TLS."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        make_connection: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listening = listening
        self._context = context
        self._make_connection = make_connection
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._greeting: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more, and let go of who has not said enough yet."""
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._listening)
        for sock in tuple(self._silent):
            self._give_up(sock)
        for task in self._greeting:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nobody is greeted any more: the connections are their protocols' own."""
        if self._greeting:
            await asyncio.wait(self._greeting)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                log.exception("cannot accept a connection")
                self._rest()
                return
            sock.setblocking(False)
            timer = self._loop.call_later(FIRST_BYTE_S, self._give_up, sock)
            self._silent[sock] = timer
            self._loop.add_reader(sock, self._look, sock)

    def _rest(self) -> None:
        """Wait a little when there are no descriptors left: the loop would spin otherwise."""
        self._loop.remove_reader(self._listening)
        self._resting = self._loop.call_later(OUT_OF_DESCRIPTORS_S, self.open)

    def _give_up(self, sock: socket.socket) -> None:
        self._stop_looking(sock)
        sock.close()

    def _stop_looking(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        self._silent.pop(sock).cancel()

    def _look(self, sock: socket.socket) -> None:
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if not first:
            self._give_up(sock)
            return
        self._stop_looking(sock)
        task = self._loop.create_task(self._greet(sock, speaks_tls=first == HANDSHAKE))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def _greet(self, sock: socket.socket, *, speaks_tls: bool) -> None:
        """Shake hands, or say why not; a client that breaks off is no news."""
        with suppress(OSError):
            if speaks_tls:
                await self._loop.connect_accepted_socket(
                    self._make_connection,
                    sock,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_S,
                    ssl_shutdown_timeout=SHUTDOWN_S,
                )
            else:
                await self._loop.connect_accepted_socket(OnlyHttps, sock)


class OnlyHttps(asyncio.Protocol):
    """Says that this is the wrong protocol, and waits until the client has stopped sending."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  whatever it is
        """Answer once."""
        if self._answered:
            return
        self._answered = True
        self._transport.write(ONLY_HTTPS)
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)
