"""Fields that a spec sets and its environment cannot honour: each is named, none is ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from flambeau_operator.plan.site import Site
from flambeau_operator.resources.model_deployment import Spec

LOCALLY: Final[Mapping[str, str]] = {
    "autoscaling": "autoscaling.hpa.min pods run all the time",
    "resources.requests": "the pods share this machine",
    "resources.limits": "nobody enforces them here, and memory alone is heeded: a version that does"
    " not fit beside the one that serves is refused",
    "scheduling": "every pod runs on this machine",
    "credentials": "what this machine's own environment has opens sources",
    "storage": "archives are kept in the session's folder",
    "pod_template": "pods are processes here",
    "network_policy": "pods listen on loopback alone",
    "runtime.image": "pods run the runtime that is installed here",
    "runtime.pull_policy": "pods run the runtime that is installed here",
    "runtime.grpc": "the session's address takes HTTP alone",
    "service.type": "the address is one of this machine",
    "service.port": "the first deployment gets the session's port, each other one the next",
    "service.annotations": "there is no Service object here",
    "disruption.pod_disruption_budget": "nobody evicts pods here",
}
"""What has no effect for processes of one machine, and what holds instead."""


def on_one_machine(spec: Spec) -> tuple[str, ...]:
    """Return the fields that differ from their defaults and do nothing in local mode."""
    return tuple(
        f"spec.{_spelled(path)} has no effect in local mode: {why}"
        for path, why in LOCALLY.items()
        if _is_set(spec, path)
    )


def on_kubernetes(spec: Spec, site: Site) -> tuple[str, ...]:
    """Return the fields that this cluster does not serve."""
    return tuple(_unserved(spec, site))


def _unserved(spec: Spec, site: Site) -> Iterator[str]:
    store = spec.storage.model_store
    if store is not None and store.image is not None and not site.image_volumes_served:
        yield (
            "spec.storage.modelStore.image has no effect: image volumes are not served here "
            "(feature gate ImageVolume), and the pods have an empty folder instead"
        )
    if spec.scheduling.queue_name and not site.queues_served:
        yield "spec.scheduling.queueName has no effect: Kueue is not installed in this cluster"


def _is_set(spec: Spec, path: str) -> bool:
    holder, _, name = path.rpartition(".")
    part = getattr(spec, holder) if holder else spec
    return bool(getattr(part, name) != type(part).model_fields[name].default)


def _spelled(path: str) -> str:
    head, *rest = path.split("_")
    return head + "".join(each.capitalize() for each in rest)
