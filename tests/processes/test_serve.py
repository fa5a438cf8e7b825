"""The whole runtime as a process: where it listens, what it imports, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from tests.compat.server import call, serving, until, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SLOW = """
import time

def handle(data, context):
    if data is not None:
        time.sleep(0.5)
        return ["done" for _ in data]
"""


def with_model(folder, handler=None):
    extra = {"handler": handler} if handler else {}
    return "--models", write_archive(
        folder / "store", config="minWorkers: 1\nmaxWorkers: 1\n", **extra
    )


def test_start_up_models_take_requests_as_soon_as_it_listens(tmp_path):
    with serving(tmp_path, *with_model(tmp_path)) as server:
        until(lambda: server.predict("echo").status == 200)
        assert server.manage("GET", "/models/echo").json[0]["loadedAtStartup"] is True


def test_a_model_that_cannot_be_served_keeps_no_other_waiting(tmp_path):
    _, archive = with_model(tmp_path)
    with serving(tmp_path, "--models", "gone.mar", archive) as server:
        until(lambda: server.predict("echo").status == 200)
        (complaint,) = [it for it in server.lines() if it["event"] == "model not loaded"]
        assert (complaint["archive"], complaint["why"]) == (
            "gone.mar",
            "Model not found at: gone.mar",
        )


def test_a_second_runtime_in_one_state_folder_is_refused(tmp_path):
    with serving(tmp_path):
        command = [sys.executable, "-m", "flambeau_runtime", "--state-dir", tmp_path / "state"]
        ports = [
            part
            for role in ("inference", "management", "metrics")
            for part in (f"--{role}-address", "127.0.0.1:0")
        ]
        second = subprocess.run(
            [*command, *ports], check=False, capture_output=True, text=True, timeout=30
        )
        assert second.returncode == 1
        assert "another runtime works there; name another folder" in second.stderr
        assert (tmp_path / "state" / "listening.json").exists()


def test_all_means_every_archive_of_the_model_store(tmp_path):
    with_model(tmp_path)
    write_archive(tmp_path / "store", "other", config="minWorkers: 1\nmaxWorkers: 1\n")
    with serving(tmp_path, "--models", "ALL") as server:
        until(lambda: len(server.manage("GET", "/models").json["models"]) == 2)


def test_the_listening_file_is_there_while_it_listens(tmp_path):
    with serving(tmp_path) as server:
        told = json.loads((tmp_path / "state" / "listening.json").read_text())
        assert told["pid"] == server.process.pid
        assert call("GET", f"{told['inference']}/ping").status == 200
    assert not (tmp_path / "state" / "listening.json").exists()


def test_one_address_may_serve_everything(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    addresses = tuple(
        word
        for role in ("inference", "management", "metrics")
        for word in (f"--{role}-address", address)
    )
    with serving(tmp_path, *with_model(tmp_path), addresses=addresses) as server:
        assert server.inference == server.management == server.metrics == f"http://{address}"
        until(lambda: server.predict("echo").status == 200)
        for path in ("/ping", "/models", "/metrics", "/live"):
            assert call("GET", server.inference + path).status == 200, path


def test_a_taken_port_is_named_with_its_key_and_a_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "flambeau_runtime", "--state-dir", str(tmp_path)]
        taken_one = ("--management-address", f"127.0.0.1:{port}")
        done = subprocess.run(
            [*command, *taken_one, "--inference-address", "127.0.0.1:0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == (
        f"flambeau-runtime: management_address=http://127.0.0.1:{port}: port {port} is taken by"
        " another process; stop that one, or set another port with management_address or"
        " --management-address\n"
    )


def test_a_front_that_serves_predictions_stays_small(tmp_path):
    with serving(tmp_path, *with_model(tmp_path)) as server:
        until(lambda: server.predict("echo").status == 200)
        for _ in range(50):
            assert server.predict("echo").status == 200
        front = psutil.Process(server.process.pid)
        assert front.memory_full_info().pss <= 45 * 1024 * 1024
        loaded = {entry.path for entry in front.memory_maps() if "site-packages" in entry.path}
        assert not [path for path in loaded if "/torch/" in path or "/numpy/" in path]


def test_what_was_asked_is_answered_before_it_ends(tmp_path):
    answers = []
    with serving(tmp_path, *with_model(tmp_path, SLOW)) as server:
        until(lambda: server.predict("echo").status == 200)
        asking = threading.Thread(target=lambda: answers.append(server.predict("echo")))
        asking.start()
        before = len(server.lines())
        until(lambda: _in_flight(server))
        server.process.send_signal(signal.SIGTERM)
        asking.join()
        assert server.process.wait(30) == 0
        events = [line["event"] for line in server.lines()[before:]]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"done")]
    assert events[0] == "draining"
    assert events[-1] == "stopped"


def _in_flight(server):
    front = psutil.Process(server.process.pid)
    port = int(server.inference.rpartition(":")[2])
    return [
        connection
        for connection in front.net_connections("tcp")
        if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
    ]


def connection_header(server):
    """Predict as a client that would keep its connection; return what it is told about that."""
    answer = requests.post(f"{server.inference}/predictions/echo", json={}, timeout=30)
    assert answer.status_code == 200
    return answer.headers["connection"]


def test_a_draining_runtime_is_not_ready_but_answers(tmp_path):
    with serving(tmp_path, *with_model(tmp_path), "--drain-delay", "30") as server:
        until(lambda: server.manage("GET", "/ready").status == 200)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.manage("GET", "/ready").status == 503)
        assert connection_header(server) == "close"
        server.process.send_signal(signal.SIGTERM)  # the second one does not wait any longer
        assert server.process.wait(20) == 0


def test_no_process_is_left_behind(tmp_path):
    with serving(tmp_path, *with_model(tmp_path)) as server:
        until(lambda: server.predict("echo").status == 200)
        worker = server.predict("echo").json["pid"]
        children = psutil.Process(server.process.pid).children(recursive=True)
    assert not psutil.pid_exists(worker)
    assert not [child for child in children if child.is_running()]


def test_asked_to_drain_it_leaves_the_endpoints_and_lets_kept_connections_go(tmp_path):
    with serving(tmp_path, *with_model(tmp_path)) as server:
        until(lambda: server.manage("GET", "/ready").status == 200)
        assert connection_header(server) == "keep-alive"
        assert server.manage("POST", "/drain").status == 202
        assert server.manage("GET", "/ready").status == 503
        until(lambda: connection_header(server) == "close")


def test_what_lies_idle_when_a_runtime_begins_to_drain_may_be_used_once_more(tmp_path):
    with serving(tmp_path, *with_model(tmp_path), "--drain-delay", "30") as server:
        until(lambda: server.predict("echo").status == 200)
        address = urlsplit(server.inference)
        with socket.create_connection((address.hostname, address.port), timeout=10) as kept:
            kept.sendall(b"POST /predictions/echo HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
            assert kept.recv(65536).startswith(b"HTTP/1.1 200")
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.manage("GET", "/ready").status == 503)
            time.sleep(2)  # it is long idle now
            kept.sendall(b"POST /predictions/echo HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
            answer = kept.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer
        server.process.send_signal(signal.SIGTERM)  # the second one does not wait any longer
        assert server.process.wait(20) == 0


def test_what_lies_idle_is_closed_long_before_a_draining_runtime_ends(tmp_path):
    with serving(tmp_path, *with_model(tmp_path), "--drain-delay", "30") as server:
        until(lambda: server.predict("echo").status == 200)
        address = urlsplit(server.inference)
        with socket.create_connection((address.hostname, address.port), timeout=10) as kept:
            kept.sendall(b"POST /predictions/echo HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
            assert kept.recv(65536).startswith(b"HTTP/1.1 200")
            server.process.send_signal(signal.SIGTERM)
            assert kept.recv(65536) == b"", "closed within ten of the thirty seconds"
        assert server.predict("echo").status == 200
        server.process.send_signal(signal.SIGTERM)  # the second one does not wait any longer
        assert server.process.wait(20) == 0
