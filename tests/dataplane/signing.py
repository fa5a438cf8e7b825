"""Signs calls as the operator does."""

import base64
import hashlib
from datetime import UTC, datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half, as the boot file carries it."""
    return base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")


def claims(body: bytes = b"", uid: str = "uid-1", age_s: int = 0, **changes) -> dict[str, object]:
    """The claims of a good call that was signed `age_s` seconds ago; None takes a claim away."""
    issued = int(datetime.now(UTC).timestamp()) - age_s
    digest = hashlib.sha256(body).hexdigest()
    all_of_them = {"aud": uid, "iat": issued, "exp": issued + 60, "bodySha256": digest, **changes}
    return {name: value for name, value in all_of_them.items() if value is not None}


def bearer(key: Ed25519PrivateKey, body: bytes = b"", **changes) -> str:
    """The Authorization header of a call."""
    return "Bearer " + jwt.encode(claims(body, **changes), key, algorithm="EdDSA")
