"""The operator's calls: a JWT per call, signed with Ed25519, for this runtime and this body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from flambeau_runtime.errors import Unauthorised

LEEWAY_S = 60
"""How far the clocks of operator and runtime may be apart."""

LONGEST_LIFE_S = 60
CLAIMS = ("aud", "iat", "exp", "bodySha256")


def verify(authorization: str | None, body: bytes, uid: str, public_keys: Sequence[str]) -> None:
    """Let a call pass that the operator signed for this runtime, now, with this body.

    Args:
        authorization: value of the Authorization header.
        body: the whole body; empty for GET.
        uid: of the ModelDeployment, the audience.
        public_keys: raw Ed25519 keys in base64url; two during a rotation.

    Raises:
        Unauthorised: it did not, or not for this.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme != "Bearer" or not token:
        raise Unauthorised("send the header `Authorization: Bearer JWT`, signed by the operator")
    claims = _verified(token.strip(), uid, public_keys)
    if not _lives_shortly(claims):
        raise Unauthorised(f"exp must be at most {LONGEST_LIFE_S} s after iat")
    if not _is_digest_of(claims["bodySha256"], body):
        raise Unauthorised("bodySha256 is not the sha256 of the body")


def _verified(token: str, uid: str, public_keys: Sequence[str]) -> dict[str, Any]:
    why = "no public key is known yet"
    for text in public_keys:
        key = _public_key(text)
        if key is None:
            continue
        try:
            return _decode(token, key, uid)
        except jwt.InvalidSignatureError:
            why = "the signature is of another key"
        except jwt.PyJWTError as error:
            raise Unauthorised(f"the token is not valid: {error}") from None
    raise Unauthorised(f"the token is not valid: {why}")


def _decode(token: str, key: Ed25519PublicKey, uid: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=["EdDSA"],  # named here, never taken from the token
        audience=uid,
        leeway=LEEWAY_S,
        options={"require": list(CLAIMS), "strict_aud": True},
    )
    return claims


def _public_key(text: str) -> Ed25519PublicKey | None:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, binascii.Error):
        return None


def _lives_shortly(claims: dict[str, Any]) -> bool:
    issued, expires = claims["iat"], claims["exp"]
    numbers = isinstance(issued, int | float) and isinstance(expires, int | float)
    return numbers and expires - issued <= LONGEST_LIFE_S


def _is_digest_of(claimed: object, body: bytes) -> bool:
    found = hashlib.sha256(body).hexdigest()
    return isinstance(claimed, str) and hmac.compare_digest(claimed.encode(), found.encode())
