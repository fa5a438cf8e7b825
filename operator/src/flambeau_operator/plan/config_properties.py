"""config.properties, as the runtime reads it, from `spec.runtime.config`."""

from __future__ import annotations

from collections.abc import Mapping


def render(config: Mapping[str, str]) -> str:
    """Return the file's text, the same for the same keys in whatever order."""
    return "".join(f"{key}={_one_line(config[key])}\n" for key in sorted(config))


def _one_line(value: str) -> str:
    """Escape what would begin another setting."""
    return value.replace("\r", "\\r").replace("\n", "\\n")
