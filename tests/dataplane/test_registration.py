"""Who has the last word on each field of a registration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flambeau_runtime.archive.package import Package
from flambeau_runtime.errors import ArchiveInvalid, LoadFailed
from flambeau_runtime.serving.registration import Asked, decide
from flambeau_runtime.settings import Limits, ModelDefaults, Settings

ASKED = Asked(url="m.mar")


def package(**config):
    return Package("m", "1.0", Path("m"), {}, "sha256:0", 0, "handler.py", config)


def decided(asked=None, *, config=None, defaults=None, limits=None, devices=()):
    settings = Settings(limits=limits or Limits(), devices=devices)
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
        pytest.param(
            {"config": {"handler": {}}, "defaults": {"batch_size": 16}},
            16,
            id="an archive that says nothing about it leaves it to the models key",
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
        pytest.param({"config": {"maxBatchDelay": 0}}, 0.1, id="0 in an archive says nothing"),
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
        pytest.param(
            {"asked": {"response_timeout_s": 5}, "defaults": {"response_timeout_s": 9}},
            9,
            id="the models key goes before the caller",
        ),
        pytest.param(
            {
                "asked": {"response_timeout_s": 5},
                "config": {"batchSize": 2},
                "limits": Limits(response_timeout_s=60),
            },
            120,
            id="an archive with a model-config.yaml that does not say it has two minutes",
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
        pytest.param(
            {"asked": {"workers": 2}, "config": {"minWorkers": 3}},
            (2, 2),
            id="one bound without the other counts as not said",
        ),
        pytest.param(
            {"config": {"minWorkers": 0, "maxWorkers": 2}}, (1, 2), id="0 at least means 1"
        ),
        pytest.param(
            {"asked": {"workers": 2}, "defaults": {"min_workers": 3, "max_workers": 4}},
            (2, 2),
            id="the models key has no say in a call",
        ),
        pytest.param(
            {
                "asked": {"workers": 2, "at_startup": True},
                "defaults": {"min_workers": 3, "max_workers": 4},
            },
            (3, 4),
            id="the models key goes before the default number at the start",
        ),
        pytest.param(
            {
                "asked": {"workers": 5},
                "devices": (0, 1, 2, 3),
                "config": {"parallelType": "custom", "parallelLevel": 2},
            },
            (2, 2),
            id="no more than there are devices for",
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


def test_a_model_for_torchrun_is_refused_with_what_to_do_instead():
    with pytest.raises(ArchiveInvalid, match=r"parallelType tp needs torchrun.*use .* custom"):
        decided(config={"parallelType": "tp", "parallelLevel": 2})


def test_more_devices_per_worker_than_there_are_is_refused_in_torchserves_words():
    with pytest.raises(LoadFailed) as refused:
        decided(config={"parallelType": "custom", "parallelLevel": 3}, devices=(0, 1))
    assert str(refused.value) == "No enough gpu devices for model:m parallelLevel:3"


def test_without_devices_a_parallel_level_asks_for_none():
    assert decided(config={"parallelType": "custom", "parallelLevel": 3}).workers == 0


def test_the_version_is_pinned_to_the_content_that_was_opened():
    spec = decided()
    assert (spec.source.uri, spec.source.digest) == ("m.mar", "sha256:0")
