"""The ModelDeployment: one set of types that parses the object and describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

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
from flambeau_operator.names import GRPC_PORT
from flambeau_operator.resources.autoscaling import Autoscaling
from flambeau_operator.resources.deployment_status import Status, status_from_json
from flambeau_operator.resources.field_problems import problems_of, wrong_kind
from flambeau_operator.resources.quantities import Quantity, format_duration
from flambeau_operator.resources.rollout import Rollout
from flambeau_operator.resources.rules import BY_NAME, Rule, breaches, rule
from flambeau_operator.resources.scheduling import Credentials, Mounted, Resources, Scheduling
from flambeau_operator.resources.source import Source, Version
from flambeau_operator.resources.storage import Storage
from flambeau_operator.resources.traffic import Shadow, Split
from flambeau_operator.resources.wish import (
    Delay,
    Natural,
    Opaque,
    Patience,
    Wish,
)

OBJECT_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"

ObjectName = Annotated[str, StringConstraints(max_length=50, pattern=OBJECT_NAME)]
ModelName = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
]
EnvName = Annotated[str, StringConstraints(max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
EnvValue = Annotated[str, StringConstraints(max_length=32_768)]
ConfigKey = Annotated[str, StringConstraints(max_length=253, pattern=r"^[A-Za-z0-9_.-]+$")]
ConfigValue = Annotated[str, StringConstraints(max_length=4096)]
AnnotationValue = Annotated[str, StringConstraints(max_length=32_768)]


class Workers(Wish):
    """Worker processes in each pod."""

    min: Annotated[StrictInt, Field(ge=1, le=1000)] = 1
    """How many start, and are needed before the model counts as ready."""
    max: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    """As many as come when requests wait; absent means `min`. Each pod decides for itself, within
    seconds."""
    max_memory: Quantity | None = None
    """A worker that holds more (resident) is replaced by a fresh one; absent means no limit."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "!has(self.max) || self.min <= self.max",
            "must not be less than min",
            ".max",
            lambda self: self.max is None or self.min <= self.max,
        ),
    )


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

    env: Annotated[dict[EnvName, EnvValue], Field(max_length=64)] = Field(default={})
    """Environment variables of the workers."""


class WarmupRequest(Wish):
    """A request sent before the version gets traffic."""

    body: Annotated[str, StringConstraints(max_length=262_144)]
    """The request's body."""
    content_type: Annotated[str, StringConstraints(max_length=255)] = "application/json"
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
    split: Split | None = None
    """Who gets which version: other versions beside this one, and what a caller is known by."""
    shadow: Shadow | None = None
    """Another version that gets copies of requests and whose answers nobody sees."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.version != oldSelf.version || !has(oldSelf.source.digest) || "
            "!has(self.source.digest) || self.source.digest == oldSelf.source.digest",
            "has this version with another digest already: give the new archive a new version",
            ".version",
        ),
        rule(
            "!has(self.split) || self.split.versions.all(v, v.version != self.version)",
            "names the model's own version, which gets what the others leave: name others here",
            ".split.versions",
            lambda self: (
                self.split is None
                or all(each.version != self.version for each in self.split.versions)
            ),
        ),
        rule(
            "!has(self.shadow) || self.shadow.version != self.version",
            "is the model's own version: a shadow is another one",
            ".shadow.version",
            lambda self: self.shadow is None or self.shadow.version != self.version,
        ),
    )


class Runtime(Wish):
    """The program in the pods."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """Absent: chosen by the operator when it makes the Deployment, and kept after that."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the image is pulled."""
    config: Annotated[dict[ConfigKey, ConfigValue], Field(max_length=128)] = Field(default={})
    """Keys of config.properties, handed through."""
    grpc: StrictBool = False
    """Predictions by gRPC too: TorchServe's service and the Open Inference Protocol, on port 7070
    of the pods and of the Service."""


class Service(Wish):
    """The address of the predictions; management is never in a Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """As core/v1's Service."""
    port: Annotated[StrictInt, Field(ge=1, le=65_535)] = 80
    """Its port."""
    annotations: Annotated[dict[str, AnnotationValue], Field(max_length=64)] = Field(default={})
    """Of the Service."""


class Disruption(Wish):
    """How a pod leaves."""

    pod_disruption_budget: Literal["Auto", "None"] = "Auto"
    """Auto lets one pod at a time be evicted, from two replicas on."""
    termination_grace_period_s: Patience = Field(default=150.0, alias="terminationGracePeriod")
    """How long it may take to stop."""
    drain_delay_s: Delay = Field(default=10.0, alias="drainDelay")
    """How long a stopping pod goes on accepting, until nobody sends to it any more."""


def _sources(spec: Spec) -> Iterator[tuple[str, Source]]:
    """Yield every source with its path.

    The API server is asked about a model's own alone: lists in lists in lists cost more than it
    allows a rule. The others are refused here, and so in the status.
    """
    for index, model in enumerate(spec.models):
        path = f"models[{index}]"
        yield f"{path}.source", model.source
        for number, other in enumerate(model.split.versions if model.split else ()):
            yield f"{path}.split.versions[{number}].source", other.source
        if model.shadow:
            yield f"{path}.shadow.source", model.shadow.source


def _unnamed(scheme: str, field: str, named: Callable[[Spec], tuple[Mounted, ...]]) -> Rule:
    """Return the rule that what a source reads from is mounted."""
    prefix = f"{scheme}://"

    def find(spec: Spec) -> Iterator[FieldProblem]:
        names = {each.name for each in named(spec)}
        for path, source in _sources(spec):
            name = source.uri.removeprefix(prefix).partition("/")[0]
            if source.uri.startswith(prefix) and name not in names:
                yield FieldProblem(
                    f"{path}.uri", f"is not mounted: add {{name: {name}}} to spec.{field}"
                )

    named_so = f"m.source.uri.startsWith('{prefix}' + entry.name + '/')"
    known = f"has(self.{field}) && self.{field}.exists(entry, {named_so})"
    stranger = f"m.source.uri.startsWith('{prefix}') && !({known})"
    return Rule(
        f"!self.models.exists(m, {stranger})",
        f"every {prefix}NAME of a source must be in spec.{field}: add {{name: NAME}} to it",
        f".{field}",
        find,
    )


def _strangers(spec: Spec) -> Iterator[FieldProblem]:
    names = {each.name for each in spec.credentials}
    for path, source in _sources(spec):
        wanted = source.credentials
        if wanted is not None and wanted not in names:
            yield FieldProblem(
                f"{path}.credentials",
                f"is not known: add an entry {wanted} with a secretRef to spec.credentials",
            )


def _cut_off(spec: Spec) -> Iterator[FieldProblem]:
    slowest = max(model.timeouts.response_s for model in spec.models)
    delay, grace = spec.disruption.drain_delay_s, spec.disruption.termination_grace_period_s
    if delay + slowest > grace:
        yield FieldProblem(
            "disruption.terminationGracePeriod",
            f"must be at least disruption.drainDelay ({format_duration(delay)}) plus the longest "
            f"timeouts.response ({format_duration(slowest)}), is {format_duration(grace)}: "
            "a stopping pod would cut off requests",
        )


class Spec(Wish):
    """The wish."""

    models: Annotated[
        tuple[Model, ...], Field(min_length=1, max_length=64, json_schema_extra=BY_NAME)
    ]
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
    credentials: Annotated[
        tuple[Credentials, ...], Field(max_length=16, json_schema_extra=BY_NAME)
    ] = ()
    """Secrets that open sources; a change rolls the pods."""
    config_maps: Annotated[
        tuple[Mounted, ...], Field(max_length=16, json_schema_extra=BY_NAME)
    ] = ()
    """ConfigMaps that sources name; a change rolls the pods."""
    claims: Annotated[tuple[Mounted, ...], Field(max_length=16, json_schema_extra=BY_NAME)] = ()
    """PersistentVolumeClaims that sources name; a change rolls the pods."""
    pod_template: Opaque | None = None
    """A patch of the pod template, applied last; a change rolls the pods."""
    network_policy: Literal["Managed", "None"] = "Managed"
    """Managed lets only the operator reach the pods' management port."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "!(has(self.replicas) && has(self.autoscaling))",
            "cannot stand beside autoscaling. Where kubectl scale has left it behind: kubectl "
            """patch mdep NAME --type=json -p '[{"op": "remove", "path": "/spec/replicas"}]'""",
            ".replicas",
            lambda self: self.replicas is None or self.autoscaling is None,
        ),
        Rule(
            "!has(oldSelf.autoscaling) || has(self.autoscaling) || has(self.replicas)",
            "must be set when autoscaling is removed: to the number of pods that shall stay",
            ".replicas",
        ),
        rule(
            f"!self.runtime.grpc || self.service.port != {GRPC_PORT}",
            f"must not be {GRPC_PORT}, where the Service takes gRPC: choose another one, or leave "
            "runtime.grpc out",
            ".service.port",
            lambda self: not self.runtime.grpc or self.service.port != GRPC_PORT,
        ),
        Rule(
            "!self.models.exists(m, has(m.source.credentials) && !(has(self.credentials) && "
            "self.credentials.exists(entry, entry.name == m.source.credentials)))",
            "every credentials of a source must be in spec.credentials: add an entry of that "
            "name with a secretRef",
            ".credentials",
            _strangers,
        ),
        _unnamed("configmap", "configMaps", lambda spec: spec.config_maps),
        _unnamed("pvc", "claims", lambda spec: spec.claims),
        Rule(
            "self.models.all(m, duration(self.disruption.drainDelay) + "
            "duration(m.timeouts.response) <= duration(self.disruption.terminationGracePeriod))",
            "must be at least disruption.drainDelay plus the longest models[].timeouts.response: "
            "a stopping pod would cut off requests",
            ".disruption.terminationGracePeriod",
            _cut_off,
            "'must be at least disruption.drainDelay (' + self.disruption.drainDelay + ') plus the "
            "longest models[].timeouts.response, is ' + self.disruption.terminationGracePeriod + "
            "': a stopping pod would cut off requests'",
        ),
    )

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
    if wrong := tuple(breaches(deployment.spec, "spec")):
        raise InvalidSpec(wrong)
    return deployment.model_copy(update={"status": status_from_json(body.get("status"))})
