"""Section 1.2: status codes and error bodies of inference."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.compat.handlers import BATCHES, OBEDIENT
from tests.compat.server import until
from tests.compat.wire import Wire, request_bytes

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

JSON = {"Content-Type": "application/json"}
NO_WORKER = (
    'Model \\"{}\\" has no worker to serve inference request. Please use scale workers API to add'
    " workers. If this is a sequence inference, please check if it is closed, or expired;"
    " or exceeds maxSequenceJobQueueSize"
)


def error(code: int, type_: str, message: str) -> bytes:
    """Return the error body of TorchServe, to the byte."""
    return f'{{\n  "code": {code},\n  "type": "{type_}",\n  "message": "{message}"\n}}\n'.encode()


def facts(answer):
    """Return status, type and message of an error."""
    told = answer.json
    assert told["code"] == answer.status
    return told["code"], told["type"], told["message"]


@pytest.fixture(scope="module")
def model(ts):
    with ts.registered(OBEDIENT) as name:
        yield name


@pytest.fixture(scope="module")
def ask(ts, model):
    return lambda **order: ts.predict(model, json.dumps(order).encode())


@pytest.mark.row("1.2-unknown-path", "1.2-body")
def test_an_unknown_path_is_not_found(ts):
    answer = ts.inference("GET", "/nowhere")
    assert answer.status_line == "HTTP/1.1 404 Not Found"
    assert answer.body == error(
        404,
        "ResourceNotFoundException",
        "Requested resource is not found, please refer to API document.",
    )


@pytest.mark.row("1.2-method")
def test_a_method_that_the_path_does_not_take_is_refused(ts):
    answer = ts.inference("GET", "/")
    assert answer.status == 405
    assert answer.body == error(
        405,
        "MethodNotAllowedException",
        "Requested method is not allowed, please refer to API document.",
    )


@pytest.mark.row("1.2-unknown-model", "1.2-body")
def test_an_unknown_model_is_not_found(ts):
    answer = ts.predict("nobody")
    assert answer.status == 404
    assert answer.body == error(404, "ModelNotFoundException", "Model not found: nobody")


@pytest.mark.row("1.2-unknown-version")
def test_an_unknown_version_is_not_found(ts, model):
    answer = ts.predict(f"{model}/9.9")
    assert answer.status == 404
    message = f"Model version: 9.9 does not exist for model: {model}"
    assert answer.body == error(404, "ModelVersionNotFoundException", message)


@pytest.mark.row("1.2-error-headers")
def test_an_error_is_json_with_an_id_that_nobody_keeps(ts):
    fields = ts.predict("nobody").fields
    assert [name for name, _ in fields] == [
        "content-type",
        "x-request-id",
        "Pragma",
        "Cache-Control",
        "Expires",
        "content-length",
        "connection",
    ]
    assert fields[0] == ("content-type", "application/json")


@pytest.mark.row("1.2-error-closes", only="ours")
def test_an_error_leaves_the_connection_open(ts, model):
    with ts.wire() as wire:
        for _ in range(2):
            answer = wire.request("POST", "/predictions/nobody", b"{}", JSON)
            assert (answer.status, answer.header("connection")) == (404, "keep-alive")
        assert wire.request("POST", f"/predictions/{model}", b"x").status == 200


@pytest.mark.row("1.2-no-workers")
def test_a_model_without_workers_says_so(ts):
    with ts.registered(OBEDIENT, workers=0) as name:
        answer = ts.predict(name)
    assert answer.status == 503
    assert answer.body == error(503, "ServiceUnavailableException", NO_WORKER.format(name))


FAILURES = [
    pytest.param(
        {"do": "fail", "kind": "ValueError", "text": "no"},
        (503, "Prediction failed"),
        "ValueError: no",
        marks=pytest.mark.row("1.2-handler-raises"),
        id="a handler that raises",
    ),
    pytest.param(
        {"do": "fail", "kind": "MemoryError", "text": "no room"},
        (507, "Out of resources"),
        "MemoryError: no room",
        marks=pytest.mark.row("1.2-out-of-memory"),
        id="no memory",
    ),
    pytest.param(
        {"do": "fail", "kind": "ValueError", "text": "CUDA error: launch failed"},
        (507, "Out of resources"),
        "ValueError: CUDA error: launch failed",
        marks=pytest.mark.row("1.2-out-of-memory"),
        id="a fault of CUDA",
    ),
    pytest.param(
        {"do": "whole", "result": "two"},
        (503, "number of batch response mismatched"),
        "2 results for 1 requests",
        marks=pytest.mark.row("1.2-batch-mismatch"),
        id="another number of results",
    ),
    pytest.param(
        {"do": "whole", "result": "tuple"},
        (503, "Invalid model predict output"),
        "returned tuple",
        marks=pytest.mark.row("1.2-not-a-list"),
        id="a tuple",
    ),
    pytest.param(
        {"do": "whole", "result": "none"},
        (503, "Invalid model predict output"),
        "returned NoneType",
        marks=pytest.mark.row("1.2-not-a-list"),
        id="None",
    ),
    pytest.param(
        {"do": "whole", "result": "set"},
        (503, "Unsupported model output data type."),
        "set is not JSON serializable",
        marks=pytest.mark.row("1.2-not-json"),
        id="what cannot become JSON",
    ),
]


@pytest.mark.parametrize(("order", "failure", "why"), FAILURES)
def test_what_the_handler_does_wrong_has_a_status_and_a_sentence(ask, order, failure, why):
    del why
    code, kind, message = facts(ask(**order))
    assert (code, kind) == (failure[0], "InternalServerException")
    assert message.startswith(failure[1])


@pytest.mark.row("1.2-messages", only="ours")
@pytest.mark.parametrize(
    ("order", "failure", "why"), [pytest.param(*it.values, id=it.id) for it in FAILURES]
)
def test_the_sentence_goes_on_with_the_cause(ask, order, failure, why):
    assert facts(ask(**order))[2].startswith(failure[1])
    assert why in facts(ask(**order))[2]


@pytest.mark.row("1.2-prediction-exception")
@pytest.mark.parametrize(
    ("given", "code"), [(["mine"], 500), (["mine", 400], 400), (["mine", 418], 418)]
)
def test_a_prediction_exception_has_its_own_code_and_message(ask, given, code):
    answer = ask(**{"do": "refuse", "with": given})
    assert answer.status == code
    assert answer.body == error(code, "InternalServerException", "mine")


@pytest.mark.row("1.2-failing-row")
def test_a_row_that_fails_fails_its_whole_batch(ts):
    query = {"batch_size": 2, "max_batch_delay": 300}
    with ts.registered(BATCHES, query=query) as name, ts.wire() as busy, ts.wire() as good:
        begun = ts.place.folder / name
        order = json.dumps({"sleep": 2, "touch": str(begun)}).encode()
        busy.send(request_bytes("POST", f"/predictions/{name}", order, JSON))
        until(begun.exists)
        good.send(request_bytes("POST", f"/predictions/{name}", b"{}", JSON))
        until(lambda: pending(ts, name) == 1)
        assert ts.predict(name, b'{"raise": true}').status == 503
        assert good.answer().status == 503
        assert busy.answer().status == 200


def pending(ts, name):
    return ts.describe(name)["jobQueueStatus"]["pendingRequests"]


@pytest.mark.row("1.2-restarting")
def test_while_its_worker_restarts_a_request_waits(ts):
    with ts.registered(OBEDIENT) as name:
        first = ts.predict(name, b'{"do": "pid"}').json
        assert ts.predict(name, b'{"do": "leave", "code": 3}').status == 500
        answer = ts.predict(name, b'{"do": "pid"}')
        assert answer.status == 200
        assert answer.json != first


@pytest.mark.row("1.2-worker-died")
def test_a_worker_that_ends_in_a_call_is_500(ts):
    with ts.registered(OBEDIENT) as name:
        code, kind, message = facts(ts.predict(name, b'{"do": "leave", "code": 3}'))
    assert (code, kind) == (500, "InternalServerException")
    assert message.startswith("Worker died.")


@pytest.mark.row("1.2-worker-died-batch", only="ours")
def test_a_batch_is_given_to_another_worker_when_its_own_dies(ts):
    with ts.registered(OBEDIENT, workers=2) as name, ts.wire() as wire:
        wire.send(request_bytes("POST", f"/predictions/{name}", b'{"do": "nap", "s": 2}', JSON))
        until(lambda: busy_worker(ts, name))
        first = busy_worker(ts, name)
        os.kill(first, signal.SIGKILL)
        answer = wire.answer()
    assert answer.status == 200
    assert answer.json != first


def busy_worker(ts, name):
    """Return the pid of the one worker of two that the other request does not get."""
    pids = {worker["pid"] for worker in ts.workers(name)}
    free = ts.predict(name, b'{"do": "pid"}').json
    return next(iter(pids - {free}))


@pytest.mark.row("1.2-oom-killed", only="ours")
def test_a_worker_killed_for_memory_is_500(ts):
    with ts.registered(OBEDIENT) as name:
        code, kind, message = facts(ts.predict(name, b'{"do": "leave", "code": 137}'))
    assert (code, kind) == (500, "InternalServerException")
    assert message.startswith("Worker died.")


@pytest.mark.row("1.2-response-timeout")
def test_no_answer_in_time_is_500(ts):
    with ts.registered(OBEDIENT, query={"response_timeout": 1}) as name:
        code, kind, message = facts(ts.predict(name, b'{"do": "nap", "s": 60}'))
    assert (code, kind) == (500, "InternalServerException")
    assert message.startswith("Worker died.")


@pytest.mark.row("1.2-client-timeout", "5-client-timeout", only="ours")
def test_a_client_whose_time_is_over_is_answered(ts):
    config = "minWorkers: 1\nmaxWorkers: 1\nclientTimeoutInMills: 300\n"
    with ts.registered(OBEDIENT, config=config) as name:
        code, kind, message = facts(ts.predict(name, b'{"do": "nap", "s": 3}'))
    assert (code, kind) == (500, "InternalServerException")
    assert "0.3 s" in message


@pytest.mark.row("1.2-response-too-large")
def test_an_answer_above_the_limit_is_500(ts):
    with ts.registered(OBEDIENT) as name:
        answer = ts.predict(name, b'{"do": "long", "length": 7000000}')
    assert facts(answer)[:2] == (500, "InternalServerException")


@pytest.mark.row("1.2-response-too-large-kill", only="ours")
def test_an_answer_above_the_limit_costs_no_worker(ask):
    pid = ask(do="pid").json
    assert "max_response_size (6553500 bytes)" in facts(ask(do="long", length=7000000))[2]
    assert ask(do="pid").json == pid


@pytest.mark.row("1.2-request-too-large")
def test_a_request_above_the_limit_is_413(ts, model):
    with ts.wire() as wire:
        head = request_bytes("POST", f"/predictions/{model}", None, {"Content-Length": "7000000"})
        wire.send(head)
        assert wire.answer().status == 413


@pytest.mark.row("1.2-request-too-large-body", only="ours")
def test_a_request_above_the_limit_is_told_which_limit(ts, model):
    with ts.wire() as wire:
        head = request_bytes("POST", f"/predictions/{model}", None, {"Content-Length": "7000000"})
        wire.send(head)
        code, kind, message = facts(wire.answer())
    assert (code, kind) == (413, "RequestEntityTooLargeException")
    assert "max_request_size (6553500 bytes)" in message


@pytest.mark.row("1.2-malformed")
def test_what_is_no_http_is_400(ts):
    with ts.wire() as wire:
        wire.send(b"this is no HTTP\r\n\r\n")
        answer = wire.answer()
        assert answer.status == 400
        assert answer.body == error(400, "BadRequestException", "Invalid HTTP message.")
        assert wire.is_closed()


@pytest.fixture(scope="module")
def strict(serve_module):
    """A server that wants keys."""
    return serve_module(
        config={"disable_token_authorization": "false"}, default_flags=("--enable-model-api",)
    )


@pytest.mark.row("1.2-token")
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_a_missing_or_wrong_key_is_400(strict, headers):
    answer = strict.inference("POST", "/predictions/any", b"{}", headers)
    assert answer.status == 400
    code, kind, message = facts(answer)
    assert (code, kind) == (400, "InvalidKeyException")
    assert message.startswith(
        "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
    )


@pytest.fixture(scope="module")
def narrow(serve_module):
    """A server whose queues hold one job."""
    return serve_module(config={"job_queue_size": "1"})


@pytest.fixture
def full(narrow):
    """A model with a request on its worker and one in its queue; a third one's answer."""
    with narrow.registered(OBEDIENT) as name:
        begun = narrow.place.folder / name
        said = json.dumps({"do": "nap", "s": 4, "touch": str(begun)}).encode()
        order = request_bytes("POST", f"/predictions/{name}", said, JSON)
        wires = [Wire.to_port(narrow.ports.inference) for _ in range(2)]
        wires[0].send(order)
        until(begun.exists)
        wires[1].send(order)
        until(lambda: pending(narrow, name) == 1)
        yield narrow.predict(name)
        for wire in wires:
            assert wire.answer().status == 200
            wire.close()


@pytest.mark.row("1.2-queue-full")
def test_a_full_queue_is_503(full):
    assert facts(full)[:2] == (503, "ServiceUnavailableException")


@pytest.mark.row("1.2-queue-full-text", only="ours")
def test_a_full_queue_names_itself_and_when_to_come_back(full):
    assert "has a full job queue (1 jobs)" in facts(full)[2]
    assert (full.header("retry-after"), full.header("connection")) == ("1", "keep-alive")
