import pytest

from flambeau_runtime import errors
from flambeau_runtime.serving.link import read_fault
from flambeau_runtime.worker.faults import describe


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(errors.PredictionFailed("no"), errors.PredictionFailed, id="it raised"),
        pytest.param(errors.OutOfMemory("no"), errors.OutOfMemory, id="out of memory"),
        pytest.param(errors.HandlerRefused("no", 418), errors.HandlerRefused, id="it refused"),
    ],
)
def test_a_fault_is_the_same_on_both_sides_of_the_wire(error, kind):
    arrived = read_fault(describe(error))
    assert (type(arrived), str(arrived)) == (kind, "no")
    assert getattr(arrived, "status", None) == getattr(error, "status", None)


def test_what_is_no_fault_of_ours_is_told_by_kind_and_words():
    assert describe(KeyError("x"))["message"] == "Prediction failed. KeyError: 'x'"


def test_memory_that_ran_out_while_packing_is_out_of_memory_too():
    assert isinstance(read_fault(describe(MemoryError())), errors.OutOfMemory)


def test_a_novel_in_an_exception_is_cut():
    assert len(describe(errors.HandlerRefused("x" * 10**7, 400))["message"]) == 10_000


def test_a_failed_load_keeps_its_reason():
    fault = describe(errors.LoadFailed("InitializeFailed", "ValueError: no", "last line"))
    assert fault == {
        "reason": "InitializeFailed",
        "message": "ValueError: no",
        "log": "last line",
    }
