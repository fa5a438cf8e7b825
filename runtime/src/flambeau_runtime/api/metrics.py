"""The metrics page: TorchServe's names and the guide's, made of numbers when somebody scrapes."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from flambeau_runtime.api import asgi
from flambeau_runtime.metric_families import (
    BUCKETS,
    FRONT_FAMILIES,
    Labels as Stored,
    Series,
    named,
)
from flambeau_runtime.recorder import PREDICTION_TIME, Recorder
from flambeau_runtime.settings import Family
from flambeau_runtime.telemetry import CopyFacts, HistogramFacts, Telemetry, VersionMetrics

Labels = dict[str, str]


class RuntimeCollector:
    """Everything this process knows, as metric families; registered on the registry it is given.

    Args:
        telemetry: what is counted.
        recorder: what a metrics file or a log mode made of TorchServe's families; None: they are
            built in and read from the telemetry's sums.
    """

    def __init__(self, telemetry: Telemetry, recorder: Recorder | None = None) -> None:
        self._telemetry = telemetry
        self._recorder = recorder
        self._hostname = socket.gethostname()
        self._known = {family.name: family for family in FRONT_FAMILIES}

    def collect(self) -> Iterator[Metric]:
        """Yield every family; belongs to the loop's thread, like everything it reads."""
        versions = tuple(self._telemetry.versions())
        if self._recorder is None:
            yield from self._torchserves(versions)
        else:
            yield from map(_declared, self._recorder.families())
        yield from self._ours(versions)
        for family, series in self._telemetry.handler_store.collect():
            yield _declared((family, series), self._hostname)

    def _torchserves(self, versions: Sequence[VersionMetrics]) -> Iterator[Metric]:
        telemetry = self._telemetry
        asked = [it for it in telemetry.asked.values() if it.requests]
        labels = [(it.model, it.version, self._hostname) for it in asked]
        for name, values in (
            ("ts_inference_requests_total", [float(it.requests) for it in asked]),
            ("ts_inference_latency_microseconds", [it.latency_ms * 1_000 for it in asked]),
            ("ts_queue_latency_microseconds", [it.queue_ms * 1_000 for it in asked]),
        ):
            yield self._family(name, labels, values)
        host = ("Host", self._hostname)
        for hundreds in (2, 4, 5):
            name = f"Requests{hundreds}XX"
            yield self._family(name, [host], [telemetry.responses[hundreds]])
        waits = [version.queue_wait_ms for version in versions]
        yield self._family("QueueTime", [host], [max(waits, default=0.0)])
        yield self._family("WorkerThreadTime", [host], [self._thread_ms(versions)])
        yield self._family(
            "WorkerLoadTime",
            [(worker, *host) for worker in telemetry.worker_load_ms],
            list(telemetry.worker_load_ms.values()),
        )

    def _thread_ms(self, versions: Sequence[VersionMetrics]) -> float:
        """Return how long a batch lately took beside its handler, in whole milliseconds."""
        handlers = {
            dict(labels).get("ModelName"): series.value
            for family, found in self._telemetry.handler_store.collect()
            if family.name == PREDICTION_TIME
            for labels, series in found
        }
        between = [it.batch_ms - handlers.get(it.model, it.batch_ms) for it in versions]
        return float(round(max(between, default=0.0)))

    def _family(
        self, name: str, labels: Sequence[Sequence[str]], values: Sequence[float]
    ) -> Metric:
        family = self._known[name]
        metric = _empty(family)
        for texts, value in zip(labels, values, strict=True):
            metric.add_sample(name, dict(named(family, texts)), value)
        return metric

    def _ours(self, versions: Sequence[VersionMetrics]) -> Iterator[Metric]:
        latency = Metric(
            "ts_inference_latency_ms", "From the request's end to its answer, in ms.", "histogram"
        )
        queue = Metric("ts_queue_latency_ms", "Wait in the queue, in ms.", "histogram")
        errors = Metric("ts_inference_errors_total", "Requests that the model failed.", "counter")
        workers = Metric("ts_model_workers", "Workers that can take requests now.", "gauge")
        for version in versions:
            labels = self._labels(version)
            errors.add_sample(errors.name, labels, version.errors)
            workers.add_sample(workers.name, labels, version.workers)
            _add_histogram(latency, labels, version.latency)
            _add_histogram(queue, labels, version.queue)
        yield from (errors, latency, queue, workers, self._weights(versions))
        yield from self._shadows([it for it in versions if it.copies is not None])

    def _weights(self, versions: Sequence[VersionMetrics]) -> Metric:
        words = "Share of the requests that name no version, in percent."
        weights = Metric("flambeau_model_weight", words, "gauge")
        for version in versions:
            weights.add_sample(weights.name, self._labels(version), version.weight)
        return weights

    def _shadows(self, shadows: Sequence[VersionMetrics]) -> Iterator[Metric]:
        for name, words, read in _COPIES:
            family = Metric(name, words, "counter")
            for version in shadows:
                if version.copies is not None:
                    family.add_sample(name, self._labels(version), read(version.copies))
            if shadows:
                yield family
        latency = Metric("flambeau_shadow_latency_ms", "From a copy to its answer.", "histogram")
        for version in shadows:
            if version.copies is not None:
                _add_histogram(latency, self._labels(version), version.copies.latency)
        if shadows:
            yield latency

    def _labels(self, version: VersionMetrics) -> Labels:
        return {
            "model_name": version.model,
            "model_version": version.version,
            "hostname": self._hostname,
        }


_COPIES: Sequence[tuple[str, str, Callable[[CopyFacts], int]]] = (
    ("flambeau_shadow_copies_total", "Copies answered, well or badly.", lambda it: it.answered),
    ("flambeau_shadow_errors_total", "Copies answered badly.", lambda it: it.errors),
    ("flambeau_shadow_dropped_total", "Copies that found no room.", lambda it: it.dropped),
    ("flambeau_shadow_compared_total", "Answers compared.", lambda it: it.compared),
    ("flambeau_shadow_different_total", "Answers that differed.", lambda it: it.different),
)


def _empty(family: Family) -> Metric:
    help_text = f"Torchserve prometheus {family.kind} metric with unit: {family.unit}"
    return Metric(_spelled(family.name), help_text, family.kind)


def _spelled(name: str) -> str:
    """Return a name as Prometheus allows it."""
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
    return f"_{name}" if name[:1].isdigit() else name


def _declared(
    found: tuple[Family, Sequence[tuple[Stored, Series]]], hostname: str | None = None
) -> Metric:
    """Return a family whose series are kept one by one; a handler's get the host's name."""
    family, series = found
    metric = _empty(family)
    for pairs, one in series:
        labels = dict(pairs) if hostname is None else {**dict(pairs), "Hostname": hostname}
        if family.kind == "histogram":
            _add_buckets(metric, labels, BUCKETS, one.counts, one.value)
        else:
            metric.add_sample(metric.name, labels, one.value)
    return metric


def _add_histogram(family: Metric, labels: Labels, facts: HistogramFacts) -> None:
    _add_buckets(family, labels, facts.bounds_ms, facts.counts, facts.sum_ms)


def _add_buckets(
    family: Metric, labels: Labels, bounds: Iterable[float], counts: Iterable[int], total: float
) -> None:
    cumulative = list(accumulate(counts))
    for bound, count in zip([*bounds, float("inf")], cumulative, strict=True):
        family.add_sample(f"{family.name}_bucket", {**labels, "le": _number(bound)}, count)
    family.add_sample(f"{family.name}_count", labels, cumulative[-1])
    family.add_sample(f"{family.name}_sum", labels, total)


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(float(value))


_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def render(families: Iterable[Metric], names: Collection[str] = ()) -> bytes:
    """Return the text format 0.0.4; with `names`, only samples of these names.

    prometheus_client's own writer appends `_total` to the names of counters, which would rename
    TorchServe's.
    """
    lines: list[str] = []
    for family in families:
        samples = [it for it in family.samples if not names or it.name in names]
        if names and not samples:
            continue
        lines.append(f"# HELP {family.name} {family.documentation}")
        lines.append(f"# TYPE {family.name} {family.type}")
        for sample in samples:
            # A comma after the last pair, too, as TorchServe's library writes it.
            pairs = "".join(
                f'{name}="{value.translate(_ESCAPES)}",' for name, value in sample.labels.items()
            )
            lines.append(f"{sample.name}{{{pairs}}} {_number(sample.value)}")
    return "".join(f"{line}\n" for line in lines).encode()


def make_metrics_app(
    registry: CollectorRegistry,
    read_machine: Callable[[], None],
    settle: Callable[[], Awaitable[None]],
) -> asgi.App:
    """Return the application of the metrics port.

    Args:
        registry: what is shown is registered there.
        read_machine: called in a thread before every scrape, as it may take a while.
        settle: has workers say what they have measured, so that a scrape shows what is answered.
    """

    async def metrics(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:  # noqa: ARG001  ASGI's signature
        if scope["path"].rstrip("/") != "/metrics":
            await asgi.not_found(send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await asgi.not_allowed(send)
        else:
            names = parse_qs(scope["query_string"].decode("latin-1")).get("name[]", ())
            await asyncio.to_thread(read_machine)
            await settle()
            page = render(registry.collect(), frozenset(names))
            await asgi.answer(send, 200, page, CONTENT_TYPE_PLAIN_0_0_4)

    return metrics
