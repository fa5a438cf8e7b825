"""uvicorn's own protocol, for everything on the inference port that is no prediction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from flambeau_runtime.api.bounded_http import BoundedHttp
from flambeau_runtime.api.door import HELD_BYTES
from flambeau_runtime.api.payload import METHODS, find_header
from flambeau_runtime.api.routes import find_route

_LENGTH = re.compile(rb"[0-9]{1,18}")


class HandedOver(BoundedHttp):
    """Answers through ASGI, and gives the connection back when a prediction comes along it.

    `back` makes the protocol that takes it back. `later` is what the client sent behind a message
    that is not answered yet.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.back: Callable[[], asyncio.Protocol]
        self.later = b""
        self._between = True  # no message has begun that is not read whole

    def on_message_begin(self) -> None:
        """Take note that a message has begun."""
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Take note that it has been read whole."""
        self._between = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Turn to what the client sent behind the message that has been answered."""
        super().on_response_complete()
        if self.later and not self.transport.is_closing():
            self.loop.call_soon(self.data_received, b"")

    def data_received(self, data: bytes) -> None:
        """Take bytes; a prediction between two messages goes to the hot path."""
        if self.later:
            data, self.later = self.later + data, b""
        if self.transport.is_closing() or not data:
            return
        if not self._between:
            super().data_received(data)
        elif self._busy:
            self.later = data
            if len(data) > HELD_BYTES:
                self.flow.pause_reading()  # until the answer is complete
        elif self._predicts(data) or b"\r\n" not in data:  # nor can its first line be told yet
            self._give_back(data)
        else:
            first, self.later = split(data)
            super().data_received(first)

    @property
    def _busy(self) -> bool:
        cycle: object = self.cycle  # None before the first message, whatever its type says
        return cycle is not None and not self.cycle.response_complete

    def _predicts(self, data: bytes) -> bool:
        method, _, rest = data.partition(b" ")
        return method in METHODS and find_route(rest.partition(b" ")[0]) is not None

    def _give_back(self, data: bytes) -> None:
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self._stop_watch()
        hot = self.back()
        self.transport.set_protocol(hot)
        hot.connection_made(self.transport)
        hot.data_received(data)


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return a first message and what follows it; all of it while its end cannot be told."""
    end = data.find(b"\r\n\r\n") + len(b"\r\n\r\n")
    head = data[:end].lower()
    sent = find_header(head, head, b"\r\ncontent-length:") or b"0"
    if end < len(b"\r\n\r\n") or b"\r\ntransfer-encoding:" in head or not _LENGTH.fullmatch(sent):
        return data, b""
    end += int(sent)
    return data[:end], data[end:]
