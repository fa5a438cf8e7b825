"""The runtime's one tree of errors. Facts are attributes; HTTP codes are in `api/problems.py`.

RuntimeFault
├── ModelNotFound            no model of that name
├── VersionNotFound          the model exists, that version does not
├── ModelNotReady            it exists, but nothing can serve it now
│   ├── NoWorker             it has no worker, and will get none by itself
│   │   └── NoWorkerToDescribe  its handler shall describe itself, and no worker is there to ask
│   └── NotTaken             the model takes no more than it can serve now, by its own wish
│       ├── NoTicket         no worker is idle, and it takes requests only then
│       └── SequenceRefused  there are too many sequences, or too many jobs of one
├── QueueFull                the job queue of the model is full
├── DeadlineExceeded         nobody answered before the job's deadline
├── PayloadTooLarge          a body beyond the limit
│   └── DocumentTooLarge     a /state document beyond its own
├── BadRequest               the request itself cannot be understood
├── PredictionFailed         the handler raised, or broke its contract
│   ├── OutOfMemory          the handler ran out of host or device memory
│   └── HandlerRefused       the handler raised PredictionException with a code of its own
├── WorkerLost               the worker process ended, or its stream made no sense
├── LoadFailed               a version could not be fetched, verified or loaded
├── ArchiveInvalid           an archive or its manifest is broken or dangerous
│   └── DigestMismatch       the content has another sha256 than was asked for
├── RequirementsFailed       what an archive requires cannot be installed
├── SourceUnavailable        the archive could not be read from where it is said to be
│   ├── SourceNotFound       nothing is there, or it is a place that may not be read
│   └── CredentialsMissing   the credentials that it names are not there
├── VersionExists            that version is registered already
├── DefaultVersionProtected  the default version cannot be removed while others exist
├── InvalidDocument          a /state document with wrong fields
├── StaleDocument            a /state document refused by the fence
├── Unauthorised             missing, wrong, expired or foreign credentials
│   └── InvalidKey           a key of the key file is missing, wrong or expired (TorchServe's 400)
├── ManagedElsewhere         a writing verb on a runtime that a ModelDeployment owns
└── InvalidSettings          a flag, a key or a variable with an impossible value
"""

from __future__ import annotations

from dataclasses import dataclass


class RuntimeFault(Exception):
    """Anything the runtime knows can go wrong."""


class ModelNotFound(RuntimeFault):
    """No model of that name is registered."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Model not found: {model}")
        self.model = model


class VersionNotFound(RuntimeFault):
    """The model is registered, but not in that version."""

    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"Model version: {version} does not exist for model: {model}")
        self.model = model
        self.version = version


class ModelNotReady(RuntimeFault):
    """The version exists, but no worker can serve it now or soon."""

    def __init__(self, model: str, version: str, why: str) -> None:
        super().__init__(f'Model "{model}" [Version {version}] {why}')
        self.model = model
        self.version = version
        self.why = why


NO_WORKER = (
    "has no worker to serve inference request. Please use scale workers API to add workers. If "
    "this is a sequence inference, please check if it is closed, or expired; or exceeds "
    "maxSequenceJobQueueSize"
)
"""TorchServe's one sentence for everything that keeps a request out of the queue."""


class NoWorker(ModelNotReady):
    """No worker is wanted for the version, or all of them failed for good."""

    def __init__(self, model: str, version: str, why: str = NO_WORKER) -> None:
        super().__init__(model, version, why)
        self.args = (f'Model "{model}" {why}',)  # TorchServe's sentence names no version


class NoWorkerToDescribe(NoWorker):
    """The handler shall describe itself, and no worker is there to ask it."""

    def __init__(self, model: str, version: str) -> None:
        super().__init__(
            model,
            version,
            "has no worker to serve describe request. Please use scale workers API to add workers.",
        )


class NotTaken(ModelNotReady):
    """The model takes no more requests than it can serve now, by its own wish."""

    def __init__(self, model: str, version: str) -> None:
        super().__init__(model, version, NO_WORKER)
        self.args = (f'Model "{model}" {NO_WORKER}',)  # TorchServe's sentence names no version


class NoTicket(NotTaken):
    """No worker is idle, and the model says `useJobTicket`."""


class SequenceRefused(NotTaken):
    """There are `maxNumSequence` sequences, or `maxSequenceJobQueueSize` jobs wait in this one."""


class QueueFull(RuntimeFault):
    """The job queue of the version has no room."""

    def __init__(self, model: str, version: str, size: int, retry_after_s: int = 1) -> None:
        super().__init__(
            f'Model "{model}" [Version {version}] has a full job queue ({size} jobs); retry later '
            "or raise job_queue_size or the number of workers."
        )
        self.model = model
        self.version = version
        self.size = size
        self.retry_after_s = retry_after_s


class DeadlineExceeded(RuntimeFault):
    """Nobody answered before the job's deadline."""

    def __init__(self, model: str, timeout_s: float) -> None:
        super().__init__(f"Worker died. Model {model} gave no answer within {timeout_s:g} s.")
        self.model = model
        self.timeout_s = timeout_s


class PayloadTooLarge(RuntimeFault):
    """A body is larger than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than max_request_size ({limit} bytes); "
            "send less, or raise it."
        )
        self.limit = limit


class DocumentTooLarge(PayloadTooLarge):
    """A /state document is larger than any may be."""

    def __init__(self, limit: int) -> None:
        RuntimeFault.__init__(self, f"a document has at most {limit} bytes")
        self.limit = limit


class BadRequest(RuntimeFault):
    """The request cannot be understood."""


class PredictionFailed(RuntimeFault):
    """The handler raised, or broke its contract; the message names the last exception."""


class OutOfMemory(PredictionFailed):
    """The handler ran out of host or device memory."""


class HandlerRefused(PredictionFailed):
    """The handler raised PredictionException with a status of its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class WorkerLost(RuntimeFault):
    """The worker process ended, or what came out of its socket made no sense."""


class LoadFailed(RuntimeFault):
    """A version could not be fetched, verified or loaded.

    `reason` is one CamelCase word that ends up in conditions: FetchFailed, ArchiveInvalid,
    DigestMismatch, CredentialsMissing, RequirementsFailed, NotEnoughDevices, HandlerImportFailed,
    InitializeFailed, WorkerDied, StartupTimeout, WarmupFailed.
    """

    def __init__(self, reason: str, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.log_tail = log_tail


class ArchiveInvalid(RuntimeFault):
    """An archive or its manifest is broken or dangerous."""


class DigestMismatch(ArchiveInvalid):
    """The content has another sha256 than was asked for."""

    def __init__(self, uri: str, wanted: str, found: str) -> None:
        super().__init__(f"{uri}: wanted digest {wanted}, found {found}")
        self.uri = uri
        self.wanted = wanted
        self.found = found


class RequirementsFailed(RuntimeFault):
    """What an archive requires cannot be installed; `log_tail` is the installer's last words."""

    def __init__(self, model: str, log_tail: str) -> None:
        super().__init__(
            f"Custom pip package installation failed for model {model}"
            f"{': ' if log_tail else ''}{log_tail}"
        )
        self.model = model
        self.log_tail = log_tail


class SourceUnavailable(RuntimeFault):
    """The archive could not be read from where it is said to be."""


class SourceNotFound(SourceUnavailable):
    """Nothing is there, or it is a place that may not be read: asking again does not help."""


class CredentialsMissing(SourceUnavailable):
    """The credentials that a source names are not there, or make no sense."""

    def __init__(self, name: str, why: str = "") -> None:
        super().__init__(f"credentials {name}: {why}" if why else name)
        self.name = name


class VersionExists(RuntimeFault):
    """That version is registered already."""

    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"Model version {version} is already registered for model {model}")
        self.model = model
        self.version = version


class DefaultVersionProtected(RuntimeFault):
    """The default version cannot be removed while others exist."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Cannot remove default version for model {model}")
        self.model = model


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field: its path, and what to do about it."""

    path: str
    message: str


class InvalidDocument(RuntimeFault):
    """A /state document has wrong fields; nothing was changed."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__(
            "; ".join(f"{it.path}: {it.message}" if it.path else it.message for it in problems)
        )
        self.problems = problems


class StaleDocument(RuntimeFault):
    """A /state document was refused by the fence: another owner, or not a newer sequence."""

    def __init__(self, message: str, uid: str, sequence: int) -> None:
        super().__init__(message)
        self.uid = uid
        self.sequence = sequence


class Unauthorised(RuntimeFault):
    """Credentials are missing, wrong, expired, or meant for somebody else."""


class InvalidKey(Unauthorised):
    """A key of the key file is missing, wrong or expired."""


class ManagedElsewhere(RuntimeFault):
    """A writing verb was used on a runtime that a ModelDeployment owns."""

    def __init__(self, namespace: str, name: str) -> None:
        super().__init__(
            f"This runtime is managed by ModelDeployment {namespace}/{name}: edit that instead."
        )
        self.namespace = namespace
        self.name = name


class InvalidSettings(RuntimeFault):
    """A flag, a key of config.properties or a variable has an impossible value."""
