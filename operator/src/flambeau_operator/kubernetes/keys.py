"""The key that signs the calls to the pods, kept in a Secret of the operator's own namespace."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_operator import names
from flambeau_operator.errors import Conflict, Unavailable
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Api, Object

SECRET: Final = "flambeau-operator-keys"  # noqa: S105  its name, no secret
FIELD: Final = "signing.key"


async def signing_key(api: Api, namespace: str) -> Ed25519PrivateKey:
    """Return the operator's key, made by whoever comes first.

    Raises:
        Unavailable: the Secret is there and holds no key.
    """
    path = kinds.SECRETS.path(namespace, SECRET)
    found = await api.get(path)
    if found is None:
        try:
            found = await api.create(kinds.SECRETS.path(namespace), _new(namespace))
        except Conflict:
            # Another operator was faster: its key is as good.
            found = await api.get(path)
    if found is None:
        raise Unavailable(f"Secret {namespace}/{SECRET} came and went")
    return _key(found, namespace)


def _new(namespace: str) -> Object:
    raw = Ed25519PrivateKey.generate().private_bytes_raw()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.MANAGER},
        },
        "type": "Opaque",
        "data": {FIELD: base64.b64encode(raw).decode()},
    }


def _key(secret: Object, namespace: str) -> Ed25519PrivateKey:
    try:
        raw = base64.b64decode(secret["data"][FIELD], validate=True)
        return Ed25519PrivateKey.from_private_bytes(raw)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Unavailable(
            f"Secret {namespace}/{SECRET} holds no Ed25519 key in {FIELD!r}: delete it, and a new "
            "one is made at the next start"
        ) from error
