"""Who may call what: TorchServe's keys, loopback callers, the operator's signed calls.

A gate is a function that returns when the caller may and raises Unauthorised (or its subclass
InvalidKey, TorchServe's answer to a wrong key) when it may not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flambeau_runtime.settings import Settings

InferenceGate = Callable[[bytes], None]
"""Takes the raw header block of a request (b"Name: value\\r\\n" per header)."""

ManagementGate = Callable[[str | None, str | None], None]
"""Takes the peer's address and the value of the Authorization header, each None when absent."""

StateGate = Callable[[str | None, str | None, bytes], None]
"""Takes the peer's address, the value of the Authorization header, and the body."""


class Keys:
    """TorchServe's key file: inference, management and API key; two of them expire."""

    def __init__(self, path: Path, expiration_min: int) -> None:
        raise NotImplementedError

    def write(self) -> None:
        """Make new keys and write the file (mode 600)."""
        raise NotImplementedError

    def rotate(self, kind: str, authorization: str | None) -> None:
        """Replace one key ("inference" or "management"); the caller shows the API key.

        Raises:
            InvalidKey: another kind or another key.
        """
        raise NotImplementedError

    def remove(self) -> None:
        """Delete the file."""
        raise NotImplementedError


def make_keys(settings: Settings) -> Keys | None:
    """Return the keys, their file written; None when nothing is guarded by them."""
    raise NotImplementedError


def make_inference_gate(settings: Settings, keys: Keys | None) -> InferenceGate | None:
    """Return the gate of the inference port; None when it is open (all but strict mode)."""
    raise NotImplementedError


def make_management_gate(settings: Settings, keys: Keys | None) -> ManagementGate:
    """Return the gate of TorchServe's verbs: loopback callers, others with the management key."""
    raise NotImplementedError
