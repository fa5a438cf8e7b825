"""Section 11: devices, declared instead of present; no handler here touches any."""

from __future__ import annotations

import psutil
import pytest

from tests.compat.mar import write_mar
from tests.compat.server import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SEES = """
    import os

    def handle(data, context):
        if data is not None:
            seen = {name: context.system_properties[name] for name in ("gpu_id", "batch_size")}
            for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
                seen[name] = os.environ.get(name)
            return [seen for _ in data]
"""

NVIDIA_SMI = """\
#!/bin/sh
echo "utilization.gpu [%], utilization.memory [%], memory.used [MiB]"
echo "5 %, 1 %, 10$2 MiB"
"""


def devices(folder, **more):
    """Return an environment of four devices: ours has them declared, TorchServe believes CUDA's."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "nvidia-smi").write_text(NVIDIA_SMI)
    (tools / "nvidia-smi").chmod(0o755)
    path = f"{tools}:/usr/local/bin:/usr/bin:/bin"
    return {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "FLAMBEAU_DEVICES": "4", "PATH": path, **more}


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return devices(tmp_path_factory.mktemp("devices"))


@pytest.fixture(scope="module")
def four(serve_module, env):
    """A server with four devices, and a model of its start."""

    def prepare(place):
        write_mar(place.store, "started", SEES)

    ts = serve_module("--models", "started-1.0.mar", env=env, prepare=prepare)
    ts.wait_for_workers("started", 4)
    return ts


def placed(ts, model):
    """Return the device of each worker, in the order of their start."""
    workers = sorted(ts.workers(model), key=lambda it: int(it["id"]))
    return [int(it["gpuUsage"].split()[0].removeprefix("gpuId::")) for it in workers]


@pytest.mark.row("11-default-workers", "11-round-robin")
def test_a_start_up_model_has_a_worker_on_every_device(four):
    assert sorted(placed(four, "started")) == [0, 1, 2, 3]


@pytest.mark.row("11-count", "11-default-workers")
def test_no_more_devices_are_used_than_allowed(serve, env):
    ts = serve(
        *("--models", "few-1.0.mar"),
        config={"number_of_gpu": "2"},
        env=env,
        prepare=lambda place: write_mar(place.store, "few", SEES),
    )
    ts.wait_for_workers("few", 2)
    assert sorted(placed(ts, "few")) == [0, 1]


@pytest.mark.row("11-count")
def test_no_more_devices_are_used_than_there_are(serve, env):
    ts = serve(
        *("--models", "many-1.0.mar"),
        config={"number_of_gpu": "9"},
        env=env,
        prepare=lambda place: write_mar(place.store, "many", SEES),
    )
    ts.wait_for_workers("many", 4)


@pytest.mark.row("11-round-robin")
def test_workers_are_spread_over_the_devices(four):
    with four.registered(SEES, workers=4) as model:
        assert sorted(placed(four, model)) == [0, 1, 2, 3]


@pytest.mark.row("11-round-robin-start", only="ours")
def test_the_emptiest_device_with_the_lowest_index_is_first(serve, env):
    ts = serve(env=env)
    with ts.registered(SEES, workers=2) as model:
        assert placed(ts, model) == [0, 1]


@pytest.mark.row("11-device-ids")
def test_a_models_own_devices_are_taken_in_turn_from_the_first(four):
    with four.registered(SEES, workers=3, config="deviceIds: [2, 3]") as model:
        assert four.describe(model)["deviceIds"] == [2, 3]
        assert sorted(placed(four, model)) in ([2, 2, 3], [2, 3, 3])


@pytest.mark.row("11-device-ids")
def test_one_unknown_device_drops_the_list(four):
    with four.registered(SEES, workers=4, config="deviceIds: [2, 4]") as model:
        assert "deviceIds" not in four.describe(model)
        assert sorted(placed(four, model)) == [0, 1, 2, 3]


@pytest.mark.row("11-describe")
def test_a_worker_on_a_device_is_described_with_its_use(four):
    with four.registered(SEES, config="deviceIds: [2]") as model:
        description = four.describe(model)
        (worker,) = description["workers"]
    assert description["deviceType"] == "gpu"
    assert worker["gpu"] is True
    assert worker["gpuUsage"] == (
        "gpuId::2 utilization.gpu [%]::5 % utilization.memory [%]::1 % memory.used [MiB]::102 MiB"
    )


@pytest.mark.row("11-describe", "5-device-type")
def test_a_model_for_the_cpu_has_no_device(four):
    with four.registered(SEES, config='deviceType: "cpu"') as model:
        description = four.describe(model)
        (worker,) = description["workers"]
        assert (description["deviceType"], worker["gpu"], worker["gpuUsage"]) == (
            *("cpu", False, "N/A"),
        )
        assert four.predict(model).json["gpu_id"] is None


@pytest.mark.row("11-visible", only="ours")
def test_a_worker_sees_its_own_device_as_the_first(four):
    with four.registered(SEES, config="deviceIds: [2]") as model:
        seen = four.predict(model).json
    assert (seen["gpu_id"], seen["CUDA_VISIBLE_DEVICES"]) == (0, "2")


@pytest.mark.row("11-visible-all")
def test_with_device_visibility_all_the_index_is_among_all(serve, env):
    ts = serve(config={"device_visibility": "all"}, env=env)
    with ts.registered(SEES, config="deviceIds: [2]") as model:
        seen = ts.predict(model).json
    assert (seen["gpu_id"], seen["CUDA_VISIBLE_DEVICES"]) == (2, "0,1,2,3")


@pytest.mark.row("11-visible-parallel")
def test_a_parallel_model_sees_its_own_devices_only(four):
    config = "parallelType: custom\nparallelLevel: 1\ndeviceIds: [2, 3]"
    with four.registered(SEES, config=config) as model:
        assert four.predict(model).json["CUDA_VISIBLE_DEVICES"] == "2"


@pytest.mark.row("5-parallel-several", only="ours")
def test_each_worker_of_a_parallel_model_has_devices_of_its_own(four):
    config = "parallelType: custom\nparallelLevel: 2"
    with four.registered(SEES, workers=3, config=config) as model:
        assert sorted(placed(four, model)) == [0, 2]
        assert four.predict(model).json["CUDA_VISIBLE_DEVICES"] in {"0,1", "2,3"}
        asked = {"min_worker": 5, "synchronous": "true"}
        assert four.manage("PUT", f"/models/{model}", **asked).status == 200
        assert sorted(placed(four, model)) == [0, 2]


@pytest.mark.row("11-parallel-too-many")
def test_more_devices_for_a_worker_than_there_are_are_refused(four):
    archive = four.add_archive(SEES, "wide", config="parallelType: custom\nparallelLevel: 5")
    answer = four.manage("POST", "/models", url=archive, initial_workers=1)
    assert answer.status == 500
    assert answer.json["message"] == "No enough gpu devices for model:wide parallelLevel:5"


@pytest.mark.row("11-vendors", only="ours")
def test_devices_of_amd_are_shown_by_their_own_variable(serve):
    env = {"HIP_VISIBLE_DEVICES": "4,6", "FLAMBEAU_DEVICES": "2"}
    ts = serve(env=env)
    with ts.registered(SEES, config="deviceIds: [1]") as model:
        seen = ts.predict(model).json
    assert (seen["gpu_id"], seen["HIP_VISIBLE_DEVICES"]) == (0, "6")


@pytest.mark.row("11-memory")
def test_the_process_of_a_worker_that_is_not_wanted_any_more_ends(four):
    with four.registered(SEES, workers=2) as model:
        pids = [worker["pid"] for worker in four.workers(model)]
        asked = {"min_worker": 0, "max_worker": 0, "synchronous": "true"}
        assert four.manage("PUT", f"/models/{model}", **asked).status == 200
        until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
