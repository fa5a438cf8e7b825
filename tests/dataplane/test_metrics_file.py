"""TorchServe's metrics file: what it declares, and what cannot be in it."""

from __future__ import annotations

import pytest

from flambeau_runtime.commands.config_properties import apply
from flambeau_runtime.commands.metrics_file import read
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Family, MetricsFile, MetricsMode, Settings

GOOD = """
dimensions:
  - &level "Level"
  - &hostname "Hostname"
ts_metrics:
  counter:
    - name: Requests2XX
      unit: Count
      dimensions: [*level, *hostname]
  histogram:
    - {name: QueueTime, unit: Milliseconds, dimensions: [*level, *hostname]}
model_metrics:
  gauge:
    - {name: HandlerTime, unit: ms, dimensions: [ModelName, *level]}
"""


def test_what_a_file_declares(tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_text(GOOD)
    assert read(path) == MetricsFile(
        front=(
            Family("Requests2XX", "counter", "Count", ("Level", "Hostname")),
            Family("QueueTime", "histogram", "Milliseconds", ("Level", "Hostname")),
        ),
        model=(Family("HandlerTime", "gauge", "ms", ("ModelName", "Level")),),
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "not a mapping"),
        ("[1]", "not a mapping"),
        ("{}", "declares nothing"),
        ("a: [", "not YAML"),
        ("ts_metrics: !!python/object/apply:os.getpid []", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("ts_metrics: [1]", "ts_metrics is not a mapping"),
        ("ts_metrics: {summary: []}", "ts_metrics.summary"),
        ("ts_metrics: {gauge: 1}", "ts_metrics.gauge is not a list"),
        ("ts_metrics: {gauge: [1]}", "ts_metrics.gauge[0]"),
        ("model_metrics: {gauge: [{name: A}]}", "no unit and no dimensions"),
        ("model_metrics: {gauge: [{name: A, unit: b, dimensions: c}]}", "dimensions is not a list"),
        ("#" * 2_000_000, "more than"),
    ],
)
def test_a_file_that_cannot_be_names_the_place(tmp_path, text, names):
    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSettings) as refused:
        read(path)
    assert names in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidSettings, match=r"metrics_config=.*nowhere\.yaml cannot be"):
        read(tmp_path / "nowhere.yaml")


def configured(tmp_path, *lines):
    path = tmp_path / "config.properties"
    path.write_text("\n".join(lines))
    return apply(Settings(), path, {}, 0)


def test_the_keys_about_metrics_reach_the_settings(tmp_path):
    (tmp_path / "metrics.yaml").write_text(GOOD)
    settings = configured(
        tmp_path,
        "metrics_mode=LEGACY",
        f"metrics_config={tmp_path}/metrics.yaml",
        "model_metrics_auto_detect=true",
        "metric_time_interval=5",
        "system_metrics_cmd=measure.py --all",
    )
    assert settings.metrics_mode is MetricsMode.LEGACY
    assert settings.metrics_file is not None
    assert settings.metrics_auto_detect is True
    assert settings.metrics_interval_s == 5
    assert settings.system_metrics_cmd == "measure.py --all"
    assert settings.warnings == ()


def test_an_unknown_mode_is_log_and_said(tmp_path):
    settings = configured(tmp_path, "metrics_mode=statsd")
    assert settings.metrics_mode is MetricsMode.LOG
    assert "metrics_mode=statsd is unknown" in settings.warnings[0]
