"""Errors as gRPC says them: TorchServe's status codes, and its details of a text and a type.

The types are named as TorchServe's are: clients of its gRPC ports look for them in the details.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from grpc import StatusCode

from flambeau_runtime.api.problems import describe
from flambeau_runtime.errors import (
    DeadlineExceeded,
    ModelNotFound,
    RuntimeFault,
    Unauthorised,
    VersionNotFound,
)

CODES: Mapping[int, StatusCode] = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    409: StatusCode.ABORTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    416: StatusCode.OUT_OF_RANGE,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    501: StatusCode.UNIMPLEMENTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}

HTTP = "org.pytorch.serve.http"
MODEL = "org.pytorch.serve.archive.model"
INTERNAL = f"{HTTP}.InternalServerException"
INTERNAL_AT_THE_DOOR = "InternalServerException.()"
BAD_REQUEST_AT_THE_DOOR = "BadRequestException.()"
NOT_FOUND: Mapping[type[RuntimeFault], str] = {
    ModelNotFound: f"{MODEL}.ModelNotFoundException",
    VersionNotFound: f"{MODEL}.ModelVersionNotFoundException",
}

LONGEST_DETAILS = 6_000
"""Clients refuse trailers of more than 8 KiB, with an error that says nothing of ours."""


class Refused(Exception):
    """A call that ends without an answer.

    Attributes:
        code: what gRPC calls it.
        message: why.
        kind: the type of error behind the message, "" for none.
    """

    def __init__(self, code: StatusCode, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.kind = kind

    @property
    def details(self) -> str:
        """Return what the client reads, short enough to arrive."""
        return f"{_cut(self.message)}\n{self.kind}" if self.kind else _cut(self.message)


def _cut(text: str) -> str:
    """Cut a text to what it may have on the wire, where gRPC writes it percent-encoded."""
    while len(quote(text)) > LONGEST_DETAILS:
        text = text[: len(text) * LONGEST_DETAILS // len(quote(text)) - 1] + "…"
    return text


def code_of(status: int) -> StatusCode:
    """Return what gRPC calls an HTTP status."""
    if status in CODES:
        return CODES[status]
    if 400 <= status <= 499:  # noqa: PLR2004  HTTP's own bounds
        return StatusCode.FAILED_PRECONDITION
    if 500 <= status <= 599:  # noqa: PLR2004
        return StatusCode.INTERNAL
    return StatusCode.UNKNOWN


def at_the_door(fault: RuntimeFault) -> Refused:
    """Return how TorchServe refuses a prediction before a worker has it: nearly all is INTERNAL."""
    if isinstance(fault, Unauthorised):
        return Refused(StatusCode.PERMISSION_DENIED, str(fault))
    return Refused(
        StatusCode.INTERNAL, str(fault), NOT_FOUND.get(type(fault), INTERNAL_AT_THE_DOOR)
    )


def not_there(fault: RuntimeFault) -> Refused:
    """Return how TorchServe answers questions about a model that it does not have."""
    return Refused(StatusCode.NOT_FOUND, str(fault), NOT_FOUND.get(type(fault), INTERNAL))


def missing(parameter: str) -> Refused:
    """Return how TorchServe refuses a call that names no model."""
    message = f"Parameter {parameter} is required."
    return Refused(StatusCode.INTERNAL, message, BAD_REQUEST_AT_THE_DOOR)


def from_worker(fault: RuntimeFault, *, asked_for: bool = False) -> Refused:
    """Return why a job has no prediction.

    Args:
        fault: how the job ended.
        asked_for: whether the deadline that may have passed was the client's own.
    """
    if asked_for and isinstance(fault, DeadlineExceeded):
        return Refused(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    problem = describe(fault)
    return Refused(code_of(problem.status), problem.message, INTERNAL)
