"""What this process counts, as plain numbers; Prometheus sees them when it scrapes.

One `Telemetry` per process, handed to every part. The hot path touches integers only; their names
and shapes for Prometheus are in `api/metrics.py`. Where TorchServe's log mode or a metrics file
asks for each single measurement, a `recorder.Recorder` hears of it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flambeau_runtime.metric_families import (
    FRONT_FAMILIES,
    KINDS,
    MODEL_FAMILIES,
    FamilyStore,
)
from flambeau_runtime.recorder import Asked, Recorder
from flambeau_runtime.settings import Family, MetricsMode, Settings

GRPC = "gRPC"
"""What stands for the method of a call over gRPC; its status is gRPC's number."""

Access = Callable[[str, str, str, int, float], None]
"""peer "ip:port", method, target, status, elapsed milliseconds."""

DEFAULT_VERSION = "default"
"""TorchServe's label for requests that name no version."""


class HistogramFacts(Protocol):
    """A histogram as the hot path keeps it: a count per bound, and one for what is beyond."""

    @property
    def counts(self) -> Sequence[int]:
        """How many observations each bucket has, not cumulative."""

    @property
    def sum_ms(self) -> float:
        """All observations together, in milliseconds."""

    @property
    def bounds_ms(self) -> Sequence[float]:
        """Upper bounds in milliseconds, ascending."""


class CopyFacts(Protocol):
    """What a version did with copies of another version's requests, as its shadow."""

    @property
    def answered(self) -> int:
        """How many it answered, well or badly."""

    @property
    def errors(self) -> int:
        """How many of those badly."""

    @property
    def dropped(self) -> int:
        """How many were never sent, because it had no room."""

    @property
    def compared(self) -> int:
        """How many of its answers were held against the real ones."""

    @property
    def different(self) -> int:
        """How many of those were others."""

    @property
    def latency(self) -> HistogramFacts:
        """From its copy to its answer."""


@dataclass(frozen=True, slots=True)
class VersionMetrics:
    """The numbers of one model version at one moment."""

    model: str
    version: str
    errors: int
    latency: HistogramFacts
    queue: HistogramFacts
    queue_wait_ms: float  # of the oldest job that waits now
    batch_ms: float  # from sending a batch to its answer, lately
    workers: int
    weight: int = 100  # percent of the requests that name no version
    copies: CopyFacts | None = None  # of another version's requests; None: it is no shadow


class Telemetry:
    """Everything counted in this process.

    Attributes:
        responses: answers so far by the hundreds of their status: `responses[status // 100] += 1`.
        access: told of every answer (the access log's `note`), or None where nobody wants to know.
        asked: (model, label of model_version) → what was asked so far.
        worker_load_ms: worker name ("W-9000-m_1.0") to the milliseconds it took to load.
        versions: reads the numbers of all versions; set by the composition root.
        recorder: where each single measurement goes, None where nobody wants them.
    """

    __slots__ = (
        "access",
        "asked",
        "handler_store",
        "handler_updates_refused",
        "recorder",
        "responses",
        "versions",
        "worker_load_ms",
    )

    def __init__(self, handler_store: FamilyStore | None = None) -> None:
        self.responses = [0] * 6
        self.access: Access | None = None
        self.asked: dict[tuple[str, str], Asked] = {}
        self.worker_load_ms: dict[str, float] = {}
        self.versions: Callable[[], Iterable[VersionMetrics]] = tuple
        self.recorder: Recorder | None = None
        self.handler_store = handler_store or FamilyStore(MODEL_FAMILIES)
        self.handler_updates_refused = 0

    def listen(self, access: Access) -> None:
        """Tell one more of every answer."""
        before = self.access
        if before is None:
            self.access = access
            return

        def both(peer: str, method: str, target: str, status: int, elapsed_ms: float) -> None:
            before(peer, method, target, status, elapsed_ms)
            access(peer, method, target, status, elapsed_ms)

        self.access = both

    def asked_of(self, model: str, version: str) -> Asked:
        """Return the account of what is asked of a model under this label."""
        return self.asked.setdefault((model, version), Asked(model, version))

    def worker_loaded(self, worker: str, load_ms: float) -> None:
        """Take note of a worker that has loaded."""
        self.worker_load_ms[worker] = load_ms
        if self.recorder is not None:
            self.recorder.loaded(worker, load_ms)

    def handler_measured(self, measured: Iterable[Mapping[str, Any]]) -> None:
        """Take over what a worker's handler measured.

        Args:
            measured: one {name, unit, type, value, dimensions, requestId} per update; type is
                counter, gauge or histogram, dimensions a list of [name, value].
        """
        for update in measured:
            try:
                self._take(update)
            except (KeyError, TypeError, ValueError):
                # A handler's own numbers are never worth a failed request.
                self.handler_updates_refused += 1

    def _take(self, update: Mapping[str, Any]) -> None:
        labels = tuple((str(name), str(value)) for name, value in update.get("dimensions") or ())
        name, kind, value = str(update["name"]), str(update["type"]), float(update["value"])
        if kind not in KINDS:
            raise ValueError(kind)
        unit = str(update.get("unit", ""))
        found = self.handler_store.admit(Family(name, kind, unit, tuple(key for key, _ in labels)))
        if found is None:
            return  # a metrics file says what is shown, and this is not in it
        if self.recorder is not None:
            request_id = str(update.get("requestId", ""))
            if self.recorder.handler(found, labels, value, request_id):
                return
        if not self.handler_store.update(found, labels, value):
            raise ValueError(name)


def make_telemetry(settings: Settings) -> Telemetry:
    """Return what counts as the settings say."""
    file = settings.metrics_file
    others = file is None if settings.metrics_auto_detect is None else settings.metrics_auto_detect
    families = MODEL_FAMILIES if file is None else file.model
    telemetry = Telemetry(FamilyStore(families, open_to_others=others))
    if file is not None or settings.metrics_mode is not MetricsMode.PROMETHEUS:
        front = FRONT_FAMILIES if file is None else file.front
        recorder = telemetry.recorder = Recorder(front, settings.metrics_mode)

        def note(_: str, method: str, __: str, status: int, ___: float) -> None:
            if method != GRPC:  # TorchServe counts the answers of HTTP alone
                recorder.response(status)

        telemetry.listen(note)
    return telemetry
