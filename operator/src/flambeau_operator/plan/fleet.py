"""Readings of the pods that belong to one ModelDeployment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flambeau_operator.resources.observed import PodFacts, Snapshot
from flambeau_operator.resources.pod_state import (
    Document,
    PodState,
    VersionEntry,
    VersionPhase,
    VersionState,
)

SILENT_PASSES = 3  # in a row, before silence means more than a lost packet
STARTING_S = 30.0  # a pod this young may not have opened its port yet


@dataclass(frozen=True, slots=True)
class Reporter:
    """A pod that runs, stays, and told its state."""

    facts: PodFacts
    state: PodState
    desired: Document | None  # the document it last took from this ModelDeployment

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.facts.name

    def asked(self, model: str, entry: VersionEntry) -> VersionEntry | None:
        """Return the entry of its document for the same version from the same source."""
        wanted = self.desired.model(model) if self.desired else None
        held = wanted.version(entry.version) if wanted else None
        return held if held and held.source == entry.source else None

    def seen(self, model: str, version: str) -> VersionState | None:
        """Return how far it has come with a version, if it knows it at all."""
        return self.state.version(model, version)

    def serves(self, model: str, entry: VersionEntry) -> bool:
        """Tell whether it was asked for this version, and has it ready and warm."""
        seen = self.seen(model, entry.version)
        ready = seen is not None and seen.phase is VersionPhase.READY
        return ready and self.asked(model, entry) is not None

    def failed(self, model: str, entry: VersionEntry) -> bool:
        """Tell whether it was asked for this version, and has given up on it."""
        seen = self.seen(model, entry.version)
        given_up = seen is not None and seen.phase is VersionPhase.FAILED
        return given_up and self.asked(model, entry) is not None

    def default(self, model: str) -> str | None:
        """Return the version that answers requests which name none."""
        return next((each.default for each in self.state.models if each.name == model), None)

    def versions(self, model: str) -> frozenset[str]:
        """Return every version it still has something of."""
        found = next((each for each in self.state.models if each.name == model), None)
        return frozenset(each.version for each in found.versions) if found else frozenset()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The pods of one ModelDeployment, by name."""

    pods: tuple[PodFacts, ...]  # ours, those that leave included
    present: tuple[PodFacts, ...]  # running, and asked neither to stop nor to drain
    reporters: tuple[Reporter, ...]
    silent: tuple[PodFacts, ...]  # present, but their management API said nothing
    gone_silent: tuple[PodFacts, ...]  # those of them that are not just starting
    replaced: tuple[PodFacts, ...]  # present, but of an older template: they leave soon

    @property
    def unreachable(self) -> bool:
        """Whether pods run and not one of them answers."""
        return bool(self.present) and not self.reporters

    @property
    def settled(self) -> bool:
        """Whether every present pod answers and is of the template of today."""
        return bool(self.present) and not self.silent and not self.replaced

    @property
    def highest_sequence(self) -> int:
        """The highest sequence that any pod reports."""
        return max((each.desired.sequence for each in self.reporters if each.desired), default=0)


def read_fleet(snapshot: Snapshot, owner_uid: str, template_hash: str, now: datetime) -> Fleet:
    """Pick out the pods of this very object (not of a namesake that was deleted) and sort them."""
    pods = tuple(
        sorted((p for p in snapshot.pods if p.owner_uid == owner_uid), key=lambda p: p.name)
    )
    present = tuple(p for p in pods if p.running and not p.terminating and not _draining(p))
    reporters = tuple(
        Reporter(p, p.state, _own(p.state.desired, owner_uid)) for p in present if p.state
    )
    silent = tuple(p for p in present if p.state is None)
    return Fleet(
        pods=pods,
        present=present,
        reporters=reporters,
        silent=silent,
        gone_silent=tuple(p for p in silent if _gone_silent(p, now)),
        replaced=tuple(p for p in present if p.template_hash != template_hash),
    )


def _gone_silent(pod: PodFacts, now: datetime) -> bool:
    starting = pod.started_at is not None and (now - pod.started_at).total_seconds() < STARTING_S
    return pod.silent_passes >= SILENT_PASSES and not starting


def _draining(pod: PodFacts) -> bool:
    return pod.state is not None and pod.state.draining


def _own(document: Document | None, owner_uid: str) -> Document | None:
    return document if document and document.owner.uid == owner_uid else None
