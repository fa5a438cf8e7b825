"""The ModelDeployment: one set of types that parses the object and describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from flambeau_operator.errors import FieldProblem, InvalidSpec
from flambeau_operator.resources.autoscaling import Autoscaling
from flambeau_operator.resources.deployment_status import Status, status_from_json
from flambeau_operator.resources.field_problems import problems_of, wrong_kind
from flambeau_operator.resources.quantities import Share, format_duration
from flambeau_operator.resources.scheduling import Mounted, Resources, Scheduling
from flambeau_operator.resources.storage import Storage
from flambeau_operator.resources.wish import Delay, Natural, Opaque, Patience, Wish

ObjectName = Annotated[
    str, StringConstraints(max_length=50, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
]
ModelName = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
]
Version = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.+]*[A-Za-z0-9])?$")
]
Uri = Annotated[
    str, StringConstraints(max_length=2048, pattern=r"^(https?|file|configmap|pvc)://\S+$")
]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class Source(Wish):
    """Where the archive is."""

    uri: Uri
    """http, https, file, `configmap://NAME/KEY` or `pvc://CLAIM/PATH`."""
    digest: Digest | None = None
    """Pins the content: sha256 and 64 hexadecimal digits."""


class Workers(Wish):
    """Worker processes in each pod."""

    min: Annotated[StrictInt, Field(ge=1, le=1000)] = 1
    """How many start, and are needed before the model counts as ready."""


class Batching(Wish):
    """Which requests go to a worker together."""

    max_size: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1
    """The most requests in one batch."""
    max_delay_s: Delay = Field(default=0.1, alias="maxDelay")
    """How long a request waits for companions."""


class Timeouts(Wish):
    """When patience ends."""

    response_s: Patience = Field(default=120.0, alias="response")
    """For one batch; the worker is replaced when it takes longer."""
    startup_s: Patience = Field(default=300.0, alias="startup")
    """From the start of a worker to its loaded handler."""


class Handler(Wish):
    """What the handler finds around it."""

    env: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = Field(
        default={}
    )
    """Environment variables of the workers."""


class WarmupRequest(Wish):
    """A request sent before the version gets traffic."""

    body: str
    """The request's body."""
    content_type: str = "application/json"
    """Its Content-Type."""
    repeat: Annotated[StrictInt, Field(ge=1, le=1000)] = 1
    """How often each worker gets it."""


class Warmup(Wish):
    """What a version must answer before it counts as ready."""

    requests: Annotated[tuple[WarmupRequest, ...], Field(max_length=16)] = ()
    """Sent in this order."""


class Model(Wish):
    """One model and the version it shall have."""

    name: ModelName
    """The name in the URL of a prediction."""
    required: StrictBool = True
    """Whether a pod without it is not ready."""
    version: Version
    """The target; the operator rolls to it from whatever is active."""
    source: Source
    """Where that version's archive is."""
    workers: Workers = Workers()
    """Live: changed in the running pods."""
    batching: Batching = Batching()
    """Live: changed in the running pods."""
    timeouts: Timeouts = Timeouts()
    """Live: changed in the running pods."""
    handler: Handler = Handler()
    """A change of env restarts the workers one by one."""
    warmup: Warmup = Warmup()
    """Live: used at the next start of a worker."""


class Runtime(Wish):
    """The program in the pods."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """Absent: chosen by the operator when it makes the Deployment, and kept after that."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the image is pulled."""
    config: dict[str, str] = Field(default={})
    """Keys of config.properties, handed through."""


class Hot(Wish):
    """How a version changes inside the running pods."""

    max_unavailable_pods: Share = 1
    """Pods that change at the same time: a number, or a percentage of the replicas."""


class Rollout(Wish):
    """How a new version comes in."""

    paused: StrictBool = False
    """Hold where it is; a failing candidate is still taken back."""
    hot: Hot = Hot()
    """Inside the running pods."""
    progress_deadline_s: Patience = Field(default=3600.0, alias="progressDeadline")
    """A candidate that makes no progress for so long is taken back."""


class Service(Wish):
    """The address of the predictions; management is never in a Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """As core/v1's Service."""
    port: Annotated[StrictInt, Field(ge=1, le=65_535)] = 80
    """Its port."""
    annotations: Annotated[dict[str, str], Field(max_length=64)] = Field(default={})
    """Of the Service."""


class Disruption(Wish):
    """How a pod leaves."""

    pod_disruption_budget: Literal["Auto", "None"] = "Auto"
    """Auto lets one pod at a time be evicted, from two replicas on."""
    termination_grace_period_s: Patience = Field(default=150.0, alias="terminationGracePeriod")
    """How long it may take to stop."""
    drain_delay_s: Delay = Field(default=10.0, alias="drainDelay")
    """How long a stopping pod goes on accepting, until nobody sends to it any more."""


class Spec(Wish):
    """The wish."""

    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=64)]
    """The models to serve, by name."""
    replicas: Natural | None = None
    """Pods; absent means 1. Not together with autoscaling."""
    autoscaling: Autoscaling | None = None
    """Who decides how many pods run, instead of replicas."""
    suspend: StrictBool = False
    """Stop every pod and keep the objects."""
    runtime: Runtime = Runtime()
    """The program in the pods; a change rolls them."""
    rollout: Rollout = Rollout()
    """How a new version comes in."""
    service: Service = Service()
    """The address of the predictions."""
    disruption: Disruption = Disruption()
    """How a pod leaves."""
    resources: Resources = Resources()
    """What each pod may use; a change rolls the pods."""
    scheduling: Scheduling = Scheduling()
    """Where pods may run; a change rolls the pods."""
    storage: Storage = Storage()
    """The model store; a change rolls the pods."""
    config_maps: Annotated[tuple[Mounted, ...], Field(max_length=16)] = ()
    """ConfigMaps that sources name; a change rolls the pods."""
    claims: Annotated[tuple[Mounted, ...], Field(max_length=16)] = ()
    """PersistentVolumeClaims that sources name; a change rolls the pods."""
    pod_template: Opaque | None = None
    """A patch of the pod template, applied last; a change rolls the pods."""
    network_policy: Literal["Managed", "None"] = "Managed"
    """Managed lets only the operator reach the pods' management port."""

    def pods_wanted(self, running: int | None = None) -> int:
        """Return how many pods shall run now.

        Args:
            running: what the autoscaler asks for at the moment; None while it has not spoken.
        """
        if self.suspend:
            return 0
        if self.autoscaling is not None and self.autoscaling.hpa is not None:
            return self.autoscaling.hpa.min if running is None else running
        return 1 if self.replicas is None else self.replicas


class Metadata(BaseModel):
    """What is used of an object's metadata."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    name: ObjectName
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    resource_version: str = ""
    annotations: dict[str, str] = Field(default={})


class ModelDeployment(BaseModel):
    """One ModelDeployment, parsed."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    api_version: str
    kind: str
    metadata: Metadata
    spec: Spec
    status: Status = Status()


def parse(body: Mapping[str, Any]) -> ModelDeployment:
    """Read an object as it came from a file or an API server.

    Raises:
        InvalidSpec: with every wrong field at once.
    """
    if wrong := wrong_kind(body):
        raise InvalidSpec(wrong)
    wish = {key: value for key, value in body.items() if key != "status"}
    try:
        deployment = ModelDeployment.model_validate(wish)
    except ValidationError as error:
        raise InvalidSpec(problems_of(error, ModelDeployment)) from None
    if wrong := tuple(_contradictions(deployment.spec)):
        raise InvalidSpec(wrong)
    return deployment.model_copy(update={"status": status_from_json(body.get("status"))})


def _contradictions(spec: Spec) -> Iterator[FieldProblem]:
    """Yield what is wrong between fields that are each in order."""
    names = [model.name for model in spec.models]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield FieldProblem(f"spec.models[{index}].name", f"{name!r} is named twice")
    slowest = max(model.timeouts.response_s for model in spec.models)
    delay, grace = spec.disruption.drain_delay_s, spec.disruption.termination_grace_period_s
    if delay + slowest > grace:
        yield FieldProblem(
            "spec.disruption.terminationGracePeriod",
            f"must be at least disruption.drainDelay ({format_duration(delay)}) plus the longest "
            f"timeouts.response ({format_duration(slowest)}), is {format_duration(grace)}: "
            "a stopping pod would cut off requests",
        )
