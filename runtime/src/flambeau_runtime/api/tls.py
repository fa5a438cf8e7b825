"""What TLS needs, from the files that config.properties names.

`private_key_file` and `certificate_file` are PEM; `keystore` is PKCS12, and goes before them.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Tls

JKS_MAGIC = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and the chain of certificates that belongs to it, in PEM."""

    private_key: bytes
    certificates: bytes


def read_identity(tls: Tls) -> Identity:
    """Return what a server shows; also to whoever speaks another protocol over TLS.

    Raises:
        InvalidSettings: a file is missing or is not what it should be.
    """
    if tls.keystore is not None:
        return _from_keystore(tls, tls.keystore)
    if tls.private_key is None or tls.certificate is None:
        raise InvalidSettings(
            "TLS needs a key and a certificate: set private_key_file and certificate_file, or"
            " keystore and keystore_pass"
        )
    key = _read("private_key_file", tls.private_key)
    if b"ENCRYPTED" in key:
        raise InvalidSettings(
            f"private_key_file={tls.private_key}: the key has a passphrase, which nobody could"
            f" type; write it without one: openssl pkey -in {tls.private_key} -out key.pem"
        )
    return Identity(key, _read("certificate_file", tls.certificate))


def read_fitting_identity(tls: Tls) -> Identity:
    """Return what a server shows, once it is sure that key and certificate fit.

    Raises:
        InvalidSettings: as `make_context`.
    """
    make_context(tls)
    return read_identity(tls)


def make_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a server: TLS 1.2 and 1.3.

    Raises:
        InvalidSettings: a file is missing, is not what it should be, or they do not fit.
    """
    identity = read_identity(tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    named = f"keystore={tls.keystore}" if tls.keystore else _named(tls)
    try:
        with _private_file(identity.private_key + b"\n" + identity.certificates) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidSettings(
            f"{named}: they are not a PEM key and the certificate that belongs to it ({error})"
        ) from None
    return context


def _named(tls: Tls) -> str:
    return f"private_key_file={tls.private_key}, certificate_file={tls.certificate}"


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"{key}={path}: cannot be read: {error.strerror}") from None


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Lend a file for the one call that takes no bytes; nobody else may read it."""
    descriptor, path = tempfile.mkstemp(prefix="flambeau-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        Path(path).unlink()


def _from_keystore(tls: Tls, path: Path) -> Identity:
    content = _read("keystore", path)
    if content.startswith(JKS_MAGIC):
        raise InvalidSettings(
            f"keystore={path}: this is a JKS keystore, which only Java reads; convert it:"
            f" keytool -importkeystore -srckeystore {path} -destkeystore keystore.p12"
            " -deststoretype PKCS12"
        )
    # cryptography is big; only who has a keystore needs it.
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    try:
        store = pkcs12.load_pkcs12(content, tls.keystore_password.encode())
    except ValueError:
        raise InvalidSettings(
            f"keystore={path}: it does not open: keystore_pass is another one (without it it is"
            " changeit), or the file is no PKCS12 keystore"
        ) from None
    if store.key is None or store.cert is None:
        raise InvalidSettings(f"keystore={path}: No key entry found in keystore.")
    chain = [store.cert, *store.additional_certs]
    return Identity(
        store.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        b"".join(each.certificate.public_bytes(Encoding.PEM) for each in chain),
    )
