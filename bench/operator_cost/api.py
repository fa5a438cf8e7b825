"""The API server by the shortest way: a kubectl for each question would be a load by itself."""

import base64
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from e2e.cluster.access import Cluster

MERGE = "application/merge-patch+json"
IDLE_S = 30.0  # the API server closes connections that are longer idle than it likes


class Api:
    """One connection to a cluster that we built, as its administrator."""

    def __init__(self, cluster: Cluster) -> None:
        config = cluster.config()
        server = config["clusters"][0]["cluster"]
        authority = base64.b64decode(server["certificate-authority-data"]).decode()
        trusted = ssl.create_default_context(cadata=authority)
        url = urlsplit(server["server"])
        self._token = config["users"][0]["user"]["token"]
        self._used_at = time.monotonic()
        self._connection = http.client.HTTPSConnection(
            url.hostname or "", url.port, timeout=30, context=trusted
        )

    def get(self, path: str) -> dict[str, Any]:
        """Return an object or a list."""
        return json.loads(self.ask("GET", path))

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object."""
        return json.loads(self.ask("POST", path, body))

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge something into an object."""
        return json.loads(self.ask("PATCH", path, body, MERGE))

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> bytes:
        """Ask once and return the answer's body; anything but a success raises RuntimeError."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content}
        if time.monotonic() - self._used_at > IDLE_S:
            self._connection.close()  # and so a new one is opened
        self._used_at = time.monotonic()
        given = None if body is None else json.dumps(body)
        self._connection.request(method, path, given, headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {said[:500]!r}")
        return said
