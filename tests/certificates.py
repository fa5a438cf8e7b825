"""A certificate for localhost, made where a test needs one."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Files:
    """Where a key and its certificate lie."""

    key: Path
    certificate: Path


class Certificate:
    """A key and the certificate that it has signed itself."""

    def __init__(self, key: rsa.RSAPrivateKey, certified: x509.Certificate) -> None:
        self.key = key
        self.certified = certified

    @classmethod
    def for_localhost(cls) -> Certificate:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        certified = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certified)

    @cached_property
    def certificate(self) -> bytes:
        return self.certified.public_bytes(Encoding.PEM)

    def key_in_old_form(self) -> bytes:
        """Return the key as PKCS1, as openssl wrote it for long."""
        form = PrivateFormat.TraditionalOpenSSL
        return self.key.private_bytes(Encoding.PEM, form, NoEncryption())

    def write(self, folder: Path) -> Files:
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(key)
        (folder / "certificate.pem").write_bytes(self.certificate)
        return Files(folder / "key.pem", folder / "certificate.pem")

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts this certificate alone."""
        return ssl.create_default_context(cadata=self.certificate.decode())


def write_keystore(path: Path, certificate: Certificate, password: str) -> None:
    """Write a PKCS12 keystore."""
    locked = BestAvailableEncryption(password.encode())
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"flambeau", certificate.key, certificate.certified, None, locked
        )
    )
