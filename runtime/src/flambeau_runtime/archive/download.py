"""Fetching an archive over HTTP through fsspec: guarded, and resumed after a cut.

Runs in a thread; `stop` ends it between two chunks. Proxies (HTTPS_PROXY, NO_PROXY) and private
certificate authorities (SSL_CERT_FILE, SSL_CERT_DIR) come from the environment.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from flambeau_runtime.archive import attempts
from flambeau_runtime.archive.attempts import DownloadStopped
from flambeau_runtime.archive.partial import OnBytes, Partial
from flambeau_runtime.archive.sources import Remote, refuse_link_local
from flambeau_runtime.errors import SourceNotFound, SourceUnavailable

CHUNK = 1024 * 1024
LOOK_UP_EVERY_S = 0.5
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
TRY_LATER = frozenset({408, 425, 429})


class LinkLocalRefused(OSError):
    """A name or a redirect led to a link-local address."""


@dataclass(slots=True)
class Download:
    """One archive on its way; what has come is kept beside `target` until it is whole.

    `content` names what is behind the URL where that never changes (a digest): then the bytes so
    far are good without asking the server.
    """

    remote: Remote
    target: Path
    on_bytes: OnBytes
    stop: Event
    headers: Callable[[], Mapping[str, str]] = dict  # asked before each attempt: tokens end
    content: str | None = None
    pauses_s: tuple[float, ...] | None = None  # None: the usual ones

    def run(self) -> None:
        """Bring the archive to `target`.

        Raises:
            SourceUnavailable: it did not come, after several tries; SourceNotFound: it never will.
            DownloadStopped: `stop` was set.
        """
        partial = Partial(self.remote.shown, self.target, self.on_bytes)
        pauses_s = attempts.PAUSES_S if self.pauses_s is None else self.pauses_s
        attempts.persist(partial, lambda: self._attempt(partial), self._fault, self.stop, pauses_s)

    def _attempt(self, partial: Partial) -> None:
        validator = partial.validator()
        have = partial.size() if validator else 0
        filesystem = HTTPFileSystem(get_client=open_session, encoded=True, skip_instance_cache=True)
        headers = {"Accept-Encoding": "identity", **self.headers()}
        headers |= self._range(have, validator)
        try:
            stream = filesystem.open(self.remote.url, block_size=0, size=1, headers=headers)
        except aiohttp.ClientResponseError as error:
            if error.status == RANGE_NOT_SATISFIABLE:
                partial.forget()  # without a validator the next try starts anew
            raise
        with stream:
            self._receive(stream.r, filesystem.loop, partial, have)

    def _range(self, have: int, validator: str | None) -> dict[str, str]:
        if not have or validator is None:
            return {}
        if self.content is not None:
            return {"Range": f"bytes={have}-"} if validator == self.content else {}
        return {"Range": f"bytes={have}-", "If-Range": validator}

    def _receive(
        self,
        response: aiohttp.ClientResponse,
        loop: asyncio.AbstractEventLoop,
        partial: Partial,
        have: int,
    ) -> None:
        headers = response.headers
        resumed = response.status == PARTIAL_CONTENT and _starts_at(headers, have)
        if response.status == PARTIAL_CONTENT and not resumed:
            partial.forget()
            raise aiohttp.ClientPayloadError("the server sent another range than was asked for")
        have = have if resumed else 0
        length = headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        with partial.open(self.content or _validator(headers), total, have) as write:
            while chunk := self._read(response, loop):
                write(chunk)
        if total is not None and partial.have < total:
            raise aiohttp.ClientPayloadError(f"{partial.have} of {total} bytes came")

    def _read(self, response: aiohttp.ClientResponse, loop: asyncio.AbstractEventLoop) -> bytes:
        """Wait for the next bytes, and for `stop`: a silent server must not hold up an exit."""
        reading = asyncio.run_coroutine_threadsafe(response.content.read(CHUNK), loop)
        while not self.stop.is_set():
            done, _ = wait([reading], timeout=LOOK_UP_EVERY_S)
            if done:
                return reading.result()
        reading.cancel()
        raise DownloadStopped

    def _fault(self, error: Exception) -> SourceUnavailable | None:
        if not isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
            return None
        text = f"Failed to download archive from: {self.remote.shown}"
        refused = find_refusal(error)
        if refused is not None:
            return SourceNotFound(f"{text}: {refused}")
        if isinstance(error, FileNotFoundError):
            return SourceNotFound(f"{text}: 404 Not Found")
        if isinstance(error, aiohttp.ClientResponseError):
            answer = f"{text}: {error.status} {error.message}"
            return SourceNotFound(answer) if is_final(error.status) else SourceUnavailable(answer)
        return SourceUnavailable(f"{text}: {type(error).__name__}: {error}")


def is_final(status: int) -> bool:
    """Tell whether asking a server again would bring the same answer."""
    client_error = 400 <= status < 500  # noqa: PLR2004  HTTP's own classes
    return client_error and status not in TRY_LATER and status != RANGE_NOT_SATISFIABLE


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag


def _starts_at(headers: Mapping[str, str], have: int) -> bool:
    return headers.get("Content-Range", "").replace("bytes ", "", 1).startswith(f"{have}-")


def find_refusal(error: BaseException | None) -> LinkLocalRefused | None:
    """Return the refusal of an address that an error of a library was made of."""
    while error is not None and not isinstance(error, LinkLocalRefused):
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    return error


async def open_session(**kwargs: Any) -> aiohttp.ClientSession:  # noqa: ANN401  fsspec's own arguments
    """Open an HTTP client that goes to no address where clouds keep credentials."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_judge_redirect)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=_open_socket),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
        trust_env=True,
        # the bytes as they are: a .tar.gz is often labelled as a compressed transfer
        auto_decompress=False,
        trace_configs=[trace],
        **kwargs,
    )


async def _judge_redirect(
    _session: aiohttp.ClientSession, _context: object, told: aiohttp.TraceRequestRedirectParams
) -> None:
    """Look where a redirect leads: behind a proxy no socket of ours would ever show it."""
    host = urlsplit(told.response.headers.get("Location", "")).hostname
    if host:
        _judge(host)


def _open_socket(address: tuple[Any, ...]) -> socket.socket:
    """Open a socket for one resolved address: names and redirects are judged here, too."""
    family, kind, protocol, _, where = address
    _judge(str(where[0]))
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    return opened


def _judge(host: str) -> None:
    try:
        refuse_link_local(host)
    except SourceNotFound as error:
        raise LinkLocalRefused(str(error)) from error
