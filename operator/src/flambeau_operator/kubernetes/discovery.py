"""What the API server serves: our own kind above all, without which kopf stays deaf for ever."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from flambeau_operator import names
from flambeau_operator.errors import DoorFault
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Api

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
IMAGE_VOLUMES_SINCE: Final = (1, 35)  # beta and on by default; before, a gate that nobody can see


async def until_served(api: Api) -> None:
    """Return once ModelDeployments are served."""
    told = False
    while not await _serves(api):
        if not told:
            log.warning("waiting for the CRD", extra={"crd": f"modeldeployments.{names.GROUP}"})
            told = True
        await asyncio.sleep(LOOK_S)


async def serves_image_volumes(api: Api) -> bool:
    """Whether pods can mount an OCI image."""
    return await version(api) >= IMAGE_VOLUMES_SINCE


async def serves_queues(api: Api) -> bool:
    """Whether Kueue is there."""
    found = await api.get("/apis/kueue.x-k8s.io")
    return found is not None


async def version(api: Api) -> tuple[int, int]:
    """Return major and minor of the API server."""
    found = await api.get("/version") or {}
    parts = [re.match(r"\d*", str(found.get(each, "")))[0] for each in ("major", "minor")]  # type: ignore[index]
    return int(parts[0] or 0), int(parts[1] or 0)


async def _serves(api: Api) -> bool:
    try:
        found = await api.get(f"/apis/{names.API_VERSION}")
    except DoorFault as fault:
        log.warning("the API server does not answer", extra={"why": str(fault)})
        return False
    resources = found.get("resources", ()) if found else ()
    return any(each.get("name") == kinds.MODEL_DEPLOYMENTS.plural for each in resources)
