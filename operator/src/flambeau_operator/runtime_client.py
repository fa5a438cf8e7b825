"""The one HTTP client of the operator: the management API of the pods, every call signed.

A call proves by an Ed25519 JWT that it comes from this operator, is meant for pods of this owner
(audience) and carries this body; pods hold only public keys. A redirect is never followed, a proxy
never used, and an answer is read up to a bound, so that a hostile pod costs little.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flambeau_operator.doors import Pod
from flambeau_operator.errors import Refused, Silent
from flambeau_operator.resources import pod_state_json
from flambeau_operator.resources.pod_state import Document, PodState

log = logging.getLogger(__name__)

TOKEN_LIFE_S = 60


class Signer:
    """Signs calls to pods with a private key that never leaves this process."""

    def __init__(self, key: Ed25519PrivateKey, clock: Callable[[], datetime]) -> None:
        self._key = key
        self._clock = clock

    @property
    def public_key(self) -> str:
        """The raw public key, base64url, as a boot file lists it."""
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.urlsafe_b64encode(raw).decode()

    def authorisation(self, owner_uid: str, body: bytes) -> str:
        """Return the header that lets this body into the pods of this owner, for a minute."""
        now = int(self._clock().timestamp())
        claims = {
            "aud": owner_uid,
            "iat": now,
            "exp": now + TOKEN_LIFE_S,
            "bodySha256": hashlib.sha256(body).hexdigest(),
        }
        return "Bearer " + jwt.encode(claims, self._key, algorithm="EdDSA")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a pod may take, and how often it is asked before it counts as silent."""

    try_s: float = 3.0
    tries: int = 3
    between_s: float = 0.1
    max_answer_bytes: int = 4 << 20


class HttpRuntimeClient:
    """RuntimeClient over HTTP; one session for all pods, open as long as the block lasts."""

    def __init__(self, signer: Signer, patience: Patience | None = None) -> None:
        self._signer = signer
        self._patience = patience or Patience()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session; no pod is asked yet."""
        self._session = aiohttp.ClientSession(
            # Long polls occupy a connection each, so the pool has no bound of its own.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": "flambeau-operator"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get_state(self, pod: Pod, after: str | None = None, wait_s: float = 0) -> PodState:
        """See `doors.RuntimeClient`."""
        query = "" if after is None else f"?after={quote(after, safe='')}&wait={wait_s:g}s"
        # One that fails the cluster's own probe must not hold up the pass for all the others.
        tries = self._patience.tries if pod.ready else 1
        answer = await self._call(pod, "GET", f"/state{query}", wait_s=wait_s, tries=tries)
        try:
            return pod_state_json.pod_state_from_json(answer)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Silent(f"{pod.name}: its state is not readable: {error}") from error

    async def put_state(self, pod: Pod, document: Document) -> None:
        """See `doors.RuntimeClient`."""
        body = json.dumps(pod_state_json.document_to_json(document), separators=(",", ":")).encode()
        await self._call(pod, "PUT", "/state", body)

    async def drain(self, pod: Pod) -> None:
        """See `doors.RuntimeClient`."""
        await self._call(pod, "POST", "/drain")

    async def is_ready(self, pod: Pod) -> bool:
        """See `doors.RuntimeClient`."""
        status, _ = await self._try(pod, "GET", "/ready", b"", self._patience.try_s)
        return status == HTTPStatus.OK

    async def _call(
        self,
        pod: Pod,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        wait_s: float = 0,
        tries: int | None = None,
    ) -> Mapping[str, object]:
        """Call until there is an answer, or the tries are spent; every call here is idempotent."""
        patience = self._patience
        for left in reversed(range(tries or patience.tries)):
            try:
                status, answer = await self._try(pod, method, path, body, wait_s + patience.try_s)
                return _accepted(pod, status, answer)
            except Silent as silent:
                if left == 0:
                    raise
                log.debug("pod silent", extra={"pod": pod.name, "why": str(silent)})
                await asyncio.sleep(patience.between_s)
        raise Silent(f"{pod.name}: was never asked")

    async def _try(
        self, pod: Pod, method: str, path: str, body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """Ask once and return status and body, read up to the bound."""
        if self._session is None:
            raise RuntimeError("the client is used outside its block")
        if not pod.address:
            raise Silent(f"{pod.name}: has no address yet")
        headers = {"authorization": self._signer.authorisation(pod.owner_uid, body)}
        if body:
            headers["content-type"] = "application/json"
        bound = self._patience.max_answer_bytes
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method,
                    pod.address.rstrip("/") + path,
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(),
                ) as response,
            ):
                answer = await _read(response, bound)
                return response.status, answer
        except TimeoutError as error:
            raise Silent(f"{pod.name}: no answer within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Silent(f"{pod.name}: {str(error) or type(error).__name__}") from error


async def _read(response: aiohttp.ClientResponse, bound: int) -> bytes:
    """Read a body of at most `bound` bytes."""
    parts = bytearray()
    async for part in response.content.iter_any():
        parts += part
        if len(parts) > bound:
            raise ValueError(f"its answer is longer than {bound} bytes")
    return bytes(parts)


def _accepted(pod: Pod, status: int, answer: bytes) -> Mapping[str, object]:
    """Return the JSON object of a good answer; an error becomes Refused, anything else Silent."""
    try:
        content = json.loads(answer) if answer.strip() else {}
    except ValueError:
        content = None
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Refused(status, content if isinstance(content, dict) else {})
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise Silent(f"{pod.name}: answered {status}")
    if not isinstance(content, dict):
        raise Silent(f"{pod.name}: did not answer with a JSON object")
    return content


def base_url(host: str, port: int) -> str:
    """Return the URL of a pod's listener; an IPv6 address gets its brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
