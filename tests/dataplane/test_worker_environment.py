"""The variables a worker is born with."""

import pytest

from flambeau_runtime.serving.worker_environment import (
    additions,
    may_fork_beside,
    thread_count,
    visibility,
)


def test_a_worker_gets_its_share_of_threads_and_waits_without_spinning():
    added = additions({}, {}, threads=2)
    assert added["OMP_NUM_THREADS"] == added["MKL_NUM_THREADS"] == "2"
    assert added["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "CUDA_VISIBLE_DEVICES" not in added


def test_what_the_user_set_for_the_runtime_stays():
    added = additions({"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}, {}, 2)
    assert "OMP_NUM_THREADS" not in added
    assert "OMP_WAIT_POLICY" not in added
    assert thread_count({"OMP_NUM_THREADS": "7"}, share=2) == 7


def test_the_versions_own_variables_win_over_everything():
    added = additions({"A": "front"}, {"A": "model", "OMP_NUM_THREADS": "5"}, 2)
    assert added["A"] == "model"
    assert added["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize(
    ("base", "devices", "variables"),
    [
        pytest.param({}, (3,), {"CUDA_VISIBLE_DEVICES": "3"}, id="its own device only"),
        pytest.param({}, (), {"CUDA_VISIBLE_DEVICES": ""}, id="none on the CPU"),
        pytest.param({}, (2, 3), {"CUDA_VISIBLE_DEVICES": "2,3"}, id="all of its own"),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "5, 7"},
            (1,),
            {"CUDA_VISIBLE_DEVICES": "7"},
            id="the second of those that the front was given",
        ),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "GPU-8f2a,MIG-1"},
            (0,),
            {"CUDA_VISIBLE_DEVICES": "GPU-8f2a"},
            id="by the name that the front was given",
        ),
        pytest.param(
            {"HIP_VISIBLE_DEVICES": "4,6"}, (1,), {"HIP_VISIBLE_DEVICES": "6"}, id="AMD's variable"
        ),
        pytest.param(
            {"ZE_AFFINITY_MASK": "0,1"}, (1,), {"ZE_AFFINITY_MASK": "1"}, id="Intel's variable"
        ),
    ],
)
def test_a_worker_sees(base, devices, variables):
    assert visibility(base, devices) == variables


@pytest.mark.parametrize(
    ("base", "devices", "may"),
    [
        pytest.param({}, (), True, id="without devices"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "1"}, (0,), True, id="beside NVIDIA's"),
        pytest.param({"HIP_VISIBLE_DEVICES": "1"}, (0,), False, id="not beside AMD's"),
        pytest.param({"ZE_AFFINITY_MASK": "0"}, (0,), False, id="not beside Intel's"),
    ],
)
def test_workers_are_forked(base, devices, may):
    assert may_fork_beside(base, devices) is may


def test_a_value_of_omp_num_threads_that_is_no_number_is_left_to_openmp():
    assert thread_count({"OMP_NUM_THREADS": "4,2"}, share=3) == 3
