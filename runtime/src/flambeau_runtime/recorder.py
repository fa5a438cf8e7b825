"""Each single measurement, for whom TorchServe's page of sums is not enough.

There is a Recorder where `metrics_mode` is log or legacy, or where a metrics file says which
families there are: a family may be of another kind there, or be left out. It belongs to the loop's
thread; lines are formatted and written by that of the log.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flambeau_runtime.metric_families import FamilyStore, Labels, Series, named
from flambeau_runtime.settings import Family, MetricsMode

FRONT_LINES = logging.getLogger("flambeau_runtime.ts_metrics")
MODEL_LINES = logging.getLogger("flambeau_runtime.model_metrics")
"""TorchServe's ts_metrics.log and model_metrics.log; `line` is the whole line."""

PREDICTION_TIME = "PredictionTime"


@dataclass(slots=True)
class Asked:
    """What was asked of a model under one label of model_version; it outlives the version."""

    model: str
    version: str
    requests: int = 0
    latency_ms: float = 0.0  # of all together
    queue_ms: float = 0.0


class Recorder:
    """Takes measurements as they happen, to the page or to the log."""

    def __init__(self, families: Iterable[Family], mode: MetricsMode) -> None:
        self.hostname = socket.gethostname()
        self._mode = mode
        self._store = FamilyStore(families, open_to_others=False)
        self._batch_ms: dict[str, float] = {}

    def families(self) -> Iterator[tuple[Family, list[tuple[Labels, Series]]]]:
        """Yield the families that the page shows."""
        for family, series in self._store.collect():
            if self._shown(family.name):
                yield family, series

    def request(self, asked: Asked, latency_ms: float, queue_ms: float) -> None:
        """Take one request that has ended."""
        labels = (asked.model, asked.version, self.hostname)
        self._update("ts_inference_requests_total", 1, labels)
        self._update("ts_inference_latency_microseconds", latency_ms * 1_000, labels)
        self._update("ts_queue_latency_microseconds", queue_ms * 1_000, labels)
        self._update("QueueTime", round(queue_ms), self._host)
        self._batch_ms[asked.model] = latency_ms - queue_ms

    def response(self, status: int) -> None:
        """Take one answer of any port."""
        self._update(f"Requests{status // 100}XX", 1, self._host)

    def loaded(self, worker: str, load_ms: float) -> None:
        """Take one worker that has loaded."""
        self._update("WorkerLoadTime", round(load_ms), (worker, *self._host))

    def machine(self, name: str, value: float, device: str | None = None) -> None:
        """Take one number about the machine, or about one of its devices."""
        level, host = self._host
        labels = self._host if device is None else (level, device, host)
        self._update(name, value, labels)

    def handler(self, family: Family, labels: Labels, value: float, request_id: str) -> bool:
        """Take one measurement of a handler; True when the page shall not show it."""
        if family.name == PREDICTION_TIME:
            between = self._batch_ms.get(dict(labels).get("ModelName", ""), 0.0) - value
            self._update("WorkerThreadTime", max(round(between), 0), self._host)
        if self._mode is MetricsMode.PROMETHEUS:
            return False
        request = request_id or "null"
        MODEL_LINES.info("metric", extra=self._line(family, labels, value, f"requestID:{request},"))
        return True

    @property
    def _host(self) -> tuple[str, str]:
        return "Host", self.hostname

    def _shown(self, name: str) -> bool:
        legacy = self._mode is MetricsMode.LEGACY and name.startswith("ts_")
        return legacy or self._mode is MetricsMode.PROMETHEUS

    def _update(self, name: str, value: float, values: Sequence[str]) -> None:
        family = self._store.family(name)
        if family is None:
            return  # the metrics file leaves it out
        labels = named(family, values)
        if self._shown(name):
            self._store.update(family, labels, value)
        else:
            FRONT_LINES.info("metric", extra=self._line(family, labels[:-1], value))

    def _line(
        self, family: Family, labels: Labels, value: float, request: str = ""
    ) -> dict[str, object]:
        """Return the fields of a line; its time is put behind it by whoever writes it."""
        pairs = ",".join(f"{name}:{text}" for name, text in labels)
        start = f"{family.name}.{family.unit}:{float(value)}|#{pairs}|#hostname:{self.hostname},"
        return {"line": f"{start}{request}timestamp:"}
