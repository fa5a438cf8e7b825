"""The operator's metrics: one object, built on the registry that it is given."""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

PASS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REACTION_S: Final = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)


class Telemetry:
    """What the operator counts and measures.

    Args:
        registry: where the metrics are put; a test brings its own.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        self.passes = Counter(
            "flambeau_reconcile",
            "Passes over a ModelDeployment, by how they ended.",
            ["result"],  # done | failed | gone
            registry=registry,
        )
        self.pass_seconds = Histogram(
            "flambeau_reconcile_duration_seconds",
            "How long passes take.",
            buckets=PASS_S,
            registry=registry,
        )
        self.actions_failed = Counter(
            "flambeau_action_failed",
            "Actions of a pass that did not take effect.",
            ["action"],
            registry=registry,
        )
        self.reaction_seconds = Histogram(
            "flambeau_reaction_seconds",
            "From the news of a changed spec to the first document handed to a pod.",
            buckets=REACTION_S,
            registry=registry,
        )
        self.keys = Gauge(
            "flambeau_queue_keys", "ModelDeployments that are attended to.", registry=registry
        )
        self.due = Gauge(
            "flambeau_queue_due", "ModelDeployments that wait for a pass.", registry=registry
        )
        self.leader = Gauge(
            "flambeau_leader", "1 while this operator holds the Lease.", registry=registry
        )
        self.watch_silence_seconds = Gauge(
            "flambeau_watch_silence_seconds",
            "For how long the least talkative watch has heard nothing, bookmarks included.",
            registry=registry,
        )

    def page(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
