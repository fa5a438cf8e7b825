"""The variables a worker is born with."""

from flambeau_runtime.serving.worker_environment import additions, thread_count


def test_a_worker_gets_its_share_of_threads_and_waits_without_spinning():
    added = additions({}, {}, threads=2, visible=None)
    assert added["OMP_NUM_THREADS"] == added["MKL_NUM_THREADS"] == "2"
    assert added["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "CUDA_VISIBLE_DEVICES" not in added


def test_what_the_user_set_for_the_runtime_stays():
    added = additions({"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}, {}, 2, None)
    assert "OMP_NUM_THREADS" not in added
    assert "OMP_WAIT_POLICY" not in added
    assert thread_count({"OMP_NUM_THREADS": "7"}, share=2) == 7


def test_the_versions_own_variables_win_over_everything():
    added = additions({"A": "front"}, {"A": "model", "OMP_NUM_THREADS": "5"}, 2, None)
    assert added["A"] == "model"
    assert added["OMP_NUM_THREADS"] == "5"


def test_a_worker_sees_its_own_device_only():
    assert additions({}, {}, 1, visible="3")["CUDA_VISIBLE_DEVICES"] == "3"
    assert additions({}, {}, 1, visible="")["CUDA_VISIBLE_DEVICES"] == ""


def test_a_value_of_omp_num_threads_that_is_no_number_is_left_to_openmp():
    assert thread_count({"OMP_NUM_THREADS": "4,2"}, share=3) == 3
