"""What the operator is told by its environment; the chart sets it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flambeau_operator.errors import InvalidSettings

PREFIX: Final = "FLAMBEAU_"
NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's settings, checked."""

    namespace: str  # the operator's own: Lease and signing key
    watch_namespaces: tuple[str, ...] | None  # None: every namespace
    runtime_image: str
    runtime_pull_policy: str | None
    image_pull_secrets: tuple[str, ...]
    http_port: int  # /metrics, /healthz, /readyz
    log_level: int
    identity: str  # of this process, in the Lease
    kubeconfig: Path | None  # None: the pod's service account


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        InvalidSettings: with everything that is wrong at once.
    """
    reader = _Reader(environment)
    settings = Settings(
        namespace=reader.namespace("NAMESPACE"),
        watch_namespaces=reader.namespaces("WATCH_NAMESPACES"),
        runtime_image=reader.text("RUNTIME_IMAGE", "the image of the model pods"),
        runtime_pull_policy=reader.choice("RUNTIME_PULL_POLICY", PULL_POLICIES),
        image_pull_secrets=reader.list("IMAGE_PULL_SECRETS"),
        http_port=reader.port("HTTP_PORT", 8080),
        log_level=logging.getLevelNamesMapping()[reader.choice("LOG_LEVEL", LEVELS) or "INFO"],
        identity=reader.text("POD_NAME", "the name of the operator's pod"),
        kubeconfig=Path(environment["KUBECONFIG"]) if environment.get("KUBECONFIG") else None,
    )
    if reader.problems:
        raise InvalidSettings(reader.problems)
    return settings


class _Reader:
    """Reads variables and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def text(self, name: str, meaning: str) -> str:
        value = self._get(name)
        if not value:
            self.problems.append(f"{PREFIX}{name} is not set: it is {meaning}")
        return value

    def namespace(self, name: str) -> str:
        value = self.text(name, "the namespace that the operator runs in")
        self._check_namespace(name, value)
        return value

    def namespaces(self, name: str) -> tuple[str, ...] | None:
        found = self.list(name)
        for each in found:
            self._check_namespace(name, each)
        return tuple(dict.fromkeys(found)) or None

    def list(self, name: str) -> tuple[str, ...]:
        return tuple(each.strip() for each in self._get(name).split(",") if each.strip())

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self._get(name)
        known = {each.lower(): each for each in choices}
        if value and value.lower() not in known:
            self.problems.append(f"{PREFIX}{name} is {value!r}: one of {', '.join(choices)}")
        return known.get(value.lower())

    def port(self, name: str, otherwise: int) -> int:
        value = self._get(name) or str(otherwise)
        if not value.isdecimal() or not 0 <= int(value) <= 65_535:  # noqa: PLR2004  the last port
            self.problems.append(f"{PREFIX}{name} is {value!r}: a port is 0 to 65535")
            return otherwise
        return int(value)

    def _get(self, name: str) -> str:
        return self._environment.get(PREFIX + name, "").strip()

    def _check_namespace(self, name: str, value: str) -> None:
        if value and not NAMESPACE.fullmatch(value):
            self.problems.append(f"{PREFIX}{name} names {value!r}, which is no namespace")
