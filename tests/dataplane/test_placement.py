"""Which devices a worker gets."""

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.archive.model_config import ModelConfig
from flambeau_runtime.serving.placement import least_loaded, permitted, room_for_workers


@pytest.mark.parametrize(
    ("devices", "workers", "each", "chosen"),
    [
        pytest.param((), {}, 1, (), id="without devices a worker is on the CPU"),
        pytest.param((0, 1), {}, 1, (0,), id="the lowest index wins a tie"),
        pytest.param((2, 0), {}, 1, (2,), id="a list of the model's own is begun at its beginning"),
        pytest.param((0, 1), {0: 1}, 1, (1,), id="the emptier device is taken"),
        pytest.param((2, 3), {0: 0, 2: 1, 3: 1}, 1, (2,), id="only permitted devices count"),
        pytest.param((0, 1, 2, 3), {}, 2, (0, 1), id="a worker of two gets neighbours"),
        pytest.param((0, 1, 2, 3), {0: 1, 1: 1}, 2, (2, 3), id="and the next one the next two"),
        pytest.param((0, 1, 2), {0: 1, 1: 1}, 2, (0, 1), id="what is left over is nobody's"),
        pytest.param((0,), {}, 2, (), id="too few for one"),
    ],
)
def test_least_loaded(devices, workers, each, chosen):
    assert least_loaded(devices, workers, each) == chosen


@given(st.integers(1, 8), st.integers(0, 40))
def test_workers_placed_one_by_one_are_spread_evenly(devices, workers):
    taken = Counter()
    for _ in range(workers):
        taken.update(least_loaded(range(devices), taken))
    loads = [taken[index] for index in range(devices)]
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        pytest.param(ModelConfig(), (0, 1, 2), id="without a wish all devices"),
        pytest.param(ModelConfig(device_type="cpu"), (), id="a model for the CPU gets none"),
        pytest.param(ModelConfig(device_type="gpu"), (0, 1, 2), id="a model for devices gets all"),
        pytest.param(ModelConfig(device_ids=(2, 0)), (2, 0), id="the model's own list"),
        pytest.param(
            ModelConfig(device_ids=(0, 7)), (0, 1, 2), id="one unknown index drops the list"
        ),
    ],
)
def test_permitted_devices(config, allowed):
    assert permitted((0, 1, 2), config) == allowed


@pytest.mark.parametrize(
    ("config", "devices", "room"),
    [
        pytest.param(ModelConfig(), (0, 1), None, id="workers of one device share them"),
        pytest.param(
            ModelConfig(parallel_type="custom", parallel_level=2),
            (0, 1, 2, 3, 4),
            2,
            id="workers of several do not",
        ),
        pytest.param(
            ModelConfig(parallel_type="custom", parallel_level=2, device_ids=(1, 3)),
            (0, 1, 2, 3),
            1,
            id="of the model's own list",
        ),
        pytest.param(
            ModelConfig(parallel_type="custom", parallel_level=2), (), None, id="nor is the CPU"
        ),
    ],
)
def test_room_for_workers(config, devices, room):
    assert room_for_workers(devices, config) == room
