"""How hard a runtime works, read from its live versions."""

from types import SimpleNamespace

import pytest

from flambeau_runtime.serving.desired import Batching
from flambeau_runtime.serving.load import LoadMeter


def live(busy_s=0.0, queued=0, wait_s=0.0, workers=2, batch=4):
    """What the meter reads of a version."""
    return SimpleNamespace(
        busy_seconds=lambda: busy_s,
        queue_wait_s=lambda: wait_s,
        possible=workers,
        queue=[None] * queued,
        spec=SimpleNamespace(batching=Batching(batch)),
    )


@pytest.mark.parametrize(
    ("before", "after", "saturation"),
    [
        pytest.param([live()], [live()], 0.0, id="nobody works"),
        pytest.param([live(1.0)], [live(3.0)], 0.5, id="half of the workers work"),
        pytest.param([live(1.0)], [live(5.0)], 1.0, id="all of them work"),
        pytest.param([live(1.0)], [live(5.0, queued=16)], 3.0, id="two rounds of batches wait"),
        pytest.param([live(9.0)], [live(1.0)], 0.0, id="a busy version has left"),
        pytest.param([live(0.0, workers=0)], [live(0.0, workers=0)], 0.0, id="no worker is there"),
        pytest.param([], [], 0.0, id="no version is there"),
    ],
)
def test_saturation_is_the_busy_share_and_what_waits(before, after, saturation):
    meter = LoadMeter()
    meter.read(before, 10.0)
    assert meter.read(after, 12.0).saturation == saturation


def test_the_busy_share_stands_between_two_readings_that_are_close():
    meter = LoadMeter()
    meter.read([live(0.0)], 10.0)
    meter.read([live(4.0)], 12.0)
    assert meter.read([live(4.0)], 12.1).saturation == 1.0


def test_the_longest_wait_is_told():
    assert LoadMeter().read([live(wait_s=0.5), live(wait_s=2.0)], 1.0).queue_wait_s == 2.0
