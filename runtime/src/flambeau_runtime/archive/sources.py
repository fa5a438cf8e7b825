"""From the words of a source to a place: a path on this machine, or a URL that may be asked."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from flambeau_runtime.errors import SourceNotFound

REMOTE = ("http", "https")
ARCHIVE_ENDINGS = (".mar", ".tar.gz", ".tgz", ".model")


@dataclass(frozen=True, slots=True)
class Local:
    """An archive or a directory on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class Remote:
    """An archive behind a URL; `shown` is the URL without credentials."""

    url: str
    shown: str


def resolve(uri: str, model_store: Path | None, allowed_urls: tuple[str, ...]) -> Local | Remote:
    """Return the place that `uri` names; the texts of refusals are TorchServe's.

    Raises:
        SourceNotFound: nothing there, or a place that may not be read.
    """
    if not uri:
        raise SourceNotFound("empty url")
    try:
        url = urlsplit(uri)
    except ValueError as error:
        raise SourceNotFound(f"Model not found at: {uri} ({error})") from error
    if ".." in unquote(url.path).split("/"):
        raise SourceNotFound(f"Relative path is not allowed in url: {show(url)}")
    if url.scheme in REMOTE:
        return _remote(uri, url, allowed_urls)
    if url.scheme == "file":
        return _local(Path(unquote(url.path)), uri, allowed_urls)
    if uri.startswith("/"):
        return _local(Path(uri), f"file://{uri}", allowed_urls)
    return Local(_in_model_store(uri, model_store))


def show(url: SplitResult) -> str:
    """Return a URL as it may be logged: without user, password, query and fragment."""
    host = url.netloc.rpartition("@")[2]
    return urlunsplit((url.scheme, host, url.path, "", ""))


def refuse_link_local(host: str) -> None:
    """Refuse addresses where clouds keep their machines' credentials.

    Raises:
        SourceNotFound: `host` is a link-local address.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_link_local:
        raise SourceNotFound(f"{host} is a link-local address; archives are not fetched from there")


def _remote(uri: str, url: SplitResult, allowed_urls: tuple[str, ...]) -> Remote:
    _check_allowed(uri, show(url), allowed_urls)
    if not url.hostname:
        raise SourceNotFound(f"Model not found at: {show(url)} (no host)")
    refuse_link_local(url.hostname)
    return Remote(uri, show(url))


def _local(path: Path, uri: str, allowed_urls: tuple[str, ...]) -> Local:
    _check_allowed(uri, uri, allowed_urls)
    if not path.is_absolute() or not path.exists():
        raise SourceNotFound(f"Model not found at: {uri.removeprefix('file://')}")
    return Local(path)


def _check_allowed(uri: str, shown: str, allowed_urls: tuple[str, ...]) -> None:
    if not any(re.fullmatch(pattern, uri, re.IGNORECASE) for pattern in allowed_urls):
        raise SourceNotFound(f"Given URL {shown} does not match any allowed URL(s)")


def _in_model_store(name: str, model_store: Path | None) -> Path:
    if model_store is None:
        raise SourceNotFound(f"Model not found at: {name} (there is no model store)")
    path = model_store / name
    if not path.exists():
        raise SourceNotFound(f"Model not found at: {name}")
    return path
