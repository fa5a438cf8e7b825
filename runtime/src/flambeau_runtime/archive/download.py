"""Fetching an archive over HTTP through fsspec: guarded, and resumed after a cut.

Runs in a thread; `stop` ends it between two chunks. Proxies (HTTPS_PROXY, NO_PROXY) and private
certificate authorities (SSL_CERT_FILE, SSL_CERT_DIR) come from the environment.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from flambeau_runtime.archive.sources import Remote, refuse_link_local
from flambeau_runtime.errors import SourceNotFound, SourceUnavailable

CHUNK = 1024 * 1024
LOOK_UP_EVERY_S = 0.5
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
TRY_LATER = frozenset({408, 425, 429})
PAUSES_S = (0.2, 1.0, 3.0, 5.0)
"""Between attempts that brought nothing; any byte that arrives begins the row again."""

OnBytes = Callable[[int, int | None], None]


class DownloadStopped(Exception):
    """Nobody waits for this download any more."""


class LinkLocalRefused(OSError):
    """A name or a redirect led to a link-local address."""


@dataclass(slots=True)
class Download:
    """One archive on its way; what has come is kept beside `target` until it is whole."""

    remote: Remote
    target: Path
    on_bytes: OnBytes
    stop: Event

    @property
    def partial(self) -> Path:
        """Return where the bytes are kept until all have come."""
        return self.target.with_name(f"{self.target.name}.partial")

    @property
    def notes(self) -> Path:
        """Return where the validator of those bytes is kept."""
        return self.target.with_name(f"{self.target.name}.partial.json")

    def run(self) -> None:
        """Bring the archive to `target`.

        Raises:
            SourceUnavailable: it did not come, after several tries; SourceNotFound: it never will.
            DownloadStopped: `stop` was set.
        """
        self.target.parent.mkdir(parents=True, exist_ok=True)
        pauses = iter(PAUSES_S)
        while True:
            before = self._have()
            try:
                self._attempt()
                break
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                fault = self._fault(error)
                if isinstance(fault, SourceNotFound):
                    raise fault from error
                if self._have() > before:
                    pauses = iter(PAUSES_S)
                pause = next(pauses, None)
                if pause is None:
                    raise fault from error
                if self.stop.wait(pause):
                    raise DownloadStopped from error
        self.partial.replace(self.target)
        self.notes.unlink(missing_ok=True)

    def _attempt(self) -> None:
        validator = self._validator()
        have = self._have() if validator else 0
        headers = {"Accept-Encoding": "identity"}
        if have and validator:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        filesystem = HTTPFileSystem(
            get_client=_open_session, encoded=True, skip_instance_cache=True
        )
        try:
            stream = filesystem.open(self.remote.url, block_size=0, size=1, headers=headers)
        except aiohttp.ClientResponseError as error:
            if error.status == RANGE_NOT_SATISFIABLE:
                self.notes.unlink(missing_ok=True)  # without a validator the next try starts anew
            raise
        with stream:
            self._receive(stream.r, filesystem.loop, have)

    def _receive(
        self, response: aiohttp.ClientResponse, loop: asyncio.AbstractEventLoop, have: int
    ) -> None:
        headers = response.headers
        resumed = response.status == PARTIAL_CONTENT and _starts_at(headers, have)
        if response.status == PARTIAL_CONTENT and not resumed:
            self.notes.unlink(missing_ok=True)
            raise aiohttp.ClientPayloadError("the server sent another range than was asked for")
        have = have if resumed else 0
        length = headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        self._note(headers)
        with self.partial.open("ab" if resumed else "wb") as file:
            while chunk := self._read(response, loop):
                file.write(chunk)
                have += len(chunk)
                self.on_bytes(have, total)
        if total is not None and have < total:
            raise aiohttp.ClientPayloadError(f"{have} of {total} bytes came")

    def _read(self, response: aiohttp.ClientResponse, loop: asyncio.AbstractEventLoop) -> bytes:
        """Wait for the next bytes, and for `stop`: a silent server must not hold up an exit."""
        reading = asyncio.run_coroutine_threadsafe(response.content.read(CHUNK), loop)
        while not self.stop.is_set():
            done, _ = wait([reading], timeout=LOOK_UP_EVERY_S)
            if done:
                return reading.result()
        reading.cancel()
        raise DownloadStopped

    def _have(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _validator(self) -> str | None:
        """Return what tells the server which content the bytes so far are of, if anything does."""
        try:
            notes: dict[str, Any] = json.loads(self.notes.read_text())
        except (OSError, ValueError):
            return None
        return notes.get("validator") if notes.get("url") == self.remote.shown else None

    def _note(self, headers: Mapping[str, str]) -> None:
        etag = headers.get("ETag", "")
        validator = headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag
        self.notes.write_text(json.dumps({"url": self.remote.shown, "validator": validator}))

    def _fault(self, error: BaseException) -> SourceUnavailable:
        text = f"Failed to download archive from: {self.remote.shown}"
        refused = _find_refusal(error)
        if refused is not None:
            return SourceNotFound(f"{text}: {refused}")
        if isinstance(error, FileNotFoundError):
            return SourceNotFound(f"{text}: 404 Not Found")
        if isinstance(error, aiohttp.ClientResponseError):
            answer = f"{text}: {error.status} {error.message}"
            final = 400 <= error.status < 500 and error.status not in TRY_LATER  # noqa: PLR2004  HTTP's client errors
            kept = error.status != RANGE_NOT_SATISFIABLE
            return SourceNotFound(answer) if final and kept else SourceUnavailable(answer)
        return SourceUnavailable(f"{text}: {type(error).__name__}: {error}")


def _starts_at(headers: Mapping[str, str], have: int) -> bool:
    return headers.get("Content-Range", "").replace("bytes ", "", 1).startswith(f"{have}-")


def _find_refusal(error: BaseException | None) -> LinkLocalRefused | None:
    while error is not None and not isinstance(error, LinkLocalRefused):
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    return error


async def _open_session(**kwargs: Any) -> aiohttp.ClientSession:  # noqa: ANN401  fsspec's own arguments
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=_open_socket),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
        trust_env=True,
        # the bytes as they are: a .tar.gz is often labelled as a compressed transfer
        auto_decompress=False,
        **kwargs,
    )


def _open_socket(address: tuple[Any, ...]) -> socket.socket:
    """Open a socket for one resolved address: names and redirects are judged here, too."""
    family, kind, protocol, _, where = address
    try:
        refuse_link_local(str(where[0]))
    except SourceNotFound as error:
        raise LinkLocalRefused(str(error)) from error
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    return opened
