"""A cluster, reached by a kubeconfig, as a place that holds ModelDeployments."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from flambeau_operator import names
from flambeau_operator.doors import Key
from flambeau_operator.errors import DoorFault, Rejected, Unavailable
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Api
from flambeau_operator.kubernetes.kubeconfig import find_kubeconfig, reach
from flambeau_operator.resources.pod_state import Document
from flambeau_operator.resources.pod_state_json import document_from_json

__all__ = ["Cluster", "find_kubeconfig", "reached"]

MANAGER: Final = "flambeau-cli"
"""Field manager of what commands change: another one than the operator's, which owns no spec."""


class Cluster:
    """An API server as its user sees it; a `places.Place`."""

    def __init__(self, api: Api, context: str) -> None:
        self._api = api
        self._context = context

    @property
    def label(self) -> str:
        """What people call it."""
        return f"context {self._context}"

    async def read(self, key: Key) -> Mapping[str, Any] | None:
        """See `places.Place`."""
        return await self._api.get(_path(key))

    async def change(
        self,
        key: Key,
        uid: str,
        annotations: Mapping[str, str | None],
        paused: bool | None = None,
    ) -> Mapping[str, Any]:
        """See `places.Place`."""
        body: dict[str, Any] = {"metadata": {"uid": uid}}
        if annotations:
            body["metadata"]["annotations"] = dict(annotations)
        if paused is not None:
            body["spec"] = {"rollout": {"paused": paused}}
        return await self._api.merge(_path(key), body, manager=MANAGER)

    async def committed(self, key: Key) -> Document | None:
        """See `places.Place`; a user may well have no right to read ConfigMaps."""
        path = kinds.CONFIG_MAPS.path(key.namespace, names.models_config_map(key.name))
        try:
            found = await self._api.get(path)
            content = json.loads(found["data"]["models.json"]) if found else None
            return document_from_json(content["document"]) if content else None
        except (DoorFault, ValueError, KeyError, TypeError, AttributeError):
            return None

    async def modes(
        self,
        key: Key,  # noqa: ARG002  a place
        manifest: Mapping[str, Any],  # noqa: ARG002
    ) -> Mapping[str, tuple[str | None, str]]:
        """See `places.Place`: pods of a cluster answer their operator alone."""
        return {}

    async def refusal(self, manifest: Mapping[str, Any]) -> str | None:
        """See `places.Place`: the API server is asked, and changes nothing."""
        metadata = manifest["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        wish = {name: value for name, value in manifest.items() if name != "status"}
        try:
            await self._api.apply(_path(key), wish, manager=MANAGER, dry_run=True)
        except Rejected as rejected:
            # Whoever may not apply may all the same ask what would change.
            return None if rejected.status == HTTPStatus.FORBIDDEN else rejected.message
        except Unavailable as error:
            return str(error)
        return None


@contextlib.asynccontextmanager
async def reached(kubeconfig: str, context: str | None) -> AsyncIterator[tuple[Cluster, str]]:
    """Open the way to a cluster; yields it and the namespace of the context.

    Raises:
        InvalidSettings: the kubeconfig cannot be used.
    """
    found = await reach(kubeconfig, context)
    async with Api(found.configuration) as api:
        yield Cluster(api, found.context), found.namespace


def _path(key: Key) -> str:
    return kinds.MODEL_DEPLOYMENTS.path(key.namespace, key.name)
