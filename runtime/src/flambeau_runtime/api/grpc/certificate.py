"""What a gRPC port shows with enable_grpc_ssl: read and checked before anything is served."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Certificate:
    """A private key and its chain of certificates, both PEM."""

    private_key: bytes
    chain: bytes


def read_certificate(settings: Settings) -> Certificate | None:
    """Return what enable_grpc_ssl asks for; None without it.

    Raises:
        InvalidSettings: the files are not named, cannot be read, or do not fit together.
    """
    if not settings.grpc_tls:
        return None
    key, chain = settings.tls.private_key, settings.tls.certificate
    if key is None or chain is None:
        raise InvalidSettings(
            "enable_grpc_ssl=true needs a private key and a certificate: name PEM files with"
            " private_key_file and certificate_file"
        )
    found = Certificate(_read("private_key_file", key), _read("certificate_file", chain))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
    except ssl.SSLError as error:
        raise InvalidSettings(
            f"private_key_file={key}, certificate_file={chain}: this is no key and certificate in"
            f" PEM that fit together ({error.reason or error})"
        ) from None
    return found


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"{key}={path}: cannot be read: {error.strerror}") from None
