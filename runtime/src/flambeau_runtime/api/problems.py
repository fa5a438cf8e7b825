"""The only table from errors to HTTP, and the body that every error has: code, type, message.

Statuses and type names are TorchServe's where it has the situation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flambeau_runtime.errors import (
    ArchiveInvalid,
    BadRequest,
    DeadlineExceeded,
    DefaultVersionProtected,
    HandlerRefused,
    InvalidDocument,
    InvalidKey,
    InvalidSettings,
    LoadFailed,
    ManagedElsewhere,
    ModelNotFound,
    ModelNotReady,
    OutOfMemory,
    PayloadTooLarge,
    PredictionFailed,
    QueueFull,
    RequirementsFailed,
    RuntimeFault,
    SourceNotFound,
    SourceUnavailable,
    StaleDocument,
    Unauthorised,
    VersionExists,
    VersionNotFound,
    WorkerLost,
)

STATUS: Mapping[type[BaseException], tuple[int, str]] = {
    ModelNotFound: (404, "ModelNotFoundException"),
    VersionNotFound: (404, "ModelVersionNotFoundException"),
    ModelNotReady: (503, "ServiceUnavailableException"),
    QueueFull: (503, "ServiceUnavailableException"),
    DeadlineExceeded: (500, "InternalServerException"),  # 504 under /v2: in_open_inference
    PayloadTooLarge: (413, "RequestEntityTooLargeException"),
    BadRequest: (400, "BadRequestException"),
    PredictionFailed: (503, "InternalServerException"),
    OutOfMemory: (507, "InternalServerException"),
    WorkerLost: (500, "InternalServerException"),
    LoadFailed: (500, "InternalServerException"),
    ArchiveInvalid: (400, "InvalidModelException"),
    RequirementsFailed: (400, "ModelException"),
    SourceNotFound: (404, "ModelNotFoundException"),
    SourceUnavailable: (400, "DownloadArchiveException"),
    VersionExists: (409, "ConflictStatusException"),
    DefaultVersionProtected: (403, "InvalidModelVersionException"),
    InvalidDocument: (422, "InvalidDocument"),
    StaleDocument: (409, "StaleDocument"),
    Unauthorised: (401, "Unauthorised"),
    InvalidKey: (400, "InvalidKeyException"),
    ManagedElsewhere: (409, "ManagedElsewhere"),
    InvalidSettings: (400, "BadRequestException"),
    RuntimeFault: (500, "InternalServerException"),
    Exception: (500, "InternalServerException"),
}

RETRY_LATER_S = 1
GATEWAY_TIMEOUT = 504


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as HTTP says it."""

    status: int
    type: str
    message: str
    retry_after_s: int | None = None
    open_inference: bool = False

    def body(self) -> bytes:
        """Return the JSON body, printed as TorchServe prints it: two spaces, a final newline."""
        said = {"code": self.status, "type": self.type, "message": self.message}
        if self.open_inference:
            # What a client of the Open Inference Protocol looks for; others see no difference.
            said["error"] = self.message
        return pretty(said)


def final_status(status: int) -> int:
    """Return a status that ends a message: what a handler made up becomes 500."""
    return status if 200 <= status <= 599 else 500  # noqa: PLR2004  HTTP's own bounds


def pretty(value: object) -> bytes:
    """Return JSON as TorchServe prints it: two spaces, UTF-8 unescaped, a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def in_open_inference(problem: Problem, error: BaseException) -> Problem:
    """Return the same as the Open Inference Protocol says it: 504 for what took too long."""
    status = GATEWAY_TIMEOUT if isinstance(error, DeadlineExceeded) else problem.status
    return replace(problem, status=status, open_inference=True)


def problem_body(status: int, kind: str, message: str) -> bytes:
    """Return the body of an error."""
    return pretty({"code": status, "type": kind, "message": message})


def describe(error: BaseException) -> Problem:
    """Return how HTTP says this error; a new subclass is answered like its nearest known parent."""
    status, kind = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    if isinstance(error, HandlerRefused):
        status = final_status(error.status)
    if not isinstance(error, RuntimeFault):
        # What nobody foresaw is for the log, not for whoever asked.
        return Problem(status, kind, "Internal server error.")
    retry_after_s = None
    if isinstance(error, QueueFull):
        retry_after_s = error.retry_after_s
    elif isinstance(error, ModelNotReady):
        retry_after_s = RETRY_LATER_S
    return Problem(status, kind, str(error), retry_after_s)
