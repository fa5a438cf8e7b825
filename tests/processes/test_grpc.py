"""gRPC on a real runtime: who leaves, who is late, who does not read, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.compat.server import serving, until, write_archive
from tests.grpc_client import INFERENCE, MANAGEMENT, Client, Failed, our_messages

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

HANDLER = """
import os
import time

from ts.handler_utils.utils import send_intermediate_predict_response

def handle(data, context):
    if data is None:
        return None
    return [answer(row, context) for row in data]

def answer(row, context):
    wish = bytes(row.get("wish", b"")).decode()
    if wish == "sleep":
        open(bytes(row["seen"]), "w").close()
        time.sleep(float(bytes(row["seconds"])))
    if wish == "size":
        return str(len(row["data"]))
    if wish == "stream":
        for number in range(int(bytes(row["count"]))):
            piece = bytes(row.get("fill", b"")) + str(number).encode()
            with open(bytes(row["seen"]), "w") as seen:
                seen.write(str(number))
            send_intermediate_predict_response([piece], context.request_ids, "", 200, context)
            time.sleep(float(bytes(row.get("pause", b"0"))))
        return "end"
    return str(os.getpid())
"""
ONE_WORKER = "minWorkers: 1\nmaxWorkers: 1\n"
ADDRESSES = tuple(
    word
    for role in ("inference", "management", "metrics", "grpc-inference", "grpc-management")
    for word in (f"--{role}-address", "127.0.0.1:0")
)


@contextmanager
def serving_grpc(folder, *flags, config=ONE_WORKER):
    """Run the model "m"; yield the server and a client of each gRPC port."""
    archive = write_archive(folder / "store", "m", handler=HANDLER, config=config)
    with (
        serving(folder, "--models", archive, *flags, addresses=ADDRESSES) as server,
        grpc.insecure_channel(server.grpc_inference) as inference,
        grpc.insecure_channel(server.grpc_management) as management,
    ):
        for channel in (inference, management):
            grpc.channel_ready_future(channel).result(timeout=30)
        clients = Client(our_messages(), inference), Client(our_messages(), management)
        until(lambda: isinstance(clients[0].predict("m"), bytes))
        yield server, *clients


def sleeping(folder, seconds):
    """Return the inputs that keep a worker busy; the file `began` tells that it is."""
    began = str(folder / "began").encode()
    return {"wish": b"sleep", "seconds": str(seconds).encode(), "seen": began}


def begin(client, inputs):
    """Make a call without waiting for its answer."""
    request = client.request(INFERENCE, "Predictions", model_name="m", input=inputs)
    return client.stub(INFERENCE, "Predictions").future(request)


def started(server):
    """Return how often workers were started."""
    return [line["event"] for line in server.lines()].count("worker ready")


def test_http_answers_before_grpc_is_imported(tmp_path):
    with serving_grpc(tmp_path) as (server, *_):
        events = [line["event"] for line in server.lines()]
        assert events.index("listening") < events.index("listening for gRPC")


def test_a_client_whose_deadline_passes_costs_no_worker_and_holds_nobody_up(tmp_path):
    with serving_grpc(tmp_path) as (server, client, _):
        failed = client.predict("m", 0.3, **sleeping(tmp_path, 1))
        assert failed.code == "DEADLINE_EXCEEDED"
        began = time.monotonic()
        assert client.predict("m").isdigit()
        assert time.monotonic() - began < 5
        assert started(server) == 1


def test_a_waiting_call_whose_client_leaves_is_never_run(tmp_path):
    seen = tmp_path / "seen"
    with serving_grpc(tmp_path) as (_, client, _):
        busy = begin(client, sleeping(tmp_path, 1))
        until((tmp_path / "began").exists)
        inputs = {"wish": b"stream", "count": b"1", "seen": str(seen).encode()}
        gone = client.stub(INFERENCE, "StreamPredictions")(
            client.request(INFERENCE, "StreamPredictions", model_name="m", input=inputs)
        )
        gone.cancel()
        busy.result(timeout=30)
        assert client.predict("m").isdigit()
        assert not seen.exists()


def test_a_client_that_leaves_a_stream_frees_the_worker(tmp_path):
    seen = tmp_path / "seen"
    with serving_grpc(tmp_path) as (server, client, _):
        inputs = {
            "wish": b"stream",
            "count": b"1000",
            "pause": b"0.02",
            "seen": str(seen).encode(),
        }
        request = client.request(INFERENCE, "StreamPredictions", model_name="m", input=inputs)
        stream = client.stub(INFERENCE, "StreamPredictions")(request)
        assert next(stream).prediction == b"0"
        stream.cancel()
        began = time.monotonic()
        assert client.predict("m").isdigit()
        assert time.monotonic() - began < 10  # the stream would have gone on for 20 s
        assert started(server) == 1


def test_a_slow_reader_slows_its_handler(tmp_path):
    seen = tmp_path / "seen"
    pieces, size = 400, 100_000
    with serving_grpc(tmp_path) as (_, client, _):
        inputs = {
            "wish": b"stream",
            "count": str(pieces).encode(),
            "fill": bytes(size),
            "seen": str(seen).encode(),
        }
        request = client.request(INFERENCE, "StreamPredictions", model_name="m", input=inputs)
        stream = client.stub(INFERENCE, "StreamPredictions")(request)
        next(stream)
        standing = until(lambda: stands_still(seen), 30)
        assert standing < pieces - 1
        assert sum(1 for _ in stream) == pieces


def stands_still(seen):
    """Return how far the handler is, once that does not change for a while."""
    before = seen.read_text()
    threading.Event().wait(0.7)
    return int(before) if before and before == seen.read_text() else 0


def test_a_big_input_reaches_the_handler_whole(tmp_path):
    with serving_grpc(tmp_path) as (_, client, _):
        assert client.predict("m", wish=b"size", data=bytes(3_000_000)) == b"3000000"


def test_what_is_beyond_the_limit_harms_no_other_call(tmp_path):
    with serving_grpc(tmp_path) as (server, client, _):
        failed = client.predict("m", wish=b"size", data=bytes(7_000_000))
        assert failed.code == "RESOURCE_EXHAUSTED"
        assert client.predict("m").isdigit()
        assert started(server) == 1


def test_garbage_on_the_port_harms_nobody(tmp_path):
    import socket  # noqa: PLC0415

    with serving_grpc(tmp_path) as (server, client, _):
        host, _, port = server.grpc_inference.rpartition(":")
        with socket.create_connection((host, int(port))) as wire:
            wire.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(100_000))
        broken = client.channel.unary_unary(f"/{INFERENCE}/Predictions")
        with pytest.raises(grpc.RpcError) as refused:
            broken(b"\xff\xff\xff\xff", timeout=10)
        assert refused.value.code() is grpc.StatusCode.INTERNAL
        assert client.predict("m").isdigit()


def test_no_answer_is_lost_while_it_ends(tmp_path):
    with serving_grpc(tmp_path, config=f"{ONE_WORKER}batchSize: 4\n") as (server, client, _):
        answers: list[object] = []

        def ask_until_it_ends():
            while not isinstance(answer := client.predict("m", 20), Failed):
                answers.append(answer)
            return answer

        with ThreadPoolExecutor(8) as callers:
            asking = [callers.submit(ask_until_it_ends) for _ in range(8)]
            until(lambda: len(answers) > 200)
            server.process.send_signal(signal.SIGTERM)
            ends = [it.result(timeout=60) for it in asking]
        assert server.process.wait(30) == 0
    # What was not accepted any more is refused as such; what was accepted is answered.
    assert {end.code for end in ends} == {"UNAVAILABLE"}, ends


def test_what_runs_is_answered_before_it_ends_and_idle_streams_do_not_delay_it(tmp_path):
    with serving_grpc(tmp_path) as (server, client, management):
        watching = health_pb2_grpc.HealthStub(management.channel).Watch(
            health_pb2.HealthCheckRequest()
        )
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        hold = threading.Event()
        idle = client.stub(INFERENCE, "StreamPredictions2")(iter(lambda: hold.wait() or None, None))
        running = begin(client, sleeping(tmp_path, 1))
        until((tmp_path / "began").exists)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert running.result(timeout=30).prediction.isdigit()
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 10
        assert [it.status for it in watching][-1:] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert list(idle) == []
        hold.set()


def test_a_second_signal_ends_it_at_once(tmp_path):
    with serving_grpc(tmp_path) as (server, client, _):
        running = begin(client, sleeping(tmp_path, 25))
        until((tmp_path / "began").exists)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "draining" in [line["event"] for line in server.lines()])
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert running.exception(timeout=30) is not None
        assert time.monotonic() - began < 15  # and not 25
        assert server.process.wait(30) == 0


def test_health_follows_readiness(tmp_path):
    with serving_grpc(tmp_path) as (server, client, management):
        health = health_pb2_grpc.HealthStub(client.channel)
        watching = health.Watch(health_pb2.HealthCheckRequest(service=INFERENCE))
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        assert server.manage("POST", "/drain").status == 202
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        watching.cancel()
        assert management.manage("ListModels", limit=5)


def test_a_registration_goes_on_when_its_client_leaves(tmp_path):
    slow = "import time\ntime.sleep(1.5)\n" + HANDLER
    with serving_grpc(tmp_path) as (server, _, management):
        archive = write_archive(tmp_path / "store", "late", handler=slow)
        wishes = {"url": archive, "initial_workers": 1, "synchronous": True}
        failed = management.call(MANAGEMENT, "RegisterModel", _timeout_s=0.5, **wishes)
        assert failed.code == "DEADLINE_EXCEEDED"
        until(lambda: server.predict("late").status == 200)


def test_a_strangers_management_call_is_refused(tmp_path):
    """TorchServe's strict mode: the management key, and no other, opens the management port."""
    config = tmp_path / "config.properties"
    config.write_text("disable_token_authorization=false\n")
    with serving(tmp_path, "--ts-config", str(config), addresses=ADDRESSES) as server:
        keys = json.loads((tmp_path / "state" / "key_file.json").read_text())
        with grpc.insecure_channel(server.grpc_management) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
            client = Client(our_messages(), channel)
            for sent in ("", "Bearer x", f"Bearer {keys['inference']['key']}", "Bearer \u00fc"):
                metadata = (("authorization", sent),) if sent.isascii() else ()
                failed = client.call(MANAGEMENT, "ListModels", metadata)
                assert failed.code == "PERMISSION_DENIED"
            mine = (("authorization", f"Bearer {keys['management']['key']}"),)
            assert client.call(MANAGEMENT, "ListModels", mine).msg


@pytest.mark.parametrize("role", ["inference", "management"])
def test_a_taken_port_ends_the_start_with_a_clear_word(tmp_path, role):
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [*ADDRESSES, f"--grpc-{role}-address", f"127.0.0.1:{port}"]
        done = subprocess.run(
            [sys.executable, "-m", "flambeau_runtime", "--state-dir", str(tmp_path), *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert f"grpc_{role}_port={port}: the port is taken by another process" in done.stderr


def test_both_roles_may_share_an_address(tmp_path):
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    both = ("--grpc-inference-address", "--grpc-management-address")
    words = [word for flag in both for word in (flag, f"127.0.0.1:{port}")]
    with serving(tmp_path, *words), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        client = Client(our_messages(), channel)
        assert client.call(INFERENCE, "Ping").health
        assert client.manage("ListModels", limit=1)


def test_a_request_id_is_kept_and_echoed(tmp_path):
    with serving_grpc(tmp_path) as (_, client, _):
        stub = client.stub(INFERENCE, "Predictions")
        request = client.request(INFERENCE, "Predictions", model_name="m")
        _, call = stub.with_call(request, metadata=(("x-request-id", "mine"),), timeout=10)
        assert ("x-request-id", "mine") in [tuple(pair) for pair in call.trailing_metadata()]
