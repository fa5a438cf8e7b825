"""The metrics page: TorchServe's names and the guide's, made of numbers when somebody scrapes."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from flambeau_runtime.api import asgi
from flambeau_runtime.telemetry import (
    HANDLER_BUCKETS,
    HandlerMetric,
    HistogramFacts,
    Telemetry,
    VersionMetrics,
)

Labels = dict[str, str]


class RuntimeCollector:
    """Everything this process knows, as metric families; registered on the registry it is given."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._hostname = socket.gethostname()

    def collect(self) -> Iterator[Metric]:
        """Yield every family; belongs to the loop's thread, like everything it reads."""
        versions = tuple(self._telemetry.versions())
        yield from self._serving(versions)
        yield from self._host(versions)
        yield from _handler_families(self._telemetry.handler_metrics(), self._hostname)

    def _serving(self, versions: Sequence[VersionMetrics]) -> Iterator[Metric]:
        of_all = [(self._labels(version), version) for version in versions]
        requests = Metric("ts_inference_requests_total", "Answered requests.", "counter")
        latency = Metric(
            "ts_inference_latency_microseconds", "All latencies together, in µs.", "counter"
        )
        queue = Metric(
            "ts_queue_latency_microseconds", "All waits in the queue together, in µs.", "counter"
        )
        latency_ms = Metric(
            "ts_inference_latency_ms", "From the request's end to its answer, in ms.", "histogram"
        )
        queue_ms = Metric("ts_queue_latency_ms", "Wait in the queue, in ms.", "histogram")
        errors = Metric("ts_inference_errors_total", "Requests that the model failed.", "counter")
        workers = Metric("ts_model_workers", "Workers that can take requests now.", "gauge")
        for labels, version in of_all:
            requests.add_sample(requests.name, labels, version.requests)
            errors.add_sample(errors.name, labels, version.errors)
            latency.add_sample(latency.name, labels, version.latency_us)
            queue.add_sample(queue.name, labels, version.queue_us)
            workers.add_sample(workers.name, labels, version.workers)
            _add_histogram(latency_ms, labels, version.latency)
            _add_histogram(queue_ms, labels, version.queue)
        yield from (requests, errors, latency, queue, latency_ms, queue_ms, workers)

    def _labels(self, version: VersionMetrics) -> Labels:
        return {
            "model_name": version.model,
            "model_version": version.version,
            "hostname": self._hostname,
        }

    def _host(self, versions: Sequence[VersionMetrics]) -> Iterator[Metric]:
        telemetry = self._telemetry
        host = {"Level": "Host", "Hostname": self._hostname}
        for hundreds in (2, 4, 5):
            name = f"Requests{hundreds}XX"
            yield _single(
                name,
                f"Answers with a status of {hundreds}xx.",
                "counter",
                host,
                telemetry.responses[hundreds],
            )
        waits = [version.queue_wait_ms for version in versions]
        yield _single(
            "QueueTime",
            "Wait of the oldest request in any queue, in ms.",
            "gauge",
            host,
            max(waits, default=0.0),
        )
        loading = Metric("WorkerLoadTime", "Time a worker took to load, in ms.", "gauge")
        for worker, milliseconds in telemetry.worker_load_ms.items():
            loading.add_sample(loading.name, {"WorkerName": worker, **host}, milliseconds)
        yield loading


def _single(name: str, help_text: str, kind: str, labels: Labels, value: float) -> Metric:
    family = Metric(name, help_text, kind)
    family.add_sample(name, labels, value)
    return family


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


def _handler_families(series: Iterable[HandlerMetric], hostname: str) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for one in series:
        name = re.sub(r"[^a-zA-Z0-9_:]", "_", one.name)
        name = f"_{name}" if name[:1].isdigit() else name
        family = families.get(name)
        if family is None:
            family = families[name] = Metric(
                name, f"Measured by handlers, in {one.unit}.", one.kind
            )
        if family.type != one.kind:
            continue  # two handlers disagree about one name: the first one counts
        labels = {**one.labels, "Hostname": hostname}
        if one.kind == "histogram":
            _add_buckets(family, labels, HANDLER_BUCKETS, one.counts, one.value)
        else:
            family.add_sample(name, labels, one.value)
    yield from families.values()


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
            pairs = ",".join(
                f'{name}="{value.translate(_ESCAPES)}"' for name, value in sample.labels.items()
            )
            lines.append(f"{sample.name}{{{pairs}}} {_number(sample.value)}")
    return "".join(f"{line}\n" for line in lines).encode()


def make_metrics_app(registry: CollectorRegistry, read_machine: Callable[[], None]) -> asgi.App:
    """Return the application of the metrics port.

    Args:
        registry: what is shown is registered there.
        read_machine: called in a thread before every scrape, as it may take a while.
    """

    async def metrics(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:  # noqa: ARG001  ASGI's signature
        if scope["path"].rstrip("/") != "/metrics":
            await asgi.not_found(send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await asgi.not_allowed(send)
        else:
            names = parse_qs(scope["query_string"].decode("latin-1")).get("name[]", ())
            await asyncio.to_thread(read_machine)
            page = render(registry.collect(), frozenset(names))
            await asgi.answer(send, 200, page, CONTENT_TYPE_PLAIN_0_0_4)

    return metrics
