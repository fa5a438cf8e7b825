"""Archives in a registry: `oci://REGISTRY/REPOSITORY:TAG` or `…@sha256:DIGEST`.

A small client of the OCI distribution API. The archive is the only layer of an artifact (`oras push
REF model.mar`), or of an image. Everything is named by its digest, which is checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp

from flambeau_runtime.archive.download import Download, open_session
from flambeau_runtime.archive.fetch.credentials import Login, login_for
from flambeau_runtime.archive.fetch.order import Order
from flambeau_runtime.archive.fetch.ranged import fault_of
from flambeau_runtime.archive.partial import LARGEST, OnBytes
from flambeau_runtime.archive.sources import ARCHIVE_ENDINGS, Remote, refuse_link_local
from flambeau_runtime.errors import ArchiveInvalid, DigestMismatch, RuntimeFault, SourceNotFound

LARGEST_DOCUMENT = 4 * 1024**2
"""Of a manifest or a token; registries themselves take no larger manifest."""
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
TITLE = "org.opencontainers.image.title"
PUSH = "push the archive as the only layer: oras push REFERENCE model.mar"
REFERENCE = re.compile(
    r"oci://(?P<registry>[^/@\s]+)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
UNAUTHORISED = 401


@dataclass(frozen=True, slots=True)
class Reference:
    """What an address names."""

    registry: str
    repository: str
    wanted: str  # a tag or a digest

    @property
    def is_plain(self) -> bool:
        """Tell whether it is spoken to without TLS: only on this machine."""
        return LOOPBACK.fullmatch(self.registry) is not None

    def url(self, kind: str, name: str) -> str:
        """Return where a manifest or a blob is."""
        host = "registry-1.docker.io" if self.registry == "docker.io" else self.registry
        scheme = "http" if self.is_plain else "https"
        return f"{scheme}://{host}/v2/{self.repository}/{kind}/{name}"


def read_reference(uri: str) -> Reference:
    """Read oci://REGISTRY/REPOSITORY[:TAG][@DIGEST]; without either the tag is `latest`.

    Raises:
        SourceNotFound: it is none.
    """
    found = REFERENCE.fullmatch(uri)
    if found is None:
        raise SourceNotFound(
            f"Model not found at: {uri} (write oci://REGISTRY/REPOSITORY:TAG or "
            "oci://REGISTRY/REPOSITORY@sha256:DIGEST)"
        )
    return Reference(
        found["registry"], found["repository"], found["digest"] or found["tag"] or "latest"
    )


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob that an archive is in."""

    digest: str
    size: int


class RegistryDownload:
    """One archive of a registry on its way."""

    def __init__(self, order: Order, on_bytes: OnBytes) -> None:
        self._order = order
        self._on_bytes = on_bytes
        self._reference = read_reference(order.uri)
        self._login = login_for(self._reference.registry, os.environ)

    def run(self) -> Path:
        """Bring the archive to the order's target.

        Raises:
            SourceUnavailable: it did not come; SourceNotFound: it never will.
            ArchiveInvalid: there is not one archive behind the reference.
            DigestMismatch: what came is not what the registry named, or not what was wanted.
        """
        shown, target = self._order.shown, Path(self._order.target)
        try:
            layer = asyncio.run(self._find())
        except RuntimeFault:
            raise
        except Exception as error:
            raise fault_of(error, shown) from error
        if self._order.digest is not None and layer.digest != self._order.digest:
            raise DigestMismatch(shown, self._order.digest, layer.digest)
        url = self._reference.url("blobs", layer.digest)
        Download(
            Remote(url, shown),
            target,
            self._on_bytes,
            Event(),
            headers=lambda: asyncio.run(self._let_in(url)),
            content=layer.digest,
            pauses_s=self._order.pauses_s,
        ).run()
        with target.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != layer.digest:
            target.unlink()
            raise DigestMismatch(shown, layer.digest, found)
        return target

    async def _find(self) -> Layer:
        """Follow the reference to the layer that is the archive."""
        async with await open_session() as session:
            reference = self._reference
            manifest = await self._manifest(session, reference)
            if "manifests" in manifest:
                chosen = self._of_this_platform(manifest["manifests"])
                manifest = await self._manifest(session, replace(reference, wanted=chosen))
        return self._only_layer(manifest)

    async def _manifest(
        self, session: aiohttp.ClientSession, reference: Reference
    ) -> Mapping[str, Any]:
        url = reference.url("manifests", reference.wanted)
        headers = {"Accept": ", ".join((*MANIFESTS, *INDEXES)), **await self._let_in(url)}
        text = await _get(session, url, headers)
        found = f"sha256:{hashlib.sha256(text).hexdigest()}"
        if reference.wanted.startswith("sha256:") and found != reference.wanted:
            raise DigestMismatch(self._order.shown, reference.wanted, found)
        return self._parsed(text)

    def _parsed(self, text: bytes) -> Mapping[str, Any]:
        try:
            manifest = json.loads(text)
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict):
            raise ArchiveInvalid(f"{self._order.shown}: the registry sent no manifest")
        return manifest

    def _of_this_platform(self, manifests: Sequence[Mapping[str, Any]]) -> str:
        machine = MACHINES.get(platform.machine(), platform.machine())
        platforms = {
            str(each.get("digest")): (each.get("platform") or {}).get("architecture")
            for each in manifests
        }
        real = {digest: name for digest, name in platforms.items() if name != "unknown"}
        fitting = [digest for digest, name in real.items() if name == machine] or list(real)
        if len(fitting) != 1:
            raise ArchiveInvalid(
                f"{self._order.shown} is an index of {len(real)} manifests, and not one of them is "
                f"for {machine}: name the manifest by its digest, or {PUSH}"
            )
        return fitting[0]

    def _only_layer(self, manifest: Mapping[str, Any]) -> Layer:
        layers = [each for each in manifest.get("layers") or () if isinstance(each, dict)]
        titled = [each for each in layers if _title(each).endswith(ARCHIVE_ENDINGS)]
        chosen = titled if len(titled) == 1 else layers
        if len(chosen) != 1:
            raise ArchiveInvalid(
                f"{self._order.shown} has {len(layers)} layers, and not one of them is named like "
                f"an archive ({', '.join(ARCHIVE_ENDINGS)}): {PUSH}"
            )
        digest, size = str(chosen[0].get("digest")), chosen[0].get("size")
        kind = str(chosen[0].get("mediaType", ""))
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or not isinstance(size, int):
            raise ArchiveInvalid(f"{self._order.shown}: the layer has no sha256 digest and size")
        if kind.endswith(("+zstd", ".tar")):
            raise ArchiveInvalid(
                f"{self._order.shown}: a layer of kind {kind} cannot be opened: push it as gzip, "
                f"or {PUSH}"
            )
        if size > LARGEST:
            raise ArchiveInvalid(f"{self._order.shown}: {size} bytes, at most {LARGEST} may be")
        return Layer(digest, size)

    async def _let_in(self, url: str) -> dict[str, str]:
        """Return the header that opens a manifest or a blob; nothing where nothing is needed."""
        async with await open_session() as session:
            plain = {"Accept-Encoding": "identity", "Accept": ", ".join(MANIFESTS)}
            async with session.head(url, headers=plain, allow_redirects=False) as answer:
                if answer.status != UNAUTHORISED:
                    return {}
                challenge = answer.headers.get("WWW-Authenticate", "")
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "basic" and self._login is not None:
                return {"Authorization": self._login.header}
            if kind.lower() != "bearer":
                raise SourceNotFound(
                    f"Failed to download archive from: {self._order.shown}: 401 Unauthorized "
                    "(give the source credentials with a .dockerconfigjson)"
                )
            token = await self._token(session, dict(CHALLENGE.findall(rest)), self._login)
        return {"Authorization": f"Bearer {token}"}

    async def _token(
        self, session: aiohttp.ClientSession, said: Mapping[str, str], login: Login | None
    ) -> str:
        realm = urlsplit(said.get("realm", ""))
        refuse_link_local(realm.hostname or "")
        if realm.scheme != "https" and not self._reference.is_plain:
            # It would be told the password, and everybody on the way.
            raise SourceNotFound(
                f"Failed to download archive from: {self._order.shown}: the registry sends for a "
                f"token to {realm.geturl()}, which is not https"
            )
        asked = urlencode({key: said[key] for key in ("service", "scope") if key in said})
        url = realm._replace(query="&".join(filter(None, (realm.query, asked)))).geturl()
        headers = {} if login is None else {"Authorization": login.header}
        answer = self._parsed(await _get(session, url, headers))
        return str(answer.get("token") or answer.get("access_token") or "")


def _title(layer: Mapping[str, Any]) -> str:
    return str((layer.get("annotations") or {}).get(TITLE, ""))


async def _get(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> bytes:
    """Return a document of a registry, which is never large."""
    async with session.get(url, headers={"Accept-Encoding": "identity", **headers}) as answer:
        answer.raise_for_status()
        text = b""
        while chunk := await answer.content.read(LARGEST_DOCUMENT):
            text += chunk
            if len(text) > LARGEST_DOCUMENT:
                raise ArchiveInvalid(f"{url}: more than {LARGEST_DOCUMENT} bytes are no document")
        return text
