"""What the API server serves: our own kind above all, without which kopf stays deaf for ever."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from flambeau_operator import names
from flambeau_operator.errors import DoorFault, Rejected
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.client import Api

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
LABELS: Final = {"app.kubernetes.io/name": "flambeau-probe"}
PROBE: Final = {
    "apiVersion": kinds.DEPLOYMENTS.api_version,
    "kind": kinds.DEPLOYMENTS.kind,
    "metadata": {"name": "flambeau-probe"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {
                "containers": [{"name": "probe", "image": "probe"}],
                "volumes": [{"name": "image", "image": {"reference": "probe"}}],
            },
        },
    },
}


async def until_served(api: Api) -> None:
    """Return once ModelDeployments are served."""
    told = False
    while not await _serves(api):
        if not told:
            log.warning("waiting for the CRD", extra={"crd": f"modeldeployments.{names.GROUP}"})
            told = True
        await asyncio.sleep(LOOK_S)


async def serves_image_volumes(api: Api, namespace: str) -> bool:
    """Whether pods can mount an OCI image.

    A feature gate decides, and nobody can ask for those. But an API server whose gate is shut loses
    the field, and one that keeps it in a Deployment that is only tried has it open.

    Args:
        api: the API server.
        namespace: one in which Deployments may be made; none is.
    """
    try:
        kept = await api.create(kinds.DEPLOYMENTS.path(namespace), PROBE, dry_run=True)
    except Rejected as rejected:
        log.info("image volumes are not served", extra={"why": str(rejected)})
        return False
    volumes = kept["spec"]["template"]["spec"].get("volumes") or ()
    return any("image" in each for each in volumes)


async def serves_queues(api: Api) -> bool:
    """Whether Kueue is there."""
    found = await api.get("/apis/kueue.x-k8s.io")
    return found is not None


async def _serves(api: Api) -> bool:
    try:
        found = await api.get(f"/apis/{names.API_VERSION}")
    except DoorFault as fault:
        log.warning("the API server does not answer", extra={"why": str(fault)})
        return False
    resources = found.get("resources", ()) if found else ()
    return any(each.get("name") == kinds.MODEL_DEPLOYMENTS.plural for each in resources)
