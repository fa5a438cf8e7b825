"""The envelope `body`: the handler gets a list of bodies."""

from __future__ import annotations

from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope


class BodyEnvelope(BaseEnvelope):
    """Takes `data` or `body` of every row; answers are left as they are."""

    def parse_input(self, data: list[dict[str, Any]]) -> list[Any]:
        """Return the bodies."""
        return [row.get("data") or row.get("body") for row in data]

    def format_output(self, data: list[Any]) -> list[Any]:
        """Return the answers as they are."""
        return data
