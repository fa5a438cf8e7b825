"""Digests, right and wrong."""

import hashlib

WRONG = f"sha256:{'0' * 64}"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
