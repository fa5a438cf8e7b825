"""What the fetching process is told, and what it tells: one line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flambeau_runtime.errors import (
    ArchiveInvalid,
    CredentialsMissing,
    DigestMismatch,
    RuntimeFault,
    SourceNotFound,
    SourceUnavailable,
)

FAULTS: tuple[type[RuntimeFault], ...] = (
    CredentialsMissing,
    SourceNotFound,
    SourceUnavailable,
    ArchiveInvalid,
)
"""The first that an error is one of is told by name; it takes a message and nothing else."""


@dataclass(frozen=True, slots=True)
class Order:
    """One archive to be fetched."""

    uri: str
    shown: str  # without what is secret in it
    target: str  # where the archive is put; what is incomplete lies beside it
    trees: str  # where a directory of files is put, under a name made of its content
    digest: str | None = None  # what the archive must have, if the source can tell beforehand
    credentials: str | None = None  # a folder with a file for each
    pauses_s: tuple[float, ...] = ()

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "pauses_s": tuple(fields["pauses_s"])})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    have: int
    total: int | None

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps({"have": self.have, "total": self.total})


@dataclass(frozen=True, slots=True)
class Arrived:
    """It is there: an archive, or a directory."""

    path: Path

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps({"arrived": str(self.path)})


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not come."""

    fault: RuntimeFault

    def to_json(self) -> str:
        """Write it as one line."""
        fault = self.fault
        if isinstance(fault, DigestMismatch):
            told = {"uri": fault.uri, "wanted": fault.wanted, "found": fault.found}
            return json.dumps({"mismatch": told})
        kind = next((each for each in FAULTS if isinstance(fault, each)), SourceUnavailable)
        return json.dumps({"fault": kind.__name__, "message": str(fault)})


Event = Progress | Arrived | Failed


def read_event(line: str) -> Event:
    """Read one line of the fetching process.

    Raises:
        ValueError: it is none.
    """
    told: dict[str, Any] = json.loads(line)
    match told:
        case {"have": int(have), "total": total}:
            return Progress(have, total)
        case {"arrived": str(path)}:
            return Arrived(Path(path))
        case {"mismatch": {"uri": uri, "wanted": wanted, "found": found}}:
            return Failed(DigestMismatch(uri, wanted, found))
        case {"fault": str(name), "message": str(message)}:
            kinds = {kind.__name__: kind for kind in FAULTS}
            return Failed(kinds.get(name, SourceUnavailable)(message))
        case _:
            raise ValueError(line)
