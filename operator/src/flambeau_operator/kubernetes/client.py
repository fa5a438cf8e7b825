"""The only code that imports Kubernetes' client: its configuration and transport, never its types.

Objects are dictionaries here and everywhere above; what an answer means is judged in one table.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from flambeau_operator import names
from flambeau_operator.errors import Conflict, InvalidSettings, Rejected, Unavailable

Object = Mapping[str, Any]
Query = Sequence[tuple[str, str]]

JSON: Final = "application/json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
TIMEOUT_S: Final = 10.0
PAGE: Final = 500
TRIES_WHEN_BUSY: Final = 3
MOST_AT_ONCE: Final = 16  # questions; each connection costs 300 KiB, whatever it carries
LONGEST_PAUSE_S: Final = 30.0
# The API server answers so, with 500, when a manifest names a field that its schema lacks.
UNKNOWN_FIELD: Final = "field not declared in schema"


class Expired(Unavailable):
    """The history that a watch or a page asked for is gone (410): list again."""


class FellSilent(Unavailable):
    """A watch that nothing was heard of, not even a bookmark: its connection may be dead."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the API server is reached, for other clients of the same process."""

    server: str
    ca_path: str | None
    ca_data: str | None
    token: str | None
    certificate_path: str | None
    private_key_path: str | None
    insecure: bool


class Api:
    """An API server, for as long as the block lasts."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._client.user_agent = "flambeau-operator"
        self._asking = asyncio.Semaphore(MOST_AT_ONCE)
        self._pause_until = 0.0  # the API server asked for a pause: Retry-After

    async def __aenter__(self) -> Self:
        """Be ready; nothing is asked yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection."""
        await self._client.rest_client.close()

    async def access(self) -> Access:
        """Return the credentials as they are now: tokens of service accounts change by the hour."""
        settings = self._configuration
        token = await settings.get_api_key_with_prefix("BearerToken")
        return Access(
            server=settings.host,
            ca_path=settings.ssl_ca_cert,
            ca_data=str(settings.ca_cert_data) if settings.ca_cert_data else None,
            token=token.split(" ", 1)[-1] if token else None,
            certificate_path=settings.cert_file,
            private_key_path=settings.key_file,
            insecure=not settings.verify_ssl,
        )

    async def get(self, path: str, accept: str = JSON) -> Object | None:
        """Return an object; None when there is none."""
        try:
            return await self._ask("GET", path, accept=accept)
        except Rejected as rejected:
            if rejected.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def pages(
        self, path: str, selector: str = "", accept: str = JSON
    ) -> AsyncIterator[Object]:
        """Yield a collection page by page, as the API server's lists.

        Raises:
            Expired: while it was read, the collection became too old to go on.
        """
        query = [("limit", str(PAGE))]
        if selector:
            query.append(("labelSelector", selector))
        more = ""
        while True:
            page = await self._ask(
                "GET", path, [*query, ("continue", more)] if more else query, accept=accept
            )
            yield page
            more = page.get("metadata", {}).get("continue", "")
            if not more:
                return

    async def create(self, path: str, body: Object, *, dry_run: bool = False) -> Object:
        """Make an object; Conflict when there is one of that name."""
        query = [("fieldManager", names.MANAGER)]
        if dry_run:
            query.append(("dryRun", "All"))
        return await self._ask("POST", path, query, body=body)

    async def replace(self, path: str, body: Object) -> Object:
        """Write a whole object, fenced by the resourceVersion and uid in it."""
        query = [("fieldManager", names.MANAGER)]
        return await self._ask("PUT", path, query, body=body)

    async def apply(
        self, path: str, body: Object, *, manager: str = names.MANAGER, dry_run: bool = False
    ) -> Object:
        """Apply on the server, taking over the fields that are named."""
        query = [("fieldManager", manager), ("force", "true")]
        if dry_run:
            query.append(("dryRun", "All"))
        return await self._ask("PATCH", path, query, body=body, content=APPLY)

    async def merge(self, path: str, body: Object, *, manager: str) -> Object:
        """Change the fields that are named, null taking one away; a uid in it is a fence."""
        query = [("fieldManager", manager)]
        return await self._ask("PATCH", path, query, body=body, content=MERGE)

    async def delete(self, path: str, uid: str) -> None:
        """Delete the object of this uid; one that is gone already is as good."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        with contextlib.suppress(Conflict):
            try:
                await self._ask("DELETE", path, body=body)
            except Rejected as rejected:
                if rejected.status != HTTPStatus.NOT_FOUND:
                    raise

    async def watch(
        self, path: str, query: Query, accept: str, silence_s: float
    ) -> AsyncIterator[Object]:
        """Yield the events of a watch until the API server ends it.

        Raises:
            Expired: what happened since that resourceVersion is not known any more.
            FellSilent: nothing came for `silence_s`.
            Unavailable: the connection broke, or could not be had.
        """
        async with self._open(path, [("watch", "true"), *query], accept) as response:
            async for line in _lines(response, silence_s):
                event = _parsed(line)
                if event.get("type") == "ERROR":
                    _judge(event.get("object", {}), int(event["object"].get("code", 500)), {})
                yield event

    async def _ask(
        self,
        method: str,
        path: str,
        query: Query = (),
        *,
        body: Object | None = None,
        content: str = JSON,
        accept: str = JSON,
    ) -> Object:
        """Ask once, or again when the API server is busy and says when to come back."""
        tries = 0
        while True:
            await asyncio.sleep(max(0.0, self._pause_until - time.monotonic()))
            status, headers, text = await self._once(method, path, query, body, content, accept)
            tries += 1
            if not _is_busy(status, headers):
                break
            self._pause_until = time.monotonic() + _pause_s(headers)
            if tries == TRIES_WHEN_BUSY:
                break
        if status >= HTTPStatus.BAD_REQUEST:
            _judge(_status_of(text), status, headers)
        return _parsed(text)

    async def _once(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None,
        content: str,
        accept: str,
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with self._asking, asyncio.timeout(TIMEOUT_S):
                response = await self._send(method, path, query, body, content, accept)
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            raise Unavailable(f"the API server gave no answer within {TIMEOUT_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the API server cannot be reached: {error}") from error

    async def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None,
        content: str,
        accept: str,
    ) -> aiohttp.ClientResponse:
        prepared = await self._client.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params={"Accept": accept, "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        # Every wait is bounded here, by asyncio: the transport's own total would end a watch.
        answer = await self._client.call_api(
            *prepared, _request_timeout=aiohttp.ClientTimeout(total=None)
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    @contextlib.asynccontextmanager
    async def _open(
        self, path: str, query: Query, accept: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a watch; whatever breaks it inside the block becomes Unavailable."""
        response = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await self._send("GET", path, query, None, JSON, accept)
                if response.status >= HTTPStatus.BAD_REQUEST:
                    text = await response.read()
                    _judge(_status_of(text), response.status, response.headers)
            yield response
        except TimeoutError as error:
            raise FellSilent("nothing is heard of a watch") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"the watch broke: {error}") from error
        finally:
            if response is not None:
                response.close()


async def configuration(kubeconfig: Path | None) -> Configuration:
    """Return how the API server is reached: by a kubeconfig, or as a pod of its cluster.

    Raises:
        InvalidSettings: neither is usable.
    """
    found = Configuration()
    try:
        if kubeconfig is not None:
            await load_kube_config(str(kubeconfig), client_configuration=found)  # type: ignore[no-untyped-call]
        else:
            load_incluster_config(found)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        where = f"KUBECONFIG={kubeconfig}" if kubeconfig else "the pod's service account"
        raise InvalidSettings([f"{where} cannot be used: {error}"]) from error
    found.connection_pool_maxsize = 0  # watches hold a connection each
    # Else each call reads ~/.netrc, in a thread; a proxy, if any, stands in the kubeconfig.
    found.client_session_kwargs = {"trust_env": False}
    return found


async def _lines(response: aiohttp.ClientResponse, silence_s: float) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; TimeoutError when none comes for so long."""
    while True:
        async with asyncio.timeout(silence_s):
            line = await response.content.readline()
        if not line:
            return
        yield line


def _parsed(text: bytes) -> Object:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise Unavailable("the API server's answer is not JSON") from error
    if not isinstance(content, dict):
        raise Unavailable("the API server's answer is not an object")
    return content


def _status_of(text: bytes) -> Object:
    """Return the Status object of a refusal; a proxy on the way may have said something else."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    return {"message": text[:512].decode(errors="replace")}


def _judge(status: Object, code: int, headers: Mapping[str, str]) -> None:
    """Raise what a refusal means."""
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    if code == HTTPStatus.GONE:
        raise Expired(message)
    if code == HTTPStatus.CONFLICT:
        raise Conflict(message)
    if _is_busy(code, headers):
        raise Unavailable(f"the API server is busy: {message}")
    unknown_field = UNKNOWN_FIELD in message
    # 401: a token that is being renewed. 408: a timeout of the API server itself.
    for_now = code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT}
    if (code >= HTTPStatus.INTERNAL_SERVER_ERROR and not unknown_field) or for_now:
        raise Unavailable(f"the API server answers {code} {reason}: {message}")
    raise Rejected(code, reason or "Refused", message)


def _is_busy(code: int, headers: Mapping[str, str]) -> bool:
    unavailable = code == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in headers
    return code == HTTPStatus.TOO_MANY_REQUESTS or unavailable


def _pause_s(headers: Mapping[str, str]) -> float:
    asked = headers.get("Retry-After", "")
    return min(float(asked), LONGEST_PAUSE_S) if asked.isdigit() else 1.0
