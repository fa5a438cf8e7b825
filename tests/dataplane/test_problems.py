import json

import pytest

from flambeau_runtime import errors
from flambeau_runtime.api.problems import STATUS, describe


def every_fault(cls=errors.RuntimeFault):
    yield cls
    for child in cls.__subclasses__():
        yield from every_fault(child)


class BornToday(errors.OutOfMemory):
    """A fault nobody has written down."""


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        pytest.param(
            errors.ModelNotFound("m"), 404, "ModelNotFoundException", id="an unknown model is 404"
        ),
        pytest.param(
            errors.VersionNotFound("m", "2"), 404, "ModelVersionNotFoundException",
            id="an unknown version is 404",
        ),
        pytest.param(
            errors.QueueFull("m", "1", 100), 503, "ServiceUnavailableException",
            id="a full queue is 503",
        ),
        pytest.param(
            errors.DeadlineExceeded("m", 1), 500, "InternalServerException",
            id="a timeout is 500 under /predictions",
        ),
        pytest.param(
            errors.PredictionFailed("Prediction failed"), 503, "InternalServerException",
            id="a handler that raises is 503",
        ),
        pytest.param(
            errors.HandlerRefused("no cats", 422), 422, "InternalServerException",
            id="a handler's own code is kept",
        ),
        pytest.param(
            errors.HandlerRefused("no cats", 7), 500, "InternalServerException",
            id="a code that ends no message becomes 500",
        ),
        pytest.param(
            errors.OutOfMemory("Out of resources"), 507, "InternalServerException",
            id="out of memory is 507",
        ),
        pytest.param(
            errors.WorkerLost("Worker died."), 500, "InternalServerException",
            id="a lost worker is 500",
        ),
        pytest.param(
            BornToday("today"), 507, "InternalServerException",
            id="a new fault is answered like its parent on the day it is born",
        ),
        pytest.param(
            ValueError("a secret"), 500, "InternalServerException",
            id="what nobody foresaw is 500",
        ),
    ],
)  # fmt: skip
def test_status_and_type(fault, status, kind):
    problem = describe(fault)
    assert (problem.status, problem.type) == (status, kind)
    assert json.loads(problem.body())["code"] == status


def test_the_body_is_printed_as_torchserve_prints_it():
    assert describe(errors.ModelNotFound("m")).body() == (
        b'{\n  "code": 404,\n  "type": "ModelNotFoundException",\n'
        b'  "message": "Model not found: m"\n}\n'
    )


def test_what_nobody_foresaw_is_not_told_to_the_caller():
    assert "secret" not in describe(ValueError("a secret")).message


def test_a_full_queue_says_when_to_come_back():
    assert describe(errors.QueueFull("m", "1", 100, retry_after_s=3)).retry_after_s == 3


@pytest.mark.parametrize("cls", sorted(set(every_fault()), key=lambda cls: cls.__name__))
def test_every_fault_has_an_answer(cls):
    assert any(parent in STATUS for parent in cls.__mro__)
