"""`ts.metrics.metric_cache_yaml_impl`: the metrics of a context, as users' unit tests make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from flambeau_runtime.worker.metrics import (
    HandlerMetrics,
    MetricsCacheKeyError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
    MetricTypes,
)


class MetricsCacheYamlImpl(HandlerMetrics):
    """Metrics with those of a metrics file's `model_metrics` declared beforehand.

    Args:
        config_file_path: a metrics.yaml.

    Raises:
        MetricsCacheTypeError: no file is named, or it is no mapping.
    """

    def __init__(self, config_file_path: str) -> None:
        super().__init__()
        if not config_file_path:
            raise MetricsCacheTypeError("no metrics file is named")
        self.config_file_path = config_file_path
        document: Any = yaml.safe_load(Path(config_file_path).read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise MetricsCacheTypeError(f"{config_file_path} is not a mapping")
        self._document: dict[str, Any] = document

    def initialize_cache(self) -> None:
        """Declare what the file says.

        Raises:
            MetricsCacheKeyError: a section, a kind or a key is missing or unknown.
            MetricsCacheValueError: `model_metrics` is empty.
        """
        if "model_metrics" not in self._document:
            raise MetricsCacheKeyError(f"{self.config_file_path} has no model_metrics")
        section = self._document["model_metrics"]
        if not section:
            raise MetricsCacheValueError(f"{self.config_file_path}: model_metrics is empty")
        for kind, entries in section.items():
            try:
                metric_type = MetricTypes(kind)
                for entry in entries or ():
                    self.add_metric_to_cache(
                        entry["name"], entry["unit"], entry["dimensions"], metric_type
                    )
            except (KeyError, ValueError) as error:
                raise MetricsCacheKeyError(
                    f"{self.config_file_path}: model_metrics.{kind}: {error}"
                ) from error
