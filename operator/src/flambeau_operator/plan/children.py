"""What must exist around the models: how many pods, started how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from flambeau_operator.resources.model_deployment import ModelDeployment, Spec


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """How a pod is started. Another hash means that running pods must be replaced."""

    runtime_config: Mapping[str, str]  # keys of config.properties
    owner_uid: str
    template_hash: str


@dataclass(frozen=True, slots=True)
class Children:
    """The desired surroundings of one ModelDeployment."""

    spec: Spec  # without its models: a change of those must not touch what runs them
    replicas: int  # pods that shall run now, as far as it is ours to say
    template: PodTemplate
    service_port: int
    termination_grace_s: float
    drain_delay_s: float


def desired_children(deployment: ModelDeployment, running: int | None = None) -> Children:
    """Return what must exist for this ModelDeployment.

    Args:
        deployment: the wish.
        running: the pods that are asked for at the moment; None while nothing asks for any.
    """
    spec = deployment.spec
    return Children(
        spec=spec.model_copy(update={"models": ()}),
        replicas=spec.pods_wanted(running),
        template=PodTemplate(
            runtime_config=spec.runtime.config,
            owner_uid=deployment.metadata.uid,
            template_hash=template_hash(deployment),
        ),
        service_port=spec.service.port,
        termination_grace_s=spec.disruption.termination_grace_period_s,
        drain_delay_s=spec.disruption.drain_delay_s,
    )


def template_hash(deployment: ModelDeployment) -> str:
    """Identify what pods are started with: what a user wrote, never what our release adds."""
    inputs = {"config": deployment.spec.runtime.config}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
