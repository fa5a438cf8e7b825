"""The operator as it runs: its process, what it asked of the API server, and what it logged."""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from e2e.flambeau import RELEASE, SYSTEM, Flambeau

from bench.operator_cost.api import Api

ACCOUNT = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
READING = frozenset({"get", "list", "watch"})


@dataclass(frozen=True, slots=True)
class Usage:
    """What its process has taken so far."""

    rss_mb: float  # MB are 10^6 bytes
    peak_mb: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the API server has answered."""

    at: datetime
    verb: str
    resource: str  # with its part, as in modeldeployments/status
    namespace: str
    name: str


class OperatorPod:
    """The one operator of a cluster that we built."""

    def __init__(self, flambeau: Flambeau, api: Api) -> None:
        (pod,) = flambeau.operators()
        self._cluster = flambeau.cluster
        self._api = api
        self.name: str = pod["metadata"]["name"]

    def usage(self) -> Usage:
        """Ask the kernel about the operator's process, the first of its container."""
        files = ["/proc/1/status", "/proc/1/stat"]
        text = self._cluster.run("-n", SYSTEM, "exec", self.name, "--", "cat", *files)
        kib = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE))
        # What follows the name, which is in parentheses: the 14th and 15th field of the line.
        ticks = text.splitlines()[-1].rpartition(")")[2].split()[11:13]
        cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return Usage(int(kib["VmRSS"]) * 1024 / 1e6, int(kib["VmHWM"]) * 1024 / 1e6, cpu_s)

    def metric(self, name: str) -> float:
        """Return a sample of its metrics, labels included in the name; 0 when there is none."""
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{self.name}:8080/proxy/metrics"
        for line in self._api.ask("GET", path).decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return what it has logged of one kind, each with its `time`."""
        return logged(self._cluster.run("-n", SYSTEM, "logs", self.name), event)


def logged(text: str, event: str) -> list[dict[str, Any]]:
    """Return the lines of one event from a log of JSON lines."""
    lines = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("event") == event]


def calls(audit: Path, since: datetime, until: datetime) -> list[Call]:
    """Return what the operator's account asked of the API server in a span of time.

    A watch is in it when it has ended in that span, everything else when it was answered.
    """
    with audit.open() as lines:
        entries = (json.loads(line) for line in lines if ACCOUNT in line)
        found = [
            _call(entry)
            for entry in entries
            if entry["stage"] == "ResponseComplete" and entry["user"]["username"] == ACCOUNT
        ]
    return [call for call in found if since <= call.at <= until]


def by_kind(made: list[Call]) -> Counter[tuple[str, str]]:
    """Count calls by verb and resource."""
    return Counter((call.verb, call.resource) for call in made)


def writes(made: list[Call]) -> Counter[tuple[str, str]]:
    """Count those that change something."""
    return by_kind([call for call in made if call.verb not in READING])


def _call(entry: dict[str, Any]) -> Call:
    what = entry.get("objectRef", {})
    part = what.get("subresource")
    return Call(
        at=datetime.fromisoformat(entry["stageTimestamp"]),
        verb=entry["verb"],
        resource=what.get("resource", entry["requestURI"]) + (f"/{part}" if part else ""),
        namespace=what.get("namespace", ""),
        name=what.get("name", ""),
    )
