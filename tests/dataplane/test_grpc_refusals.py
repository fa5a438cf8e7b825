"""What gRPC calls an error: TorchServe's codes, oddities included."""

from urllib.parse import quote

import pytest
from grpc import StatusCode

from flambeau_runtime.api.grpc.refusals import (
    LONGEST_DETAILS,
    Refused,
    at_the_door,
    code_of,
    from_worker,
    missing,
    not_there,
)
from flambeau_runtime.errors import (
    DeadlineExceeded,
    HandlerRefused,
    InvalidKey,
    ModelNotFound,
    ModelNotReady,
    OutOfMemory,
    PredictionFailed,
    QueueFull,
    VersionNotFound,
    WorkerLost,
)

INTERNAL = "org.pytorch.serve.http.InternalServerException"
MODEL = "org.pytorch.serve.archive.model"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (405, "FAILED_PRECONDITION"),
        (409, "ABORTED"),
        (413, "RESOURCE_EXHAUSTED"),
        (416, "OUT_OF_RANGE"),
        (418, "FAILED_PRECONDITION"),
        (429, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (502, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (507, "INTERNAL"),
        (302, "UNKNOWN"),
        (200, "UNKNOWN"),
    ],
)
def test_an_http_status_has_its_code(status, code):
    assert code_of(status).name == code


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        pytest.param(
            ModelNotFound("m"),
            "INTERNAL",
            f"{MODEL}.ModelNotFoundException",
            id="an unknown model is INTERNAL where a prediction is asked for",
        ),
        pytest.param(
            VersionNotFound("m", "9"),
            "INTERNAL",
            f"{MODEL}.ModelVersionNotFoundException",
            id="so is an unknown version",
        ),
        pytest.param(
            ModelNotReady("m", "1.0", "has no worker"),
            "INTERNAL",
            "InternalServerException.()",
            id="a model without workers is INTERNAL with a type that ends in ()",
        ),
        pytest.param(
            QueueFull("m", "1.0", 100),
            "INTERNAL",
            "InternalServerException.()",
            id="a full queue is said like a missing worker",
        ),
    ],
)
def test_a_prediction_is_refused_at_the_door(fault, code, kind):
    refused = at_the_door(fault)
    assert (refused.code.name, refused.details) == (code, f"{fault}\n{kind}")


def test_a_wrong_key_is_permission_denied_without_a_type():
    refused = at_the_door(InvalidKey("Token Authorization failed."))
    assert refused.code is StatusCode.PERMISSION_DENIED
    assert refused.details == "Token Authorization failed."


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(PredictionFailed("Prediction failed"), "UNAVAILABLE", id="a handler raised"),
        pytest.param(HandlerRefused("no", 404), "NOT_FOUND", id="a handler's own code counts"),
        pytest.param(OutOfMemory("Out of resources"), "INTERNAL", id="507 is INTERNAL"),
        pytest.param(WorkerLost("Worker died."), "INTERNAL", id="a worker died"),
        pytest.param(DeadlineExceeded("m", 1), "INTERNAL", id="the model's timeout passed"),
    ],
)
def test_what_goes_wrong_in_a_worker_keeps_its_status(fault, code):
    refused = from_worker(fault)
    assert (refused.code.name, refused.details) == (code, f"{fault}\n{INTERNAL}")


def test_a_deadline_of_the_clients_own_is_said_as_such():
    assert from_worker(DeadlineExceeded("m", 1), asked_for=True).code is (
        StatusCode.DEADLINE_EXCEEDED
    )


def test_a_question_about_a_model_that_is_not_there_is_not_found():
    refused = not_there(ModelNotFound("m"))
    assert refused.code is StatusCode.NOT_FOUND
    assert refused.details == f"Model not found: m\n{MODEL}.ModelNotFoundException"


def test_a_missing_name_is_internal():
    assert missing("model_name").details == (
        "Parameter model_name is required.\nBadRequestException.()"
    )


@pytest.mark.parametrize("letter", ["x", "ü", "%", "\N{SNOWMAN}"])
def test_details_are_short_enough_for_a_clients_trailers(letter):
    refused = Refused(StatusCode.INTERNAL, letter * 1_000_000, INTERNAL)
    assert len(quote(refused.details)) < LONGEST_DETAILS + 200
    assert refused.details.endswith(f"…\n{INTERNAL}")
