"""The worker's end of the wire: a real process, its socket in the test's hands."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flambeau_runtime import protocol
from flambeau_runtime.protocol import Kind
from flambeau_runtime.serving.job import Payload
from flambeau_runtime.worker import loop

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

HANDLER = """
def handle(data, context):
    if data is None:
        return
    answers = []
    for index, row in enumerate(data):
        said = row["body"]
        if said == "raise":
            raise KeyError("missing")
        if said == "long":
            said = "x" * 1000
        if said == "status":
            context.set_response_status(201, "Made", index)
            context.set_response_header(index, "X-A", "b")
        answers.append(said if isinstance(said, str) else len(said))
    return answers
"""


@pytest.fixture
def model_dir(tmp_path):
    (tmp_path / "h.py").write_text(HANDLER)
    return tmp_path


def load_message(model_dir, handler="h.py"):
    message = {
        "model": "m", "version": "1.0", "modelDir": str(model_dir), "manifest": {},
        "handler": handler, "batchSize": 8, "gpuId": None, "deviceType": "cpu",
        "decodeInputRequest": True, "maxResponseBytes": 500, "splitJsonArrays": "auto",
        "limitMaxImagePixels": True, "modelConfig": {},
    }  # fmt: skip
    return protocol.frame(Kind.LOAD, 0, orjson.dumps(message))


class Worker:
    def __init__(self, process, sock):
        self.process, self.sock = process, sock

    def frame(self):
        length, batch, kind = protocol.read_header(self._exactly(protocol.HEADER.size))
        return kind, batch, self._exactly(length)

    def answer(self):
        """Return the next frame that is no metrics."""
        frame = self.frame()
        return self.answer() if frame[0] == Kind.METRICS else frame

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def predict(self, *bodies, kind="text/plain"):
        rows = [Payload(f"r{n}", b"", body, kind) for n, body in enumerate(bodies)]
        self.sock.sendall(b"".join(protocol.pack_predict(7, rows)))
        return self.answer()

    def exit_code(self):
        return self.process.wait(20)


@contextmanager
def worker(*first_frames):
    front, back = socket.socketpair()
    front.settimeout(20)
    command = [sys.executable, "-m", "flambeau_runtime.worker", "--fd", str(back.fileno())]
    process = subprocess.Popen(command, pass_fds=[back.fileno()], stderr=subprocess.PIPE)
    back.close()
    try:
        for frame in first_frames:
            front.sendall(frame)
        yield Worker(process, front)
    finally:
        front.close()
        process.kill()
        process.communicate()


def test_a_worker_loads_and_tells_its_process_id(model_dir):
    with worker(load_message(model_dir)) as one:
        kind, _, message = one.frame()
        assert (kind, orjson.loads(message)["pid"]) == (Kind.LOADED, one.process.pid)


def test_a_batch_is_answered_row_by_row(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        kind, batch, payload = one.predict(b"a", b"status", b"b")
        assert (kind, batch) == (Kind.END, 7)
        assert protocol.unpack_end(payload) == [
            (200, "", (), b"a"),
            (201, "Made", (("X-A", "b"),), b"status"),
            (200, "", (), b"b"),
        ]


def test_a_body_longer_than_any_buffer_arrives_whole(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        for size in (3, 5_000_000, 4, 300_000):
            _, _, payload = one.predict(bytes(size), kind="application/octet-stream")
            assert protocol.unpack_end(payload)[0][3] == str(size).encode()


def test_a_handler_that_raises_fails_the_batch_and_lives_on(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        kind, _, message = one.predict(b"a", b"raise")
        assert kind == Kind.FAULT
        assert "KeyError: 'missing'" in orjson.loads(message)["message"]
        assert one.predict(b"a")[0] == Kind.END


def test_a_response_beyond_the_limit_fails_its_row_and_kills_no_one(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        _, _, payload = one.predict(b"long", b"short")
        (status, _, _, fault), short = protocol.unpack_end(payload)
        assert status == protocol.ROW_FAULT
        assert "max_response_size (500 bytes)" in orjson.loads(fault)["message"]
        assert short[3] == b"short"


def test_a_model_that_does_not_load_says_why_and_the_worker_exits(tmp_path):
    (tmp_path / "h.py").write_text("import no_such_module\n")
    with worker(load_message(tmp_path)) as one:
        kind, _, message = one.frame()
        fault = orjson.loads(message)
        assert (kind, fault["reason"]) == (Kind.FAULT, "HandlerImportFailed")
        assert "no_such_module" in fault["message"]
        assert one.exit_code() == 1


def test_a_worker_answers_a_ping_and_passes_a_cancel_by(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        one.sock.sendall(protocol.frame(Kind.CANCEL, 7) + protocol.frame(Kind.PING, 9))
        assert one.answer()[:2] == (Kind.PONG, 9)


def test_a_worker_whose_front_closes_exits_at_once(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        one.sock.shutdown(socket.SHUT_RDWR)
        assert one.exit_code() == 0


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(protocol.frame(Kind.PREDICT, 1, b"\0" * 4), id="a batch before a model"),
        pytest.param(protocol.frame(Kind.LOAD, 0, b"[]"), id="a load that is no object"),
        pytest.param(protocol.frame(Kind.LOAD, 0, b"{"), id="a load that is no JSON"),
        pytest.param(protocol.HEADER.pack(2**32 - 1, 0, Kind.LOAD), id="a frame without end"),
    ],
)
def test_garbage_from_the_front_ends_the_worker_with_a_word(garbage):
    with worker(garbage) as one:
        assert one.exit_code() == 1
        assert b"garbage on the socket of this worker" in one.process.stderr.read()


def test_a_worker_reports_what_its_handler_measured(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        one.predict(b"a")
        kind, _, measured = one.frame()
        assert kind == Kind.METRICS
        assert "PredictionTime" in {update["name"] for update in orjson.loads(measured)}


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=3), st.data())
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_mutated_batch_is_answered_or_ends_the_worker_cleanly(model_dir, bodies, data):
    rows = [Payload("r", b"", body, "text/plain") for body in bodies]
    frame = bytearray(b"".join(protocol.pack_predict(7, rows)))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    front, back = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        front.close()
        os.close(2)
        os._exit(loop.serve(back))
    back.close()
    front.sendall(load_message(model_dir) + frame)
    front.shutdown(socket.SHUT_WR)
    while front.recv(65536):
        pass
    front.close()
    _, status = os.waitpid(pid, 0)
    assert not os.WIFSIGNALED(status)
    assert os.waitstatus_to_exitcode(status) in {0, 1}


def test_a_worker_killed_from_outside_closes_its_socket(model_dir):
    with worker(load_message(model_dir)) as one:
        one.frame()
        one.process.send_signal(signal.SIGKILL)
        with pytest.raises(EOFError):
            one.frame()
