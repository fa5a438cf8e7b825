"""From the words of a source to a place: a path on this machine, or a URL that may be asked."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from flambeau_runtime.errors import SourceNotFound

HTTP = ("http", "https")
OBJECTS = ("s3", "gs", "az", "hf", "oci")
"""Object stores, the Hugging Face hub and registries; what each needs is an extra of its own."""
REMOTE = (*HTTP, *OBJECTS)
ARCHIVE_ENDINGS = (".mar", ".tar.gz", ".tgz", ".model")
EVERYWHERE = ("file://.*", "https?://.*", f"({'|'.join(OBJECTS)})://.*")
"""What `allowed_urls` allows where nobody says anything."""
SECRET_PARAMETERS = re.compile(
    r"(?:^|(?<=&))[^=&]*(sig|signature|token|secret|password|passwd|credential|key)[^=&]*=",
    re.IGNORECASE,
)
HIDDEN = "***"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Local:
    """An archive or a directory on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class Remote:
    """An archive behind a URL; `shown` is the URL without credentials."""

    url: str
    shown: str

    @property
    def scheme(self) -> str:
        """Return how it is spoken to."""
        return self.url.partition("://")[0].lower()


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
        return _local(Path(unquote(url.path)), uri, uri, allowed_urls)
    if uri.startswith("/"):
        return _local(Path(uri), uri, f"file://{uri}", allowed_urls)
    return Local(_in_model_store(uri, model_store, allowed_urls))


def show(url: SplitResult) -> str:
    """Return a URL as it may be logged: without user, password, query and fragment."""
    host = url.netloc.rpartition("@")[2]
    return urlunsplit((url.scheme, host, url.path, "", ""))


def presentable(uri: str) -> str:
    """Return a source as it may be told to others: as it was given, but for what is secret in it.

    A user with a password goes, and so do the values of parameters that sign or unlock.
    """
    try:
        url = urlsplit(uri)
    except ValueError:
        return uri
    if url.scheme not in HTTP:
        return uri
    host = url.netloc.rpartition("@")[2]
    query = url.query
    if SECRET_PARAMETERS.search(query):
        said = parse_qsl(query, keep_blank_values=True)
        query = urlencode([(k, HIDDEN if SECRET_PARAMETERS.match(f"{k}=") else v) for k, v in said])
    changed = (host, query) != (url.netloc, url.query)
    return urlunsplit((url.scheme, host, url.path, query, url.fragment)) if changed else uri


def refuse_link_local(host: str) -> None:
    """Refuse addresses where clouds keep their machines' credentials.

    Raises:
        SourceNotFound: `host` is a link-local address, or another at which one is known to do so.
    """
    name = host.partition("%")[0].strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if name in METADATA_NAMES:
            raise SourceNotFound(f"{host} is {WHERE_SECRETS_ARE}") from None
        return
    for form in _forms(address):
        if form.is_link_local:
            raise SourceNotFound(
                f"{host} is a link-local address; archives are not fetched from there"
            )
        if str(form) in METADATA_ADDRESSES:
            raise SourceNotFound(f"{host} is {WHERE_SECRETS_ARE}")


WHERE_SECRETS_ARE = "where a cloud hands out credentials; archives are not fetched from there"
METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data"})
METADATA_ADDRESSES = frozenset(
    {
        "fd00:ec2::254",  # Amazon, over IPv6
        "fd20:ce::254",  # Google, over IPv6
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host
        "192.0.0.192",  # Oracle
    }
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _forms(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[_Address, ...]:
    """Return the address, and the one of IPv4 that it is another way to write or to reach."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and (address in NAT64 or int(address) >> 32 == 0):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return (address,) if inner is None else (address, inner)


def _remote(uri: str, url: SplitResult, allowed_urls: tuple[str, ...]) -> Remote:
    shown = show(url) if url.scheme in HTTP else uri
    if "@" in url.netloc and url.scheme not in HTTP:
        raise SourceNotFound(
            f"Model not found at: {show(url)} (what is before the @ would be told to everybody: "
            "give credentials in the environment, or by name)"
        )
    _check_allowed(uri, shown, allowed_urls)
    if not url.hostname:
        raise SourceNotFound(f"Model not found at: {shown} (no host)")
    refuse_link_local(url.hostname)
    return Remote(uri, shown)


def _local(path: Path, said: str, uri: str, allowed_urls: tuple[str, ...]) -> Local:
    _check_allowed(uri, uri, allowed_urls)
    if not path.is_absolute() or not path.exists():
        raise SourceNotFound(f"Model not found at: {said}")
    _check_links(path, allowed_urls)
    return Local(path)


def _check_allowed(uri: str, shown: str, allowed_urls: tuple[str, ...]) -> None:
    if not any(re.fullmatch(pattern, uri, re.IGNORECASE) for pattern in allowed_urls):
        raise SourceNotFound(f"Given URL {shown} does not match any allowed URL(s)")


def _check_links(path: Path, allowed_urls: tuple[str, ...]) -> None:
    """Refuse a path that leads, by links, to where nobody may point."""
    real = Path(os.path.realpath(path))
    if real != path:
        _check_allowed(f"file://{real}", f"file://{real} (a link of {path})", allowed_urls)


def _in_model_store(name: str, model_store: Path | None, allowed_urls: tuple[str, ...]) -> Path:
    if model_store is None:
        raise SourceNotFound(f"Model not found at: {name} (there is no model store)")
    path = model_store / name
    if not path.exists():
        raise SourceNotFound(f"Model not found at: {name}")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(model_store)):
        _check_links(path, allowed_urls)
    return path
