"""Section 8: gRPC, with a client made of the .proto files that the target itself brings.

`PROTOS_OF=.venv-original` has clients of TorchServe's own files ask this runtime.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import grpc
import pytest

from tests.certificates import Certificate
from tests.compat.ts import new_name
from tests.grpc_client import (
    INFERENCE,
    MANAGEMENT,
    OPEN_INFERENCE,
    OPEN_INFERENCE_V2,
    Client,
    Failed,
    original_messages,
    our_messages,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

INTERNAL = "org.pytorch.serve.http.InternalServerException"
BAD_REQUEST = "org.pytorch.serve.http.BadRequestException"
NOT_FOUND = "org.pytorch.serve.archive.model.ModelNotFoundException"
VERSION_NOT_FOUND = "org.pytorch.serve.archive.model.ModelVersionNotFoundException"

HANDLER = """
    import os, time

    from ts.handler_utils.utils import send_intermediate_predict_response
    from ts.utils.util import PredictionException

    def told(value):
        if not isinstance(value, (bytes, bytearray)):
            return value
        return [type(value).__name__, value.decode("latin-1")]

    def handle(data, context):
        if data is None:
            return None
        return [answer(row, i, context) for i, row in enumerate(data)]

    def answer(row, i, context):
        headers = context.get_all_request_header(i)
        if headers.get("describe"):
            return {"about": "me"}
        wish = bytes(row.get("wish", b"")).decode()
        if wish == "raise":
            raise ValueError("boo")
        if wish == "code":
            raise PredictionException("nope", int(bytes(row["code"])))
        if wish == "memory":
            raise MemoryError
        if wish == "exit":
            os._exit(1)
        if wish == "sleep":
            time.sleep(3)
        if wish == "status":
            context.set_response_status(404, "gone", i)
            return "all the same"
        if wish == "bytes":
            return bytes(range(256))
        if wish == "stream":
            for piece in ("a", "b"):
                send_intermediate_predict_response(
                    [piece], context.request_ids, "Intermediate", 200, context
                )
            return "c"
        return {
            "row": {name: told(row[name]) for name in sorted(row)},
            "headers": {name: headers[name] for name in sorted(headers)},
        }
"""

OPEN = """
    import json

    def handle(data, context):
        if data is None:
            return None
        return [answer(row["body"]) for row in data]

    def answer(body):
        tensor = body["inputs"][0]
        return json.dumps({
            "id": body["id"],
            "model_name": body["model_name"],
            "model_version": "1.0",
            "outputs": [
                {**tensor, "name": "seen " + tensor["name"], "data": tensor.get("data", [])},
                {"name": "asked", "datatype": "BYTES", "shape": [1], "data": [json.dumps(body)]},
            ][: 1 if body["id"] == "one" else 2],
        })
"""


@contextmanager
def clients(server, *, wait=True):
    """Yield a client of the inference port and one of the management port, once both listen."""
    target = server.place.target
    theirs = os.environ.get("PROTOS_OF") or (None if target.is_ours else target.bin.parent)
    messages = original_messages(Path(theirs)) if theirs else our_messages()
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.ports.grpc_inference}") as inference,
        grpc.insecure_channel(f"127.0.0.1:{server.ports.grpc_management}") as management,
    ):
        if wait:
            for channel in (inference, management):
                grpc.channel_ready_future(channel).result(timeout=60)
        yield Client(messages, inference), Client(messages, management)


@pytest.fixture(scope="module")
def inference(ts):
    with clients(ts) as (client, _):
        yield client


@pytest.fixture(scope="module")
def management(ts):
    with clients(ts) as (_, client):
        yield client


@pytest.fixture(scope="module")
def model(ts):
    with ts.registered(HANDLER) as name:
        yield name


@pytest.mark.row("8-ping")
def test_ping_says_the_json_of_ping(inference):
    reply = inference.call(INFERENCE, "Ping")
    assert reply.health == '{\n  "status": "Healthy"\n}'


@pytest.mark.row("8-predictions")
def test_inputs_are_the_keys_of_the_row_and_never_decoded(inference, model):
    answer = inference.predict(model, body=b'{"a": 1}', other=b"\xff")
    assert json.loads(answer) == {
        "row": {"body": ["bytearray", '{"a": 1}'], "other": ["bytearray", "\xff"]},
        "headers": {"body": {"content-type": ""}, "other": {"content-type": ""}},
    }


@pytest.mark.row("8-predictions")
def test_a_call_without_inputs_is_an_empty_row(inference, model):
    assert json.loads(inference.predict(model)) == {"row": {}, "headers": {}}


@pytest.mark.row("8-predictions")
def test_metadata_of_the_call_is_no_header_of_the_request(inference, model):
    reply = inference.call(INFERENCE, "Predictions", (("x-mine", "1"),), model_name=model)
    assert json.loads(reply.prediction)["headers"] == {}


@pytest.mark.row("8-predictions")
def test_bytes_are_answered_as_they_are(inference, model):
    assert inference.predict(model, wish=b"bytes") == bytes(range(256))


@pytest.mark.row("8-predictions")
def test_a_status_that_a_handler_sets_is_not_seen(inference, model):
    assert inference.predict(model, wish=b"status") == b"all the same"


@pytest.mark.row("8-predictions")
def test_a_version_may_be_named(inference, model):
    reply = inference.call(INFERENCE, "Predictions", model_name=model, model_version="1.0")
    assert json.loads(reply.prediction)["row"] == {}


@pytest.mark.row("8-stream-predictions")
def test_pieces_come_one_by_one(inference, model):
    replies = inference.call(
        INFERENCE, "StreamPredictions", model_name=model, input={"wish": b"stream"}
    )
    assert [reply.prediction for reply in replies] == [b"a", b"b", b"c"]


@pytest.mark.row("8-stream-predictions")
def test_a_stream_fails_as_a_prediction_does(inference, model):
    failed = inference.call(
        INFERENCE, "StreamPredictions", model_name=model, input={"wish": b"raise"}
    )
    assert failed.code == "UNAVAILABLE"
    assert failed.details.startswith("Prediction failed")
    assert failed.details.endswith(f"\n{INTERNAL}")


@pytest.mark.row("8-stream-one-answer", only="ours")
def test_an_answer_in_one_piece_is_a_stream_of_one(inference, model):
    [reply] = inference.call(INFERENCE, "StreamPredictions", model_name=model)
    assert json.loads(reply.prediction)["row"] == {}


@pytest.mark.row("8-pieces-in-one-answer", only="ours")
def test_predictions_joins_the_pieces(inference, model):
    assert inference.predict(model, wish=b"stream") == b"abc"


class Dialog:
    """A stream both ways: a reply is read before the next request is sent."""

    def __init__(self, client: Client):
        self._client = client
        self._requests: Queue = Queue()
        stub = client.stub(INFERENCE, "StreamPredictions2")
        self._replies = stub(iter(self._requests.get, None), timeout=30)

    def say(self, **fields):
        self._requests.put(self._client.request(INFERENCE, "StreamPredictions", **fields))
        return next(self._replies)

    def end(self):
        self._requests.put(None)
        return list(self._replies)


SEQUENCES = """\
sequenceBatching: true
sequenceMaxIdleMSec: 20000
maxNumSequence: 4
maxSequenceJobQueueSize: 4
"""


@pytest.fixture(scope="module")
def stateful(ts):
    with ts.registered(HANDLER, config=SEQUENCES) as name:
        yield name


@pytest.mark.row("8-stream-predictions-2")
def test_requests_of_a_sequence_are_answered_over_one_stream(inference, stateful):
    dialog = Dialog(inference)
    for word in (b"x", b"y"):
        reply = dialog.say(model_name=stateful, sequence_id="s", input={"word": word})
        told = json.loads(reply.prediction)
        assert told["row"] == {"word": ["bytearray", word.decode()]}
        assert told["headers"]["ts_request_sequence_id"] == "s"
    assert dialog.end() == []


@pytest.mark.row("8-stream-predictions-2")
def test_a_request_that_names_no_sequence_is_told_in_its_reply(inference, stateful):
    reply = Dialog(inference).say(model_name=stateful)
    assert (reply.status.code, reply.status.message) == (13, "Parameter sequenceId is required.")
    [detail] = reply.status.details
    assert detail.type_url == "type.googleapis.com/google.rpc.ErrorInfo"
    assert detail.value == b"\n\x16BadRequestException.()"


@pytest.mark.row("8-stream-predictions-2")
def test_an_unknown_model_is_told_in_its_reply(inference):
    reply = Dialog(inference).say(model_name="nobody", sequence_id="s")
    assert (reply.status.code, reply.status.message) == (13, "Model not found: nobody")


@pytest.mark.row("8-sequence-goes-on", only="ours")
def test_a_sequence_goes_on_after_a_request_that_failed(inference, stateful):
    dialog = Dialog(inference)
    failed = dialog.say(model_name=stateful, sequence_id="t", input={"wish": b"raise"})
    assert failed.status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    answered = dialog.say(model_name=stateful, sequence_id="t")
    assert json.loads(answered.prediction)["row"] == {}
    assert dialog.end() == []


@pytest.mark.row("8-sequence-goes-on", only="ours")
def test_only_a_request_that_says_so_ends_its_sequence(inference, stateful):
    dialog = Dialog(inference)
    goes_on = dialog.say(model_name=stateful, sequence_id="u")
    assert "ts_request_sequence_end" not in json.loads(goes_on.prediction)["headers"]
    end = {"ts_request_sequence_end": b"true"}
    ends = dialog.say(model_name=stateful, sequence_id="u", input=end)
    assert json.loads(ends.prediction)["headers"]["ts_request_sequence_end"] == "true"


@pytest.mark.row("8-sequence-goes-on", only="ours")
def test_a_sequence_may_be_given_its_id(inference, stateful):
    start = {"ts_request_sequence_start": b"true"}
    reply = Dialog(inference).say(model_name=stateful, input=start)
    assert reply.sequence_id.startswith("ts-seq-")
    told = json.loads(reply.prediction)["headers"]
    assert told["ts_request_sequence_id"] == reply.sequence_id


# management


@pytest.mark.row("8-management")
def test_describe_is_the_json_of_rest(ts, management, model):
    rest = ts.manage("GET", f"/models/{model}").text
    assert json.loads(management.manage("DescribeModel", model_name=model)) == json.loads(rest)


@pytest.mark.row("8-management")
def test_json_in_msg_is_indented_and_has_no_final_newline(management, model):
    msg = management.manage("DescribeModel", model_name=model)
    assert msg.startswith('[\n  {\n    "modelName": "')
    assert msg.endswith("\n]")


@pytest.mark.row("8-management")
def test_describe_asks_the_handler_where_told_to(management, model):
    msg = management.manage("DescribeModel", model_name=model, customized=True)
    assert json.loads(msg)[0]["customizedMetadata"] == {"about": "me"}


@pytest.mark.row("8-management")
def test_describe_all_asks_no_handler(management, model):
    all_versions = {"model_name": model, "model_version": "all", "customized": True}
    msg = management.manage("DescribeModel", **all_versions)
    assert "customizedMetadata" not in json.loads(msg)[0]


@pytest.mark.row("8-management")
def test_a_model_is_registered_scaled_and_unregistered_in_the_words_of_rest(ts, management):
    name, archive = new_name(), ts.add_archive(HANDLER)
    said = [
        management.manage(
            "RegisterModel", url=archive, model_name=name, initial_workers=1, synchronous=True
        ),
        management.manage("ScaleWorker", model_name=name, min_worker=2, synchronous=True),
        management.manage(
            "ScaleWorker", model_name=name, model_version="1.0", min_worker=1, synchronous=True
        ),
        management.manage("ScaleWorker", model_name=name, min_worker=1),
        management.manage("SetDefault", model_name=name, model_version="1.0"),
        management.manage("UnregisterModel", model_name=name),
    ]
    assert said == [
        f'Model "{name}" Version: 1.0 registered with 1 initial workers',
        f"Workers scaled to 2 for model: {name}",
        f"Workers scaled to 1 for model: {name}, version: 1.0",
        "Processing worker updates...",
        f'Default version successfully updated for model "{name}" to "1.0"',
        f'Model "{name}" unregistered',
    ]


@pytest.mark.row("8-management")
def test_registering_takes_every_field(ts, management):
    name, archive = new_name(), ts.add_archive(HANDLER)
    wishes = {
        "batch_size": 3,
        "initial_workers": 1,
        "max_batch_delay": 50,
        "response_timeout": 7,
        "startup_timeout": 33,
    }
    management.manage("RegisterModel", url=archive, model_name=name, synchronous=True, **wishes)
    told = json.loads(management.manage("DescribeModel", model_name=name))[0]
    management.manage("UnregisterModel", model_name=name)
    keys = ("batchSize", "minWorkers", "maxBatchDelay", "responseTimeout", "startupTimeout")
    assert [told[key] for key in keys] == [3, 1, 50, 7, 33]


REFUSED = [
    ("DescribeModel", {"model_name": "nobody"}, "NOT_FOUND", "Model not found: nobody", NOT_FOUND),
    ("DescribeModel", {}, "NOT_FOUND", "Model not found: ", NOT_FOUND),
    (
        "DescribeModel",
        {"model_name": "nobody", "customized": True},
        "INTERNAL",
        "Model not found: nobody",
        NOT_FOUND,
    ),
    ("RegisterModel", {}, "INVALID_ARGUMENT", "Parameter url is required.", BAD_REQUEST),
    (
        "RegisterModel",
        {"url": "gone.mar"},
        "NOT_FOUND",
        "Model not found at: gone.mar",
        NOT_FOUND,
    ),
    (
        "RegisterModel",
        {"url": "gone.mar", "runtime": "java"},
        "INVALID_ARGUMENT",
        "Invalid RuntimeType value: java",
        BAD_REQUEST,
    ),
    (
        "ScaleWorker",
        {"model_name": "nobody", "min_worker": 1},
        "NOT_FOUND",
        "Model not found: nobody",
        NOT_FOUND,
    ),
    (
        "SetDefault",
        {"model_name": "nobody", "model_version": "1"},
        "NOT_FOUND",
        "Model not found: nobody",
        NOT_FOUND,
    ),
    ("SetDefault", {}, "NOT_FOUND", "Model not found: ", NOT_FOUND),
    (
        "UnregisterModel",
        {"model_name": "nobody"},
        "NOT_FOUND",
        "Model not found: nobody",
        NOT_FOUND,
    ),
    ("UnregisterModel", {}, "INVALID_ARGUMENT", "Parameter url is required.", BAD_REQUEST),
]


@pytest.mark.row("8-management", "8-status")
@pytest.mark.parametrize(("method", "fields", "code", "message", "kind"), REFUSED)
def test_a_management_call_is_refused_by_code_text_and_type(
    management, method, fields, code, message, kind
):
    assert management.manage(method, **fields) == Failed(code, f"{message}\n{kind}")


@pytest.mark.row("8-management", "8-status")
@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("DescribeModel", "Model version: 9 does not exist for model: {}"),
        ("ScaleWorker", "Model version: 9 does not exist for model: {}"),
        ("SetDefault", "Model version 9 does not exist for model {}"),
        ("UnregisterModel", "Model version: 9 does not exist for model: {}"),
    ],
)
def test_an_unknown_version_is_not_found(management, model, method, message):
    failed = management.manage(method, model_name=model, model_version="9")
    assert failed == Failed("NOT_FOUND", f"{message.format(model)}\n{VERSION_NOT_FOUND}")


@pytest.mark.row("8-management", "8-status")
def test_a_default_version_without_a_name_is_not_found(management, model):
    failed = management.manage("SetDefault", model_name=model)
    message = f"Model version  does not exist for model {model}"
    assert failed == Failed("NOT_FOUND", f"{message}\n{VERSION_NOT_FOUND}")


@pytest.mark.row("8-management", "8-status")
def test_bounds_that_cannot_be_are_invalid(management, model):
    failed = management.manage("ScaleWorker", model_name=model, min_worker=2, max_worker=1)
    message = "max_worker cannot be less than min_worker."
    assert failed == Failed("INVALID_ARGUMENT", f"{message}\n{BAD_REQUEST}")


@pytest.mark.row("8-management-defaults")
def test_a_list_without_a_limit_is_an_empty_page(management, model):
    assert model
    assert management.manage("ListModels") == '{\n  "nextPageToken": "0",\n  "models": []\n}'


@pytest.mark.row("8-management-defaults")
@pytest.mark.parametrize("limit", [100, -1, 101])
def test_a_limit_that_cannot_be_is_a_hundred(management, model, limit):
    listed = json.loads(management.manage("ListModels", limit=limit))["models"]
    assert model in [it["modelName"] for it in listed]


@pytest.mark.row("8-management-defaults")
@pytest.mark.parametrize("fields", [{}, {"min_worker": 0}, {"min_worker": -2}])
def test_scaling_to_nothing_said_is_one_worker_and_not_waited_for(ts, management, model, fields):
    said = management.manage("ScaleWorker", model_name=model, **fields)
    assert said == "Processing worker updates..."
    ts.wait_for_workers(model, 1)


@pytest.fixture(scope="module")
def one_worker_each(serve_module):
    """A server that gives a model one worker where nobody says how many."""
    return serve_module(config={"default_workers_per_model": "1"})


@pytest.mark.row("8-management-defaults")
def test_no_workers_said_are_as_many_as_the_server_gives(one_worker_each):
    archive = one_worker_each.add_archive(HANDLER, "usual")
    with clients(one_worker_each) as (_, management):
        said = management.manage("RegisterModel", url=archive)
    assert said == "Processing worker updates..."
    one_worker_each.wait_for_workers("usual", 1)


# statuses


@pytest.mark.row("8-status")
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
        (422, "FAILED_PRECONDITION"),
        (429, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (502, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (302, "UNKNOWN"),
    ],
)
def test_a_status_of_the_handlers_own_becomes_a_code(inference, model, status, code):
    failed = inference.predict(model, wish=b"code", code=str(status).encode())
    assert failed == Failed(code, f"nope\n{INTERNAL}")


@pytest.mark.row("8-status")
def test_a_handler_that_raises_is_unavailable(inference, model):
    failed = inference.predict(model, wish=b"raise")
    assert failed.code == "UNAVAILABLE"
    assert failed.details.startswith("Prediction failed")
    assert failed.details.endswith(f"\n{INTERNAL}")


@pytest.mark.row("8-status")
def test_a_worker_that_dies_is_internal_and_the_next_call_is_answered(ts, inference, model):
    failed = inference.predict(model, wish=b"exit")
    assert failed.code == "INTERNAL"
    assert failed.details.startswith("Worker died")
    assert failed.details.endswith(f"\n{INTERNAL}")
    ts.wait_for_workers(model, 1)
    assert json.loads(inference.predict(model))["row"] == {}


@pytest.mark.row("8-status-odd")
@pytest.mark.parametrize("method", ["Predictions", "StreamPredictions"])
def test_an_unknown_model_is_internal_where_a_prediction_is_asked_for(inference, method):
    failed = inference.call(INFERENCE, method, model_name="nobody")
    assert failed == Failed("INTERNAL", f"Model not found: nobody\n{NOT_FOUND}")


@pytest.mark.row("8-status-odd")
def test_a_prediction_of_nobody_names_the_field(inference):
    message = "Parameter model_name is required.\nBadRequestException.()"
    assert inference.predict("") == Failed("INTERNAL", message)


@pytest.mark.row("8-status-odd")
def test_a_version_that_is_registered_already_is_unknown(ts, management):
    with ts.registered(HANDLER, "twice") as name:
        archive = ts.add_archive(HANDLER, name)
        assert management.manage("RegisterModel", url=archive).code == "UNKNOWN"


@pytest.mark.row("8-status-odd")
def test_a_default_version_that_must_stay_is_unknown(ts, management):
    with ts.registered(HANDLER, "kept") as name:
        second = ts.add_archive(HANDLER, name, version="2.0")
        ts.manage("POST", "/models", url=second)
        assert management.manage("UnregisterModel", model_name=name).code == "UNKNOWN"
        assert not isinstance(
            management.manage("UnregisterModel", model_name=name, model_version="2.0"), Failed
        )


@pytest.mark.row("8-status-odd")
def test_out_of_memory_is_internal(inference, model):
    failed = inference.predict(model, wish=b"memory")
    assert failed.code == "INTERNAL"
    assert failed.details.startswith("Out of resources")


@pytest.mark.row("8-status-odd")
def test_a_model_without_workers_is_internal(ts, inference):
    with ts.registered(HANDLER, "idle", workers=0) as name:
        failed = inference.predict(name)
    assert failed.code == "INTERNAL"
    assert failed.details.startswith(f'Model "{name}"')
    assert "has no worker to serve inference request." in failed.details
    assert failed.details.endswith("\nInternalServerException.()")


@pytest.mark.row("8-status-says-why", only="ours")
def test_what_is_unknown_says_why(ts, management):
    with ts.registered(HANDLER, "again") as name:
        failed = management.manage("RegisterModel", url=ts.add_archive(HANDLER, name))
    assert failed.details.startswith(f"Model version 1.0 is already registered for model {name}\n")


@pytest.mark.row("8-too-large", only="ours")
def test_a_message_beyond_the_limit_is_told_so(serve):
    server = serve(config={"max_request_size": "100000"})
    with clients(server) as (client, _):
        failed = client.predict("any", data=bytes(200_000))
    assert failed.code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in failed.details


# keys, switches, TLS


@pytest.mark.row("2.4-grpc")
def test_keys_are_metadata_and_a_wrong_one_is_permission_denied(serve):
    server = serve(config={"disable_token_authorization": "false"}, default_flags=())
    with clients(server) as (inference, management):
        keys = json.loads((server.place.folder / "key_file.json").read_text())
        for client, service, method, kind, other in (
            (inference, INFERENCE, "Predictions", "inference", "management"),
            (management, MANAGEMENT, "ListModels", "management", "inference"),
        ):
            right, wrong = (f"Bearer {keys[key]['key']}" for key in (kind, other))
            for sent in ((), (("authorization", wrong),), (("authorization", right[7:]),)):
                failed = client.call(service, method, sent)
                assert failed.code == "PERMISSION_DENIED"
                assert failed.details.startswith(
                    "Token Authorization failed. Token either incorrect, expired, or not provided"
                )
            answer = client.call(service, method, (("authorization", right),))
            assert getattr(answer, "code", None) != "PERMISSION_DENIED"


def channel_to(server, host):
    return grpc.insecure_channel(f"{host}:{server.ports.grpc_inference}")


@pytest.mark.row("4.2-grpc-addresses", "4.2-grpc-ports")
def test_an_address_of_its_own_is_the_only_one(serve):
    server = serve(config={"grpc_inference_address": "127.0.0.2"})
    with clients(server, wait=False) as (elsewhere, management):
        messages = management.messages
        grpc.channel_ready_future(management.channel).result(timeout=60)
        with channel_to(server, "127.0.0.2") as channel:
            assert Client(messages, channel).call(INFERENCE, "Ping").health
        assert elsewhere.call(INFERENCE, "Ping").code == "UNAVAILABLE"
        assert json.loads(management.manage("ListModels", limit=1)) == {"models": []}


@pytest.mark.row("4.2-grpc-connection-age")
def test_a_connection_that_is_too_old_is_closed_after_its_grace(serve):
    ages = {
        "grpc_inference_max_connection_age_ms": "1000",
        "grpc_inference_max_connection_age_grace_ms": "500",
    }
    server = serve(config=ages)
    with server.registered(HANDLER) as name, clients(server) as (client, _):
        assert client.predict(name, wish=b"sleep").code == "UNAVAILABLE"
        assert client.call(INFERENCE, "Ping").health


@pytest.mark.row("4.2-grpc-ssl")
def test_enable_grpc_ssl_shows_the_certificate_of_https(serve):
    def write(place):
        Certificate.for_localhost().write(place.folder)

    files = {"private_key_file": "key.pem", "certificate_file": "certificate.pem"}
    server = serve(config={"enable_grpc_ssl": "true", **files}, prepare=write)
    trusted = (server.place.folder / "certificate.pem").read_bytes()
    with clients(server, wait=False) as (plain, management):
        for service, method, port in (
            (INFERENCE, "Ping", server.ports.grpc_inference),
            (MANAGEMENT, "ListModels", server.ports.grpc_management),
        ):
            credentials = grpc.ssl_channel_credentials(trusted)
            with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
                grpc.channel_ready_future(channel).result(timeout=60)
                reply = Client(management.messages, channel).call(service, method)
            assert not isinstance(reply, Failed)
        assert plain.call(INFERENCE, "Ping").code == "UNAVAILABLE"


@pytest.mark.row("8-model-api-off")
def test_the_model_api_that_is_off_is_permission_denied(serve):
    flags = ("--disable-token-auth",)
    server = serve(config={"enable_model_api": "false"}, default_flags=flags)
    with clients(server) as (_, management):
        for method, fields in (("RegisterModel", {"url": "x"}), ("UnregisterModel", {})):
            assert management.manage(method, **fields) == Failed(
                "PERMISSION_DENIED",
                "Model API disabled\norg.pytorch.serve.archive.model.ModelException",
            )


def test_health_and_reflection_are_beside_every_service(inference, management):
    """Not TorchServe's: probes and tools need them."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # noqa: PLC0415
        ProtoReflectionDescriptorDatabase,
    )

    for client, service in ((inference, INFERENCE), (management, MANAGEMENT)):
        health = health_pb2_grpc.HealthStub(client.channel)
        for asked in ("", service):
            reply = health.Check(health_pb2.HealthCheckRequest(service=asked), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        tools = ProtoReflectionDescriptorDatabase(client.channel)
        assert service in tools.get_services()
        described = tools.FindFileContainingSymbol(service)
        assert described.package == service.rpartition(".")[0]


# the Open Inference Protocol


@pytest.fixture(scope="module")
def open_server(serve_module):
    return serve_module(config={"ts_open_inference_protocol": "true"})


@pytest.fixture(scope="module")
def open_model(open_server):
    with open_server.registered(OPEN) as name:
        yield name


@pytest.fixture(scope="module")
def open_inference(open_server):
    with clients(open_server) as (client, _):
        yield client


CONTENTS = [
    ("BOOL", {"bool_contents": [True, False]}),
    ("INT8", {"int_contents": [1, -2]}),
    ("INT16", {"int_contents": [1, -2]}),
    ("INT32", {"int_contents": [2**31 - 1]}),
    ("INT64", {"int64_contents": [2**60]}),
    ("UINT8", {"uint_contents": [255]}),
    ("UINT32", {"uint_contents": [2**32 - 1]}),
    ("FP32", {"fp32_contents": [1.5, 0.25]}),
    ("FP64", {"fp64_contents": [1.5, 1 / 3]}),
]


def infer(client, name, datatype, contents, service=OPEN_INFERENCE, **more):
    length = len(next(iter(contents.values()))) if contents else 1
    tensor = {"name": "i", "datatype": datatype, "shape": [length], "contents": contents}
    return client.call(service, "ModelInfer", model_name=name, inputs=[tensor], **more)


@pytest.mark.row("8-oip")
@pytest.mark.parametrize(("datatype", "contents"), CONTENTS)
def test_a_tensor_reaches_the_handler_and_comes_back(
    open_inference, open_model, datatype, contents
):
    reply = infer(open_inference, open_model, datatype, contents, id="one")
    [output] = reply.outputs
    [(field, elements)] = contents.items()
    assert (reply.id, reply.model_name, reply.model_version) == ("one", open_model, "1.0")
    assert (output.name, output.datatype) == ("seen i", datatype)
    assert list(output.shape) == [len(elements)]
    assert list(getattr(output.contents, field)) == elements


@pytest.mark.row("8-oip")
def test_bytes_reach_the_handler_in_base64_and_come_back_as_json_text(open_inference, open_model):
    reply = infer(open_inference, open_model, "BYTES", {"bytes_contents": [b"abc", b"\xff"]})
    assert list(reply.outputs[0].contents.bytes_contents) == [b'"YWJj"', b'"/w=="']


@pytest.mark.row("8-oip")
def test_the_handler_gets_the_request_as_the_json_of_rest(open_inference, open_model):
    reply = infer(open_inference, open_model, "INT32", {"int_contents": [7]}, id="two")
    text = json.loads(json.loads(reply.outputs[1].contents.bytes_contents[0]))
    assert text == {
        "id": "two",
        "model_name": open_model,
        "inputs": [{"name": "i", "datatype": "INT32", "shape": [1], "data": [7]}],
    }


@pytest.mark.row("8-oip")
def test_the_server_is_live_and_ready(open_inference):
    assert open_inference.call(OPEN_INFERENCE, "ServerLive").live
    assert open_inference.call(OPEN_INFERENCE, "ServerReady").ready


@pytest.mark.row("8-oip")
def test_a_model_says_whether_it_is_ready_and_in_which_versions(open_inference, open_model):
    assert open_inference.call(OPEN_INFERENCE, "ModelReady", name=open_model).ready
    told = open_inference.call(OPEN_INFERENCE, "ModelMetadata", name=open_model)
    assert (told.name, list(told.versions), told.platform) == (open_model, ["1.0"], "")


@pytest.mark.row("8-oip")
@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
def test_a_question_about_an_unknown_model_is_not_found(open_inference, open_model, method):
    unknown = open_inference.call(OPEN_INFERENCE, method, name="nobody")
    assert unknown == Failed("NOT_FOUND", f"Model not found: nobody\n{NOT_FOUND}")
    version = open_inference.call(OPEN_INFERENCE, method, name=open_model, version="9")
    message = f"Model version: 9 does not exist for model: {open_model}"
    assert version == Failed("NOT_FOUND", f"{message}\n{VERSION_NOT_FOUND}")


@pytest.mark.row("8-oip")
@pytest.mark.parametrize(
    ("method", "parameter"),
    [("ModelReady", "name"), ("ModelMetadata", "model_name"), ("ModelInfer", "model_name")],
)
def test_a_question_about_nobody_names_the_field(open_inference, method, parameter):
    failed = open_inference.call(OPEN_INFERENCE, method)
    message = f"Parameter {parameter} is required.\nBadRequestException.()"
    assert failed == Failed("INTERNAL", message)


@pytest.mark.row("8-oip")
def test_inference_by_an_unknown_model_is_internal(open_inference):
    failed = infer(open_inference, "nobody", "FP32", {"fp32_contents": [1]})
    assert failed == Failed("INTERNAL", f"Model not found: nobody\n{NOT_FOUND}")


@pytest.mark.row("8-oip-by-default", only="ours")
def test_the_protocol_needs_no_switch(inference):
    assert inference.call(OPEN_INFERENCE, "ServerLive").live


@pytest.mark.row("8-oip-server-metadata", only="ours")
@pytest.mark.parametrize("service", [OPEN_INFERENCE, OPEN_INFERENCE_V2])
def test_the_server_says_what_it_is(inference, service):
    told = inference.call(service, "ServerMetadata")
    assert (told.name, told.version) == ("Torchserve", "0.12.0")
    assert list(told.extensions) == ["kserve", "kubeflow"]


@pytest.mark.row("8-oip-raw", only="ours")
@pytest.mark.parametrize("service", [OPEN_INFERENCE, OPEN_INFERENCE_V2])
@pytest.mark.parametrize(
    ("datatype", "raw"),
    [
        ("FP32", b"\0\0\x80?\0\0\0@"),
        ("FP16", b"\0<\0@"),
        ("BF16", b"\x80?\0@"),
        ("INT64", b"\1" + bytes(15)),
        ("BOOL", b"\1\0"),
    ],
)
def test_raw_tensors_come_back_raw(open_inference, open_model, service, datatype, raw):
    tensor = {"name": "i", "datatype": datatype, "shape": [2]}
    wishes = {"inputs": [tensor], "raw_input_contents": [raw], "id": "one"}
    reply = open_inference.call(service, "ModelInfer", model_name=open_model, **wishes)
    assert list(reply.raw_output_contents) == [raw]
    assert not reply.outputs[0].HasField("contents")


@pytest.mark.row("8-oip-raw", only="ours")
@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        pytest.param({"raw_input_contents": []}, "", id="contents are fine"),
        pytest.param({"raw_input_contents": [b"1234"]}, "'i': it has contents although", id="both"),
        pytest.param({"raw_input_contents": [b"", b""]}, "has 2 items for 1 inputs", id="too many"),
    ],
)
def test_raw_contents_that_do_not_fit_are_invalid(open_inference, open_model, wishes, says):
    reply = infer(open_inference, open_model, "FP32", {"fp32_contents": [1]}, **wishes)
    if says:
        assert reply.code == "INVALID_ARGUMENT"
        assert says in reply.details
    else:
        assert reply.outputs[0].contents.fp32_contents == [1]


@pytest.mark.row("8-oip-v2", only="ours")
def test_under_the_protocols_own_name_bytes_are_text(open_inference, open_model):
    words = {"bytes_contents": ["wörd".encode(), b"abc"]}
    reply = infer(open_inference, open_model, "BYTES", words, OPEN_INFERENCE_V2, id="one")
    assert list(reply.outputs[0].contents.bytes_contents) == words["bytes_contents"]


@pytest.mark.row("8-oip-v2", only="ours")
def test_bytes_that_are_no_text_are_invalid_and_named(open_inference, open_model):
    words = {"bytes_contents": [b"\xff"]}
    failed = infer(open_inference, open_model, "BYTES", words, OPEN_INFERENCE_V2)
    assert failed.code == "INVALID_ARGUMENT"
    assert failed.details.startswith("input 'i': an element of BYTES is not UTF-8 text")


@pytest.mark.row("8-oip-answers", only="ours")
def test_a_handler_that_answers_something_else_is_told_by_name(inference, model):
    failed = infer(inference, model, "FP32", {"fp32_contents": [1]})
    assert failed.code == "INTERNAL"
    assert failed.details.startswith(f"Model {model} did not answer in the form of the Open")


@pytest.mark.row("8-oip-answers", only="ours")
def test_large_unsigned_numbers_and_not_a_number_stay_what_they_are(open_inference, open_model):
    big = infer(open_inference, open_model, "UINT64", {"uint64_contents": [2**64 - 1]}, id="one")
    assert list(big.outputs[0].contents.uint64_contents) == [2**64 - 1]
    odd = {"fp64_contents": [float("nan"), float("inf")]}
    reply = infer(open_inference, open_model, "FP64", odd, id="one")
    assert str(list(reply.outputs[0].contents.fp64_contents)) == "[nan, inf]"


@pytest.mark.row("8-access-log")
def test_a_call_is_a_line_of_the_access_log(ts, inference):
    inference.call(INFERENCE, "Predictions", model_name="nobody")
    needed = '"gRPC org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions HTTP/2.0" 13 '
    deadline = time.monotonic() + 20
    while needed not in ts.log("access_log.log"):
        assert time.monotonic() < deadline
        threading.Event().wait(0.1)
