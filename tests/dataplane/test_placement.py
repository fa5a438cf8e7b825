"""Which device a worker gets."""

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.placement import least_loaded, permitted


@pytest.mark.parametrize(
    ("devices", "workers", "chosen"),
    [
        pytest.param((), {}, None, id="without devices a worker is on the CPU"),
        pytest.param((0, 1), {}, 0, id="the lowest index wins a tie"),
        pytest.param((0, 1), {0: 1}, 1, id="the emptier device is taken"),
        pytest.param((2, 3), {0: 0, 2: 1, 3: 1}, 2, id="only permitted devices count"),
    ],
)
def test_least_loaded(devices, workers, chosen):
    assert least_loaded(devices, workers) == chosen


@given(st.integers(1, 8), st.integers(0, 40))
def test_workers_placed_one_by_one_are_spread_evenly(devices, workers):
    taken = Counter()
    for _ in range(workers):
        taken[least_loaded(range(devices), taken)] += 1
    loads = [taken[index] for index in range(devices)]
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        pytest.param({}, (0, 1, 2), id="without a wish all devices"),
        pytest.param({"deviceType": "cpu"}, (), id="a model for the CPU gets none"),
        pytest.param({"deviceIds": [2, 0]}, (2, 0), id="the model's own list"),
        pytest.param({"deviceIds": [0, 7]}, (0, 1, 2), id="one unknown index drops the list"),
        pytest.param({"deviceIds": "0"}, (0, 1, 2), id="a list of another type is dropped"),
    ],
)
def test_permitted_devices(config, allowed):
    assert permitted((0, 1, 2), config) == allowed
