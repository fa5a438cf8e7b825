"""The pods' volumes, and where they are mounted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from flambeau_operator.names import CONFIG_ANNOTATION, models_config_map
from flambeau_operator.plan.site import Site
from flambeau_operator.resources.model_deployment import Spec
from flambeau_operator.resources.scheduling import Credentials
from flambeau_operator.resources.storage import Cache, ModelStore

BOOT_FOLDER: Final = "/etc/flambeau"
CONFIG_FOLDER: Final = "/etc/flambeau-pod"
CONFIG_FILE: Final = "config.properties"
STATE_FOLDER: Final = "/var/lib/flambeau"
MODEL_STORE_FOLDER: Final = "/home/model-server/model-store"
CONFIG_MAPS_FOLDER: Final = "/mnt/configmaps"
CLAIMS_FOLDER: Final = "/mnt/claims"
CREDENTIALS_FOLDER: Final = "/mnt/credentials"
CACHE_FOLDER: Final = "/mnt/cache"

BOOT, STATE, TEMPORARY, STORE, CONFIG = "models", "state", "tmp", "model-store", "config"
CACHE: Final = "cache"


class Volume(NamedTuple):
    """A volume and its only mount."""

    volume: Mapping[str, Any]
    mount: Mapping[str, Any]


def volumes_of(name: str, spec: Spec, site: Site) -> tuple[Volume, ...]:
    """Return every volume of the pods, in a fixed order."""
    boot = {"configMap": {"name": models_config_map(name), "optional": False}}
    found = [
        _volume(BOOT, boot, BOOT_FOLDER, read_only=True),
        _volume(STATE, {"emptyDir": {}}, STATE_FOLDER),
        _volume(TEMPORARY, {"emptyDir": {}}, "/tmp"),  # noqa: S108  a folder inside the pod
        _model_store(spec.storage.model_store, site),
    ]
    if spec.runtime.config:
        # From the pod's own annotation: no object more, and the template rolls when it changes.
        source = {"fieldRef": {"apiVersion": "v1", "fieldPath": _annotation(CONFIG_ANNOTATION)}}
        items = {"downwardAPI": {"items": [{"path": CONFIG_FILE, **source}]}}
        found.append(_volume(CONFIG, items, CONFIG_FOLDER, read_only=True))
    for index, each in enumerate(sorted(spec.config_maps, key=lambda mounted: mounted.name)):
        config_map = {"configMap": {"name": each.name, "optional": False}}
        folder = f"{CONFIG_MAPS_FOLDER}/{each.name}"
        found.append(_volume(f"configmap-{index}", config_map, folder, read_only=True))
    for index, each in enumerate(sorted(spec.claims, key=lambda mounted: mounted.name)):
        claim = {"persistentVolumeClaim": {"claimName": each.name, "readOnly": True}}
        folder = f"{CLAIMS_FOLDER}/{each.name}"
        found.append(_volume(f"claim-{index}", claim, folder, read_only=True))
    found += _credentials(spec.credentials)
    if spec.storage.cache:
        found.append(_cache(spec.storage.cache))
    return tuple(found)


def _credentials(wanted: Sequence[Credentials]) -> list[Volume]:
    """Return the Secrets, mounted even where they are missing.

    The pod starts and serves what it can; of the rest it says which credentials are not there, and
    takes them once they are.
    """
    return [
        _volume(
            f"credentials-{index}",
            {
                "secret": {
                    "secretName": each.secret_ref.name,
                    "optional": True,
                    "defaultMode": 0o440,
                }
            },
            f"{CREDENTIALS_FOLDER}/{each.name}",
            read_only=True,
        )
        for index, each in enumerate(sorted(wanted, key=lambda each: each.name))
    ]


def _cache(cache: Cache) -> Volume:
    if cache.persistent_volume_claim:
        claim = {"claimName": cache.persistent_volume_claim.claim_name}
        return _volume(CACHE, {"persistentVolumeClaim": claim}, CACHE_FOLDER)
    if cache.ephemeral:
        template = cache.ephemeral.volume_claim_template
        return _volume(CACHE, {"ephemeral": {"volumeClaimTemplate": template}}, CACHE_FOLDER)
    empty = cache.empty_dir
    source = empty.model_dump(by_alias=True, exclude_defaults=True) if empty else {}
    return _volume(CACHE, {"emptyDir": source}, CACHE_FOLDER)


def _model_store(store: ModelStore | None, site: Site) -> Volume:
    if store and store.persistent_volume_claim:
        claim = store.persistent_volume_claim
        source = {"claimName": claim.claim_name, "readOnly": claim.read_only}
        return _volume(
            STORE,
            {"persistentVolumeClaim": source},
            MODEL_STORE_FOLDER,
            read_only=claim.read_only,
        )
    if store and store.ephemeral:
        template = store.ephemeral.volume_claim_template
        return _volume(STORE, {"ephemeral": {"volumeClaimTemplate": template}}, MODEL_STORE_FOLDER)
    if store and store.image and site.image_volumes_served:
        source = store.image.model_dump(by_alias=True, exclude_none=True)
        return _volume(STORE, {"image": source}, MODEL_STORE_FOLDER, read_only=True)
    empty = store.empty_dir if store else None
    source = empty.model_dump(by_alias=True, exclude_defaults=True) if empty else {}
    return _volume(STORE, {"emptyDir": source}, MODEL_STORE_FOLDER)


def _volume(
    name: str, source: Mapping[str, Any], folder: str, *, read_only: bool = False
) -> Volume:
    mount = {"name": name, "mountPath": folder, **({"readOnly": True} if read_only else {})}
    return Volume({"name": name, **source}, mount)


def _annotation(name: str) -> str:
    return f"metadata.annotations['{name}']"
