"""Who may call what: TorchServe's keys, loopback callers, the operator's signed calls.

A gate is a function that returns when the caller may and raises Unauthorised (InvalidKey where
TorchServe has an answer to a wrong key) when it may not.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from flambeau_runtime.errors import InvalidKey, InvalidSettings, Unauthorised
from flambeau_runtime.settings import Authorisation, Settings

log = logging.getLogger(__name__)

InferenceGate = Callable[[bytes], None]
"""Takes the raw header block of a request (b"Name: value\\r\\n" per header)."""

ManagementGate = Callable[[str | None, str | None], None]
"""Takes the peer's address and the value of the Authorization header, each None when absent."""

StateGate = Callable[[str | None, str | None, bytes], None]
"""Takes the peer's address, the value of the Authorization header, and the body."""

# The first sentence is what TorchServe says; scripts look for it.
WRONG_KEY = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
WRONG_API_KEY = (
    "Token Authentication failed. Token either incorrect, expired, or not provided correctly"
)
AUTHORIZATION = re.compile(rb"(?:^|\n)authorization:[ \t]*([^\r\n]*)", re.IGNORECASE)
FILE_NAME = "key_file.json"


@dataclass(frozen=True, slots=True)
class _Key:
    text: str
    expires_at: datetime | None  # None: never, the API key

    def opens(self, authorization: str | None, now: datetime) -> bool:
        scheme, _, given = (authorization or "").partition(" ")
        fresh = self.expires_at is None or now < self.expires_at
        same = hmac.compare_digest(given.encode(), self.text.encode())
        return scheme == "Bearer" and same and fresh


class Keys:
    """TorchServe's key file: inference, management and API key; two of them expire."""

    def __init__(
        self,
        path: Path,
        expiration_min: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path
        self._lifetime = timedelta(minutes=expiration_min)
        self._clock = clock
        self._keys: dict[str, _Key] = {}

    def write(self) -> None:
        """Make new keys and write the file (mode 600).

        Raises:
            InvalidSettings: the file cannot be written.
        """
        self._keys = {
            "management": self._new(),
            "inference": self._new(),
            "API": _Key(secrets.token_urlsafe(24), None),
        }
        try:
            self._save()
        except OSError as error:
            raise InvalidSettings(
                f"{self.path}: cannot be written ({error.strerror}): start in a folder of your own,"
                " or do without keys (disable_token_authorization=true)"
            ) from None

    def _new(self) -> _Key:
        return _Key(secrets.token_urlsafe(24), self._clock() + self._lifetime)

    def _save(self) -> None:
        content: dict[str, dict[str, str]] = {}
        for kind, key in self._keys.items():
            content[kind] = {"key": key.text}
            if key.expires_at is not None:
                content[kind]["expiration time"] = key.expires_at.isoformat().replace("+00:00", "Z")
        part = self.path.with_name(f".{self.path.name}.partial")
        part.unlink(missing_ok=True)
        # Nobody but the owner may read it, at no moment: the mode is set when it is made.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
        part.replace(self.path)

    def check(self, kind: str, authorization: str | None, hint: str = "") -> None:
        """Let the bearer of the key of that kind ("inference", "management") in.

        Raises:
            InvalidKey: no key, another one, or an expired one.
        """
        key = self._keys.get(kind)
        if key is None or not key.opens(authorization, self._clock()):
            raise InvalidKey(WRONG_KEY + hint)

    def rotate(self, kind: str, authorization: str | None) -> None:
        """Replace one key ("inference" or "management"); the caller shows the API key.

        Raises:
            InvalidKey: another kind or another key.
        """
        api = self._keys.get("API")
        known = kind in {"inference", "management"}
        if api is None or not known or not api.opens(authorization, self._clock()):
            raise InvalidKey(WRONG_API_KEY)
        self._keys[kind] = self._new()
        self._save()

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


class PublicKeys(Protocol):
    """Whoever knows the operator's public keys now; they are replaced while the runtime runs."""

    @property
    def public_keys(self) -> tuple[str, ...]:
        """Each a raw Ed25519 key in base64url."""


def make_keys(settings: Settings) -> Keys | None:
    """Return the keys, their file written; None when nothing is guarded by them."""
    if settings.managed is not None or settings.authorisation is Authorisation.OFF:
        return None
    path = settings.key_file or settings.state_dir / FILE_NAME
    keys = Keys(path, settings.token_expiration_min)
    keys.write()
    log.info("keys written", extra={"file": str(path)})
    return keys


def make_inference_gate(settings: Settings, keys: Keys | None) -> InferenceGate | None:
    """Return the gate of the inference port; None when it is open (all but strict mode)."""
    if keys is None or settings.authorisation is not Authorisation.STRICT:
        return None

    def gate(headers: bytes) -> None:
        found = AUTHORIZATION.search(headers)
        given = None if found is None else found[1].decode("latin-1").strip()
        keys.check("inference", given, _hint("inference", keys.path))

    return gate


def make_management_gate(settings: Settings, keys: Keys | None) -> ManagementGate:
    """Return the gate of TorchServe's verbs: loopback callers, others with the management key."""
    strict = settings.authorisation is Authorisation.STRICT
    managed = settings.managed is not None

    def gate(peer: str | None, authorization: str | None) -> None:
        if not strict and is_loopback(peer):
            return
        if keys is not None:
            keys.check("management", authorization, _hint("management", keys.path))
        elif managed:
            raise Unauthorised(
                "This runtime is managed by a ModelDeployment: its management API answers "
                "loopback callers and the operator's signed calls of /state."
            )

    return gate


def make_state_gate(
    settings: Settings, keys: Keys | None, known: PublicKeys | None = None
) -> StateGate:
    """Return the gate of `/state` and `/drain`: signed calls alone on a managed runtime."""
    if settings.managed is None:
        open_to = make_management_gate(settings, keys)
        return lambda peer, authorization, _: open_to(peer, authorization)
    uid = settings.managed.uid

    def gate(_: str | None, authorization: str | None, body: bytes) -> None:
        # cryptography is big; only runtimes that an operator calls need it.
        from flambeau_runtime.api import signed_calls  # noqa: PLC0415

        public_keys = () if known is None else known.public_keys
        signed_calls.verify(authorization, body, uid, public_keys)

    return gate


def is_loopback(peer: str | None) -> bool:
    """Return whether the caller's address says that it is on this machine."""
    if peer is None:
        return False
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _hint(kind: str, path: Path) -> str:
    return f" (send the header `Authorization: Bearer KEY` with the {kind} key of {path})"
