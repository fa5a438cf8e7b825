"""What went wrong with a version, as one word, the real message and the worker's last lines."""

from __future__ import annotations

from flambeau_runtime.errors import (
    ArchiveInvalid,
    CredentialsMissing,
    DigestMismatch,
    LoadFailed,
    RequirementsFailed,
    RuntimeFault,
    SourceUnavailable,
)
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.observed import Failure

LOG_TAIL_CHARACTERS = 2048

REASONS: tuple[tuple[type[RuntimeFault], str], ...] = (
    (DigestMismatch, "DigestMismatch"),
    (ArchiveInvalid, "ArchiveInvalid"),
    (CredentialsMissing, "CredentialsMissing"),
    (SourceUnavailable, "FetchFailed"),
    (RequirementsFailed, "RequirementsFailed"),
)
"""The first that fits; LoadFailed brings its own."""


def failure_of(error: Exception, live: LiveVersion | None, attempts: int) -> Failure:
    """Return what to tell of an error; without lines of its own it gets those of the workers."""
    tail = error.log_tail if isinstance(error, LoadFailed | RequirementsFailed) else ""
    if not tail and live is not None:
        tail = live.log_tail()
    message = str(error) or type(error).__name__
    return Failure(_reason(error), message, tail[-LOG_TAIL_CHARACTERS:], attempts)


def error_of(failure: Failure | None) -> LoadFailed:
    """Return the error that says the same; None: the workers are gone and left no word."""
    if failure is None:
        return LoadFailed("WorkerDied", "the workers are gone")
    return LoadFailed(failure.reason, failure.message, failure.log_tail)


def _reason(error: Exception) -> str:
    if isinstance(error, LoadFailed):
        return error.reason
    return next((word for kind, word in REASONS if isinstance(error, kind)), "InternalError")
