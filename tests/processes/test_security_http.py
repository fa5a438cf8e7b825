"""What strangers may not do over HTTP: learn keys, hold connections, fill the memory."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.compat.server import until
from tests.compat.ts import new_place, ours

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

RAISES = """
    def handle(data, context):
        if data is not None:
            raise RuntimeError("as it does")
"""
PORTS = ("inference", "management", "metrics")
MEBI = 1024 * 1024


@pytest.fixture
def place():
    place = new_place(ours())
    yield place
    place.clear()


@pytest.fixture(scope="module")
def server():
    place = new_place(ours())
    try:
        with place.serving() as server:
            yield server
    finally:
        place.clear()


def keys(place):
    path = place.folder / "key_file.json"
    until(path.exists)
    found = json.loads(path.read_text())
    return {kind: it["key"] for kind, it in found.items()}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_no_key_is_in_any_log(place):
    config = {"disable_token_authorization": "false"}
    with place.serving(config=config, default_flags=("--enable-model-api",)) as server:
        seen = {"a-wrong-key-0123456789", *keys(place).values()}
        archive = server.add_archive(RAISES, "m")
        manage = bearer(keys(place)["management"])
        asked = f"/models?url={archive}&initial_workers=1"
        assert server.manage("POST", asked, headers=manage).status == 200
        for key in seen:
            server.predict("m", headers=bearer(key))
            server.inference("GET", "/v2", headers=bearer(key))
            server.manage("GET", "/models", headers=bearer(key))
            server.manage("GET", "/nothing", headers=bearer(key))
            server.manage("GET", "/state", headers=bearer(key))
        for kind in ("inference", "management", "API"):
            api = bearer(keys(place)["API"])
            server.manage("GET", f"/token?type={kind}", headers=api)
            seen |= set(keys(place).values())
        assert server.predict("m", headers=bearer(keys(place)["inference"])).status == 503
    written = [path for path in place.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" and path.stat().st_size for path in written)
    assert len(seen) == 6
    for path in written:
        content = path.read_bytes()
        assert not [key for key in seen if key.encode() in content], path


def connect(server, port):
    return socket.create_connection(("127.0.0.1", getattr(server.ports, port)), timeout=60)


def what_comes(connection):
    """Return all that the server says until it closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


TARGETS = {"inference": "/predictions/m", "management": "/models", "metrics": "/metrics"}


def test_who_never_ends_a_head_or_a_body_is_let_go(server):
    """All at once, as each takes as long as the server's patience."""
    heads = [b"POST %b HTTP/1.1\r\nHost: x\r\n" % TARGETS[port].encode() for port in PORTS]
    halves = [
        head + b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n12345"
        for head in heads
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        connections = [connect(server, port) for port in PORTS + PORTS]
        try:
            for connection, sent in zip(connections, heads + halves, strict=True):
                connection.sendall(sent)
            answers = list(pool.map(what_comes, connections))
        finally:
            for connection in connections:
                connection.close()
    assert time.monotonic() - began < 60
    late = [answer.startswith(b"HTTP/1.1 408 ") for answer in answers]
    # What needs no body is answered at once; then its connection is closed like the others.
    assert late == [True, True, True, True, True, False], answers


def send_much(connection, head, size):
    """Send a head and a body of that size, as long as somebody reads it; return what was said."""
    chunk = b"x" * MEBI
    try:
        connection.sendall(head)
        for _ in range(size // MEBI):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    try:
        return connection.recv(65536)
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("port", "line", "statuses"),
    [
        ("inference", b"POST /predictions/m", {413}),
        ("inference", b"POST /ping", {200}),
        ("inference", b"POST /v2/models/m", {404}),
        ("management", b"POST /models", {413}),
        ("management", b"PUT /state", {413}),
        ("management", b"POST /drain", {413}),
        ("management", b"PUT /models/m", {404}),
        ("metrics", b"POST /metrics", {405}),
    ],
)
@pytest.mark.parametrize("framing", ["announced", "in chunks"])
def test_a_huge_body_does_not_fill_the_memory(server, port, line, statuses, framing):
    head = line + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    size = 200 * MEBI
    if framing == "announced":
        head += b"Content-Length: %d\r\n\r\n" % size
    else:
        head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    with connect(server, port) as connection:
        answer = send_much(connection, head, size)
    grown = process.memory_info().rss - before
    assert grown < 48 * MEBI
    if answer:  # a client that sends on may find the connection reset
        assert int(answer.split(b" ")[1]) in statuses, answer
    assert server.inference("GET", "/ping").status == 200
    assert server.manage("GET", "/ready").status == 200
