"""Predictions over TLS and over unix sockets: whatever the hot path does on a plain connection."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from urllib.parse import urlsplit

import pytest

from tests.certificates import Certificate
from tests.compat.server import serving, until, write_archive
from tests.compat.wire import Closed, Wire, request_bytes

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

DIGEST = """
import hashlib

def handle(data, context):
    if data is not None:
        return [answer(bytes(row["body"])) for row in data]

def answer(body):
    if body.startswith(b"long "):
        return bytes(int(body[5:]))
    return hashlib.sha256(body).hexdigest()
"""
PREDICT = "/predictions/digest"
BINARY = {"Content-Type": "application/octet-stream"}
BIG = os.urandom(6_000_000)
NOT_HTTPS = b'{\n  "status": "This TorchServe instance only accepts HTTPS requests"\n}\n'


def digest(body):
    return hashlib.sha256(body).hexdigest().encode()


@pytest.fixture(scope="module")
def certificate():
    return Certificate.for_localhost()


@pytest.fixture(scope="module")
def server(tmp_path_factory, certificate):
    folder = tmp_path_factory.mktemp("tls")
    files = certificate.write(folder)
    write_archive(folder / "store", "digest", handler=DIGEST)
    config = folder / "config.properties"
    config.write_text(
        f"private_key_file={files.key}\ncertificate_file={files.certificate}\n"
        "default_workers_per_model=1\nmax_response_size=9000000\n"
    )
    addresses = ("--inference-address", "https://127.0.0.1:0", "--metrics-address", "127.0.0.1:0")
    addresses += ("--management-address", f"unix:{folder / 'm'}")
    flags = ("--ts-config", str(config), "--models", "digest-1.0.mar")
    with serving(folder, *flags, addresses=addresses) as server:
        until(lambda: is_ready(urlsplit(server.inference).port, certificate))
        yield server


def is_ready(port, certificate):
    with Wire.to_port(port, tls=certificate.trusting()) as wire:
        return wire.request("POST", PREDICT, b"", BINARY).status == 200


@pytest.fixture
def port(server):
    return urlsplit(server.inference).port


@pytest.fixture
def wire(port, certificate):
    with Wire.to_port(port, tls=certificate.trusting()) as wire:
        yield wire


def test_one_connection_takes_predictions_and_other_paths_in_turn(wire):
    for number in range(3):
        body = b"%d" % number
        assert wire.request("POST", PREDICT, body, BINARY).body == digest(body)
        assert wire.request("GET", "/ping").json == {"status": "Healthy"}


@pytest.mark.parametrize("size", [300_000, 1_000_000, 6_000_000])
def test_a_big_body_arrives_whole_and_the_connection_goes_on(wire, size):
    body = BIG[:size]
    for _ in range(3):
        assert wire.request("POST", PREDICT, body, BINARY).body == digest(body)
    assert wire.request("POST", PREDICT, b"small", BINARY).body == digest(b"small")


def test_a_big_body_that_comes_piece_by_piece_arrives_whole(wire):
    whole = request_bytes("POST", PREDICT, BIG[:700_000], BINARY)
    for at in range(0, len(whole), 9_999):
        wire.send(whole[at : at + 9_999])
    assert wire.answer().body == digest(BIG[:700_000])


def test_a_chunked_body_arrives_whole(wire):
    pieces = [BIG[:100], BIG[100:70_000], BIG[70_000:400_000]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    headers = {**BINARY, "Transfer-Encoding": "chunked"}
    answer = wire.request("POST", PREDICT, chunks, headers)
    assert answer.body == digest(BIG[:400_000])


def test_pipelined_requests_are_answered_in_order(wire):
    bodies = [b"one", BIG[:300_000], b"three", BIG[:5000], b""]
    sent = b"".join(request_bytes("POST", PREDICT, body, BINARY) for body in bodies)
    wire.send(sent)  # not beside the reading: two threads may not use one TLS connection at once
    assert [wire.answer().body for _ in bodies] == [digest(body) for body in bodies]


def test_a_client_may_wait_for_leave_to_send(wire):
    head = {**BINARY, "Content-Length": "5", "Expect": "100-continue"}
    wire.send(request_bytes("POST", PREDICT, None, head))
    assert wire.answer().status == 100
    wire.send(b"later")
    assert wire.answer().body == digest(b"later")


def test_a_long_answer_arrives_whole(wire):
    assert wire.request("POST", PREDICT, b"long 8000000", BINARY).body == bytes(8_000_000)


def test_a_body_that_is_too_long_is_refused_with_an_answer(wire):
    wire.send(request_bytes("POST", PREDICT, None, {**BINARY, "Content-Length": "99999999"}))
    assert wire.answer().status == 413
    assert wire.is_closed()


def test_many_at_once_are_all_answered(port, certificate):
    answers = []

    def ask(number):
        with Wire.to_port(port, tls=certificate.trusting()) as wire:
            body = BIG[: number * 20_000]
            answers.append(wire.request("POST", PREDICT, body, BINARY).body == digest(body))

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert answers == [True] * 20


@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_2, "TLSv1.2", id="as TorchServe speaks it"),
        pytest.param(ssl.TLSVersion.TLSv1_3, "TLSv1.3", id="as it is spoken now"),
    ],
)
def test_versions_of_tls(port, certificate, version, spoken):
    context = certificate.trusting()
    context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connected,
    ):
        assert connected.version() == spoken


def test_whoever_speaks_plain_http_is_told(port):
    with Wire.to_port(port) as wire:
        answer = wire.request("POST", PREDICT, b"x")
        assert (answer.status, answer.reason, answer.body) == (403, "Forbidden", NOT_HTTPS)
        assert wire.is_closed()


def silence(_):
    pass


def half_a_handshake(connected):
    connected.sendall(b"\x16\x03\x01\x02")


def garbage(connected):
    connected.sendall(b"\x16" + os.urandom(4000))


@pytest.mark.parametrize("rude", [silence, half_a_handshake, garbage])
def test_strangers_keep_nobody_else_waiting(port, wire, rude):
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        rude(stranger)
        assert wire.request("POST", PREDICT, b"x", BINARY).status == 200


def test_a_client_that_breaks_off_in_a_big_body_harms_nobody(port, wire, certificate):
    for _ in range(3):
        with Wire.to_port(port, tls=certificate.trusting()) as leaving:
            leaving.send(request_bytes("POST", PREDICT, BIG, BINARY)[:2_000_000])
    assert wire.request("POST", PREDICT, BIG, BINARY).body == digest(BIG)


def test_a_caller_through_a_unix_socket_is_on_this_machine_and_may_manage(server):
    with Wire.to_socket(server.management.removeprefix("unix:")) as wire:
        listed = wire.request("GET", "/models")
    assert [model["modelName"] for model in listed.json["models"]] == ["digest"]


def test_in_the_end_kept_connections_close_and_the_socket_is_gone(tmp_path, certificate):
    files = certificate.write(tmp_path)
    write_archive(tmp_path / "store", "digest", handler=DIGEST)
    config = tmp_path / "config.properties"
    config.write_text(f"private_key_file={files.key}\ncertificate_file={files.certificate}\n")
    addresses = ("--inference-address", "https://127.0.0.1:0", "--metrics-address", "127.0.0.1:0")
    addresses += ("--management-address", f"unix:{tmp_path / 'm'}")
    with serving(tmp_path, "--ts-config", str(config), addresses=addresses) as server:
        with Wire.to_port(urlsplit(server.inference).port, tls=certificate.trusting()) as kept:
            assert kept.request("GET", "/ping").status == 200
            server.process.terminate()
            with pytest.raises(Closed):
                kept.until(b"never")
        until(lambda: server.process.poll() is not None)
    assert server.process.returncode == 0
    assert not (tmp_path / "m").exists()
    assert [line for line in server.lines() if line["level"] == "error"] == []
