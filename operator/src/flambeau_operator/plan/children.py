"""What must exist around the models: how many pods, started how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flambeau_operator.plan.entries import spec_hash
from flambeau_operator.resources.autoscaling import HorizontalPodAutoscaling
from flambeau_operator.resources.model_deployment import ModelDeployment, Runtime, Spec
from flambeau_operator.resources.pod_state import ModelEntry
from flambeau_operator.resources.wish import Wish


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

    @property
    def autoscaler(self) -> HorizontalPodAutoscaling | None:
        """The autoscaler that is wished for, if one is."""
        return self.spec.autoscaling.hpa if self.spec.autoscaling else None

    @property
    def autoscaled(self) -> bool:
        """Whether an autoscaler says how many pods run."""
        return self.autoscaler is not None

    @property
    def fewest(self) -> int:
        """The fewest pods when not suspended."""
        return self.autoscaler.min if self.autoscaler else self.spec.pods_wanted()

    @property
    def most(self) -> int:
        """The most pods when not suspended."""
        wished = 1 if self.spec.replicas is None else self.spec.replicas
        return self.autoscaler.max if self.autoscaler else wished


def desired_children(
    deployment: ModelDeployment,
    running: int | None = None,
    committed: Sequence[ModelEntry] = (),
) -> Children:
    """Return what must exist for this ModelDeployment.

    Args:
        deployment: the wish.
        running: the pods that are asked for at the moment; None while nothing asks for any.
        committed: what a starting pod loads: with strategy RollingPods, other versions are a reason
            to replace the pods.
    """
    spec = deployment.spec
    return Children(
        spec=spec.model_copy(update={"models": ()}),
        # An autoscaler does not start from 0: there, it is ours to say.
        replicas=spec.pods_wanted(running or None),
        template=PodTemplate(
            runtime_config=spec.runtime.config,
            owner_uid=deployment.metadata.uid,
            template_hash=template_hash(deployment, committed),
        ),
        service_port=spec.service.port,
        termination_grace_s=spec.disruption.termination_grace_period_s,
        drain_delay_s=spec.disruption.drain_delay_s,
    )


def template_hash(deployment: ModelDeployment, committed: Sequence[ModelEntry] = ()) -> str:
    """Identify what pods are started with: what a user wrote, never what our release adds.

    What has its default is left out, so that a later release may add fields and no pod rolls.
    """
    spec = deployment.spec
    parts: dict[str, object] = {
        "runtime": _written(spec.runtime, without={"config"}),
        "resources": _written(spec.resources),
        "scheduling": _written(spec.scheduling, without={"queue_name"}),
        "storage": _written(spec.storage),
        "configMaps": sorted(each.name for each in spec.config_maps),
        "claims": sorted(each.name for each in spec.claims),
        "credentials": sorted([each.name, each.secret_ref.name] for each in spec.credentials),
        "disruption": _written(spec.disruption, without={"pod_disruption_budget"}),
        "podTemplate": spec.pod_template,
    }
    if spec.rollout.strategy == "RollingPods":
        parts["models"] = sorted(
            [model.name, spec_hash(entry)]
            for model in committed
            if (entry := model.version(model.default))
        )
    inputs = {"config": spec.runtime.config, **{key: part for key, part in parts.items() if part}}
    return _hash(inputs)


def runtime_hash(runtime: Runtime) -> str:
    """Identify spec.runtime: another one lets the operator choose the image anew."""
    return _hash(_written(runtime))


def _written(part: Wish, without: frozenset[str] | set[str] = frozenset()) -> dict[str, object]:
    return part.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(without))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
