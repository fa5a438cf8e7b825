"""The chart as it is used: rendered, installed, upgraded, uninstalled."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.access import Cluster

CHART = Path(__file__).parents[1] / "charts" / "flambeau"
NAMESPACE = "flambeau-system"
RELEASE = "flambeau"
CRD = "modeldeployments.serving.flambeau.dev"

Values = Mapping[str, Any]
Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart, and a cluster for it."""

    cluster: Cluster
    namespace: str = NAMESPACE

    def render(self, values: Values | None = None, *words: str) -> list[Manifest]:
        """Return the objects of `helm template`, without the test's pod."""
        return [each for each in yaml.safe_load_all(self.template(values, *words)) if each]

    def template(self, values: Values | None = None, *words: str) -> str:
        """Return what `helm template` prints."""
        options = [f"--namespace={self.namespace}", "--no-hooks", *words]
        return self._helm("template", [RELEASE, str(CHART), *options], values)

    def upgrade(self, values: Values | None = None) -> str:
        """Install the chart, or change what is installed; return its notes."""
        options = ["--install", "--reset-values", f"--namespace={self.namespace}"]
        return self._helm("upgrade", [RELEASE, str(CHART), *options], values)

    @contextlib.contextmanager
    def installed(self, values: Values | None = None) -> Iterator[str]:
        """Have the chart installed for the length of a block; yields its notes."""
        try:
            yield self.upgrade(values)
        finally:
            self.cluster.helm(
                "uninstall", RELEASE, f"--namespace={self.namespace}", "--ignore-not-found"
            )

    def live(self, wanted: Manifest) -> Manifest:
        """Return an object as the API server has it."""
        metadata = wanted["metadata"]
        group, _, version = wanted["apiVersion"].rpartition("/")
        kind = f"{wanted['kind']}.{version}.{group}" if group else wanted["kind"]
        scope = ["-n", metadata["namespace"]] if "namespace" in metadata else []
        found = self.cluster.run(*scope, "get", kind, metadata["name"], "-o", "json")
        return json.loads(found)

    def _helm(self, verb: str, words: list[str], values: Values | None) -> str:
        # In a file: --set has a grammar of its own for lists, commas and nulls.
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values or {}, file)
            file.flush()
            return self.cluster.helm(verb, *words, f"--values={file.name}")
