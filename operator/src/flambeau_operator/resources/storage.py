"""Where the model store of the pods lies."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StrictBool, StringConstraints

from flambeau_operator.resources.quantities import Quantity
from flambeau_operator.resources.rules import Rule, rule
from flambeau_operator.resources.wish import DnsName, Opaque, Wish


class EmptyDir(Wish):
    """An empty folder of the node, gone with the pod."""

    size_limit: Quantity | None = None
    """The pod is evicted when it grows beyond."""
    medium: Literal["", "Memory"] = ""
    """Memory keeps it in RAM, counted against the memory limit."""


class ClaimStore(Wish):
    """A PersistentVolumeClaim of the namespace; with several pods it must allow many readers."""

    claim_name: DnsName
    """Its name."""
    read_only: StrictBool = True
    """Whether it is mounted read-only."""


class CacheClaim(Wish):
    """A PersistentVolumeClaim of the namespace; with several pods it must allow many writers."""

    claim_name: DnsName
    """Its name."""


class ImageStore(Wish):
    """An OCI image or artifact, mounted read-only where the cluster serves image volumes."""

    reference: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """Its name, with tag or digest."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When it is pulled; absent is Kubernetes' own rule."""


class EphemeralStore(Wish):
    """A volume of its own for each pod, gone with it."""

    volume_claim_template: Opaque
    """As core/v1's PersistentVolumeClaimTemplate, handed through."""


class ModelStore(Wish):
    """Exactly one kind of volume, mounted at /home/model-server/model-store."""

    empty_dir: EmptyDir | None = None
    """An empty folder of the node."""
    persistent_volume_claim: ClaimStore | None = None
    """A claim of the namespace."""
    image: ImageStore | None = None
    """An OCI image."""
    ephemeral: EphemeralStore | None = None
    """A volume for each pod."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "[has(self.emptyDir), has(self.persistentVolumeClaim), has(self.image), "
            "has(self.ephemeral)].exists_one(x, x)",
            "must be exactly one of emptyDir, persistentVolumeClaim, image and ephemeral",
            "",
            lambda self: (
                sum(getattr(self, name) is not None for name in type(self).model_fields) == 1
            ),
        ),
    )


class Cache(Wish):
    """Exactly one kind of volume, mounted at /mnt/cache."""

    empty_dir: EmptyDir | None = None
    """An empty folder of the node, of each pod its own."""
    persistent_volume_claim: CacheClaim | None = None
    """A claim of the namespace."""
    ephemeral: EphemeralStore | None = None
    """A volume for each pod."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "[has(self.emptyDir), has(self.persistentVolumeClaim), has(self.ephemeral)]"
            ".exists_one(x, x)",
            "must be exactly one of emptyDir, persistentVolumeClaim and ephemeral",
            "",
            lambda self: (
                sum(getattr(self, name) is not None for name in type(self).model_fields) == 1
            ),
        ),
    )


class Storage(Wish):
    """The volumes of the pods."""

    model_store: ModelStore | None = None
    """Absent means emptyDir."""
    cache: Cache | None = None
    """Downloads and extracted archives, kept for pods to come; nothing in it is ever removed."""
