"""Who has the last word on each field of a registration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flambeau_runtime.archive.package import Package
from flambeau_runtime.serving.registration import Asked, decide
from flambeau_runtime.settings import Limits, ModelDefaults, Settings

ASKED = Asked(url="m.mar")


def package(**config):
    return Package("m", "1.0", Path("m"), {}, "sha256:0", 0, "handler.py", config)


def decided(asked=None, *, config=None, defaults=None, limits=None):
    settings = Settings(limits=limits or Limits())
    if defaults:
        settings = replace(settings, model_defaults=(ModelDefaults("m", "1.0", **defaults),))
    return decide(replace(ASKED, **(asked or {})), package(**(config or {})), settings)


@pytest.mark.parametrize(
    ("said", "size"),
    [
        pytest.param({}, 1, id="nobody says anything"),
        pytest.param({"limits": Limits(batch_size=32)}, 32, id="a server-wide size"),
        pytest.param(
            {"limits": Limits(batch_size=32), "defaults": {"batch_size": 16}},
            16,
            id="the models key goes before the server-wide size",
        ),
        pytest.param(
            {"defaults": {"batch_size": 16}, "config": {"batchSize": 8}},
            8,
            id="the archive goes before the models key",
        ),
        pytest.param(
            {"config": {"batchSize": 8}, "asked": {"batch_size": 4}},
            4,
            id="the caller goes before the archive",
        ),
        pytest.param(
            {"config": {"batchSize": "8"}, "limits": Limits(batch_size=2)},
            2,
            id="a wrongly typed value counts as not said",
        ),
    ],
)
def test_batch_size(said, size):
    assert decided(**said).batching.max_size == size


@pytest.mark.parametrize(
    ("said", "delay_s"),
    [
        pytest.param({}, 0.1, id="TorchServe's 100 ms"),
        pytest.param({"config": {"maxBatchDelay": 50}}, 0.05, id="the archive's milliseconds"),
        pytest.param(
            {"config": {"maxBatchDelay": 50}, "asked": {"max_batch_delay_s": 0.0}},
            0.0,
            id="the caller goes before the archive, and may say 0",
        ),
    ],
)
def test_batch_delay(said, delay_s):
    assert decided(**said).batching.max_delay_s == delay_s


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param({}, 120, id="TorchServe's two minutes"),
        pytest.param({"asked": {"response_timeout_s": 5}}, 5, id="the caller"),
        pytest.param(
            {"asked": {"response_timeout_s": 5}, "config": {"responseTimeout": 7}},
            7,
            id="the archive goes before the caller",
        ),
    ],
)
def test_response_timeout(said, seconds):
    assert decided(**said).timeouts.response_s == seconds


@pytest.mark.parametrize(
    ("said", "workers"),
    [
        pytest.param({}, (0, 0), id="nobody asks for workers"),
        pytest.param({"asked": {"workers": 2}}, (2, 2), id="the caller"),
        pytest.param(
            {"asked": {"workers": 2}, "config": {"minWorkers": 3, "maxWorkers": 5}},
            (3, 5),
            id="the archive goes before the caller",
        ),
        pytest.param(
            {"asked": {"workers": 2}, "config": {"minWorkers": 3, "maxWorkers": 1}},
            (2, 2),
            id="bounds that contradict each other count as not said",
        ),
    ],
)
def test_workers(said, workers):
    spec = decided(**said)
    assert (spec.workers, spec.max_workers) == workers


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        pytest.param("on", "on", id="the word on"),
        pytest.param(True, "on", id="the on that YAML reads as true"),
        pytest.param(False, "off", id="the off that YAML reads as false"),
        pytest.param("sometimes", "auto", id="a word that nobody knows"),
    ],
)
def test_splitting_of_lists(value, meant):
    assert decided(config={"splitJsonArrays": value}).split_json_arrays == meant


def test_the_version_is_pinned_to_the_content_that_was_opened():
    spec = decided()
    assert (spec.source.uri, spec.source.digest) == ("m.mar", "sha256:0")
