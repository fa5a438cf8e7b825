"""What opens a source: files of a Secret, or variables of the runtime; no worker sees either."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flambeau_runtime.errors import CredentialsMissing

FOLDER = Path("/mnt/credentials")
"""Where a pod has the Secrets that sources name."""

VARIABLES = re.compile(
    r"AWS_.*|GOOGLE_.*|GCLOUD_.*|GCS_.*|CLOUDSDK_.*|AZURE_.*|HF_TOKEN.*|HUGGING_FACE_HUB_TOKEN"
    r"|HUGGINGFACE_TOKEN|DOCKER_CONFIG|DOCKER_AUTH_CONFIG|REGISTRY_AUTH_FILE"
    r"|FLAMBEAU_USERNAME|FLAMBEAU_PASSWORD|FLAMBEAU_TOKEN"
)
"""The variables that open a source, and those that say where such a thing lies."""

FILES: Mapping[str, tuple[str, ...]] = {
    "service-account.json": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "config": ("AWS_CONFIG_FILE",),
    "credentials": ("AWS_SHARED_CREDENTIALS_FILE",),
    ".dockerconfigjson": ("REGISTRY_AUTH_FILE",),
    "config.json": ("REGISTRY_AUTH_FILE",),
    "ca.crt": ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
}
"""File names that stand for the variables which shall name them."""

WORDS: Mapping[str, str] = {
    "token": "FLAMBEAU_TOKEN",
    "username": "FLAMBEAU_USERNAME",
    "password": "FLAMBEAU_PASSWORD",
}
"""Keys of Kubernetes' own kinds of Secrets, and one for bearer tokens."""

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
LONGEST = 1024 * 1024
SHORTEST_SECRET = 6


def is_hidden(name: str) -> bool:
    """Tell whether a variable is kept from workers."""
    return VARIABLES.fullmatch(name) is not None


def read_folder(folder: Path) -> dict[str, str]:
    """Return the variables that the files of a Secret stand for.

    A file is named like the variable that it holds, or has a name that libraries know.

    Raises:
        CredentialsMissing: there is nothing, or it cannot be read.
    """
    found: dict[str, str] = {}
    try:
        files = sorted(each for each in folder.iterdir() if each.is_file())
        for file in files:
            found |= _variables_of(file)
    except (OSError, ValueError) as error:
        raise CredentialsMissing(folder.name, _why(error)) from error
    if not found:
        known = ", ".join([*FILES, *WORDS])
        raise CredentialsMissing(
            folder.name,
            f"there is nothing in {folder}: fill the Secret with keys that are named like "
            f"environment variables (AWS_ACCESS_KEY_ID …) or one of {known}",
        )
    return found


def _variables_of(file: Path) -> dict[str, str]:
    if file.name in FILES:
        return dict.fromkeys(FILES[file.name], str(file))
    name = WORDS.get(file.name, file.name)
    if not VARIABLE.fullmatch(name):
        return {}
    if file.stat().st_size > LONGEST:
        raise ValueError(f"{file.name} has more than {LONGEST} bytes")
    return {name: file.read_text().rstrip("\r\n")}


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return (
            f"there is no folder {error.filename}: create the Secret that spec.credentials names "
            "for it"
        )
    return str(error.strerror if isinstance(error, OSError) else error)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Everything that must not be told."""

    values: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Secrets:
        """Collect what variables hold, and the files that they name."""
        found: set[str] = set()
        for name, value in environment.items():
            if name in _OPEN or not is_hidden(name):
                continue
            found.add(value)
            found.update(re.findall(r"(?:AccountKey|SharedAccessSignature)=([^;]+)", value))
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def hide_in(self, text: str) -> str:
        """Return a text without them."""
        for value in self.values:
            if len(value) >= SHORTEST_SECRET:
                text = text.replace(value, "***")
        return text


_OPEN = frozenset(
    {
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_PROFILE",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AZURE_STORAGE_ACCOUNT_NAME",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG",
    }
)
"""What helps to understand an error and opens nothing."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password, for a registry or a web server."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """Return it as HTTP's Authorization."""
        both = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(both).decode()}"


def login_for(registry: str, environment: Mapping[str, str]) -> Login | None:
    """Return who to be at a registry, as docker's own files say; None: nobody in particular.

    Raises:
        CredentialsMissing: the file that is named cannot be understood.
    """
    if "FLAMBEAU_USERNAME" in environment:
        return Login(environment["FLAMBEAU_USERNAME"], environment.get("FLAMBEAU_PASSWORD", ""))
    file = _docker_file(environment)
    if file is None:
        return None
    try:
        entries: Mapping[str, Any] = json.loads(file.read_text())["auths"]
        for name, entry in entries.items():
            if _host(name) == registry:
                return _login(entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = "must be a .dockerconfigjson, as `kubectl create secret docker-registry` makes it"
        raise CredentialsMissing(file.parent.name, f"{file.name} {why}") from error
    return None


def _docker_file(environment: Mapping[str, str]) -> Path | None:
    if "REGISTRY_AUTH_FILE" in environment:
        return Path(environment["REGISTRY_AUTH_FILE"])
    if "DOCKER_CONFIG" in environment:
        file = Path(environment["DOCKER_CONFIG"]) / "config.json"
        return file if file.exists() else None
    return None


def _host(name: str) -> str:
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if host == "index.docker.io" else host


def _login(entry: Mapping[str, str]) -> Login | None:
    if entry.get("username"):
        return Login(entry["username"], entry.get("password", ""))
    if not entry.get("auth"):
        return None
    try:
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except binascii.Error as error:
        raise ValueError("auth is no base64") from error
    return Login(user, password)
