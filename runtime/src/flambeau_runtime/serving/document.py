"""The `/state` document as it is written: parsed strictly, wrong fields named with their paths."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from flambeau_runtime.errors import FieldProblem, InvalidDocument
from flambeau_runtime.serving.desired import (
    LONGEST_TIMEOUT_S,
    MOST_JOBS_AT_ONCE,
    MOST_WORKERS,
    Batching,
    Document,
    ModelSpec,
    Owner,
    Shadow,
    Source,
    Sticky,
    Swap,
    Timeouts,
    Tolerance,
    VersionSpec,
    WarmupRequest,
)
from flambeau_runtime.settings import Limits

ALL = 100
"""Percent."""

Number = TypeVar("Number", int, float)

Text = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Name = Annotated[str, StringConstraints(pattern=r"^[^\s/?#%]{1,200}$")]
"""One segment of a URL path: models and versions are named there."""
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""One folder of the mounted credentials: no way out of it, and no hidden file."""
EnvName = Annotated[str, StringConstraints(pattern=r"^[^=\x00]{1,256}$")]
EnvValue = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_TIMEOUT_S, allow_inf_nan=False)]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]{1,128}$")]
"""The name of a header or of a cookie (RFC 9110)."""
JsonPath = Annotated[
    str, StringConstraints(pattern=r"^\$(\.[A-Za-z0-9_-]+|\[([0-9]{1,9}|\*)\])*$", max_length=253)
]
Difference = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_S, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
    )


class SourcePart(_Part):
    """Where an archive comes from, and what its content must be."""

    uri: Text
    digest: Digest | None = None
    credentials: SecretName | None = None


class WorkersPart(_Part):
    """How many workers, and how much each may hold."""

    min: Annotated[int, Field(ge=0, le=MOST_WORKERS)] = 1
    max: Annotated[int, Field(ge=0, le=MOST_WORKERS)] | None = None
    memory_bytes: Annotated[int, Field(ge=1, lt=2**63)] | None = None


class BatchingPart(_Part):
    """How many jobs go together, and how long one waits for companions."""

    max_size: Annotated[int, Field(ge=1, le=MOST_JOBS_AT_ONCE)] | None = None
    max_delay_seconds: Seconds | None = None


class TimeoutsPart(_Part):
    """For one batch, and for a worker's way from process to loaded handler."""

    response_seconds: PositiveSeconds | None = None
    startup_seconds: PositiveSeconds | None = None


class WarmupPart(_Part):
    """A request that is answered before the version counts as ready."""

    body: str
    content_type: Text = "application/json"
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1


class VersionPart(_Part):
    """One version of a model."""

    version: Name
    source: SourcePart
    workers: WorkersPart = WorkersPart()
    batching: BatchingPart = BatchingPart()
    timeouts: TimeoutsPart = TimeoutsPart()
    env: dict[EnvName, EnvValue] = Field(default_factory=dict)
    warmup: Annotated[tuple[WarmupPart, ...], Field(max_length=100)] = ()
    weight: Annotated[int, Field(ge=0, le=100)] = 0


class StickyPart(_Part):
    """What a caller is known by: a header or a cookie."""

    header: Token | None = None
    cookie: Token | None = None


class TolerancePart(_Part):
    """How far numbers at one place of two answers may lie apart."""

    path: JsonPath
    absolute: Difference = 0.0
    relative: Difference = 0.0


class ShadowPart(_Part):
    """Which version gets copies of requests."""

    version: Name
    percent: Annotated[int, Field(ge=1, le=100)] = 100
    tolerances: Annotated[tuple[TolerancePart, ...], Field(max_length=16)] = ()
    ignore: Annotated[tuple[JsonPath, ...], Field(max_length=16)] = ()


class ModelPart(_Part):
    """One model."""

    name: Name
    required: bool = True
    default: Name | None = None
    versions: Annotated[tuple[VersionPart, ...], Field(max_length=100)]
    sticky: StickyPart | None = None
    shadow: ShadowPart | None = None
    # Strict JSON has no enums of its own: the text is compared as it is.
    swap: Literal["SideBySide", "WorkerByWorker", "Recreate"] = "SideBySide"
    drain_seconds: Seconds | None = None
    window: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None


class OwnerPart(_Part):
    """The ModelDeployment that writes."""

    namespace: Text
    name: Text
    uid: Text


class DocumentPart(_Part):
    """The whole document."""

    owner: OwnerPart
    sequence: Annotated[int, Field(ge=0, lt=2**63)]
    generation: Annotated[int, Field(ge=0, lt=2**63)] = 0
    models: Annotated[tuple[ModelPart, ...], Field(max_length=1000)]


def parse(text: bytes, limits: Limits) -> Document:
    """Read a document; `limits` are the server-wide values of what it leaves open.

    Raises:
        InvalidDocument: not JSON, unknown or wrong fields; the error names each with its path.
    """
    try:
        part = DocumentPart.model_validate_json(text)
    except ValidationError as error:
        raise InvalidDocument(tuple(_problem(found) for found in error.errors())) from None
    if problems := _contradictions(part):
        raise InvalidDocument(problems)
    owner = Owner(part.owner.namespace, part.owner.name, part.owner.uid)
    models = tuple(_model(model, limits) for model in part.models)
    return Document(models, owner, part.sequence, part.generation)


def _model(part: ModelPart, limits: Limits) -> ModelSpec:
    return ModelSpec(
        part.name,
        part.default,
        tuple(_version(part.name, version, limits) for version in part.versions),
        part.required,
        sticky=None if part.sticky is None else Sticky(part.sticky.header, part.sticky.cookie),
        shadow=None if part.shadow is None else _shadow(part.shadow),
        swap=Swap(part.swap),
        drain_s=part.drain_seconds,
        window=part.window,
    )


def _shadow(part: ShadowPart) -> Shadow:
    tolerances = tuple(Tolerance(it.path, it.absolute, it.relative) for it in part.tolerances)
    return Shadow(part.version, part.percent, tolerances, part.ignore)


def _version(model: str, part: VersionPart, limits: Limits) -> VersionSpec:
    return VersionSpec(
        model=model,
        version=part.version,
        source=Source(part.source.uri, part.source.digest, part.source.credentials),
        workers=part.workers.min,
        batching=Batching(
            _or(part.batching.max_size, limits.batch_size),
            _or(part.batching.max_delay_seconds, limits.max_batch_delay_s),
        ),
        timeouts=Timeouts(
            _or(part.timeouts.response_seconds, limits.response_timeout_s),
            _or(part.timeouts.startup_seconds, limits.startup_timeout_s),
        ),
        env=part.env,
        warmup=tuple(WarmupRequest(it.body, it.content_type, it.repeat) for it in part.warmup),
        queue_size=limits.job_queue_size,
        max_workers=part.workers.max,
        weight=part.weight,
        worker_memory_bytes=part.workers.memory_bytes,
    )


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value


def _contradictions(part: DocumentPart) -> tuple[FieldProblem, ...]:
    found = list(_repeated([model.name for model in part.models], "models", "name"))
    for i, model in enumerate(part.models):
        versions = [version.version for version in model.versions]
        if not versions:
            # Said here: pydantic would also count an item that is wrong in itself as missing.
            found.append(FieldProblem(f"models[{i}].versions", "needs at least one version"))
        elif model.default is not None and model.default not in versions:
            message = f"{model.default!r} is none of the versions: {', '.join(versions)}"
            found.append(FieldProblem(f"models[{i}].default", message))
        found.extend(_repeated(versions, f"models[{i}].versions", "version"))
        found.extend(_contradictions_in_traffic(model, f"models[{i}]"))
    return tuple(found)


def _contradictions_in_traffic(model: ModelPart, path: str) -> Iterator[FieldProblem]:
    versions = [version.version for version in model.versions]
    others = sum(it.weight for it in model.versions if it.version != model.default)
    if others > ALL:
        message = f"the weights beside the default's add up to {others}: at most 100"
        yield FieldProblem(f"{path}.versions", message)
    if model.sticky is not None and (model.sticky.header is None) == (model.sticky.cookie is None):
        yield FieldProblem(f"{path}.sticky", "needs header or cookie, one of the two")
    if model.shadow is not None and model.shadow.version not in versions:
        message = f"{model.shadow.version!r} is none of the versions: {', '.join(versions)}"
        yield FieldProblem(f"{path}.shadow.version", message)
    if model.shadow is not None and model.shadow.version == model.default:
        yield FieldProblem(f"{path}.shadow.version", "is the default: a shadow is another version")
    for j, version in enumerate(model.versions):
        if version.workers.max is not None and version.workers.max < version.workers.min:
            yield FieldProblem(f"{path}.versions[{j}].workers.max", "must not be less than min")


def _repeated(names: list[str], path: str, field: str) -> Iterator[FieldProblem]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield FieldProblem(f"{path}[{i}].{field}", f"{name!r} is there already")


def _problem(found: ErrorDetails) -> FieldProblem:
    loc = found["loc"]
    message = found["msg"]
    if found["type"] == "extra_forbidden":
        message = f"unknown field{_suggestion(str(loc[-1]), _fields_at(loc[:-1]))}"
    elif found["type"] == "missing":
        message = "is missing"
    elif pattern := found.get("ctx", {}).get("pattern"):
        message = f"must match {pattern}"
    return FieldProblem(_path(loc), message)


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for step in loc:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'; did you mean "{near[0]}"?' if near else f"; known are: {', '.join(known)}"


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    """Return the names of the fields that the object at `loc` may have."""
    part: type[_Part] = DocumentPart
    for step in loc:
        fields = {it.alias: it.annotation for it in part.model_fields.values()}
        if isinstance(step, str) and step in fields:
            part = _part_in(fields[step]) or part
    return [field.alias or name for name, field in part.model_fields.items()]


def _part_in(annotation: object) -> type[_Part] | None:
    if isinstance(annotation, type) and issubclass(annotation, _Part):
        return annotation
    return next((part for it in get_args(annotation) if (part := _part_in(it))), None)
