"""Requests that no client should send, to every port: a clear answer, and the others go on."""

import json
import re
import socket
import threading
from contextlib import closing
from urllib.parse import urlsplit

import psutil
import pytest

from tests.compat.server import call, serving, until, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

SHOWS = """
def show(value):
    return bytes(value).hex() if isinstance(value, (bytes, bytearray)) else value

def handle(data, context):
    if data is not None:
        return [{name: show(value) for name, value in row.items()} for row in data]
"""
SLOW = """
import time

def handle(data, context):
    if data is not None:
        time.sleep(0.3)
        return ["done" for _ in data]
"""
CONFIG = """\
max_request_size=100000
job_qeue_size=3
nonsense=1
"""
ENDLESS = 256 * 1024 * 1024  # the front reads up to 64 MiB on, so that its answer arrives
JSON = ("Content-Type: application/json",)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("requests")
    for name, source, more in (("show", SHOWS, ""), ("slow", SLOW, "jobQueueSize: 2\n")):
        write_archive(
            folder / "store", name, handler=source, config="minWorkers: 1\nmaxWorkers: 1\n" + more
        )
    (folder / "config.properties").write_text(CONFIG)
    with serving(folder, "--models", "ALL", "--ts-config", f"{folder}/config.properties") as made:
        until(lambda: made.predict("show").status == 200 and made.predict("slow").status == 200)
        yield made


@pytest.fixture(autouse=True)
def goes_on(server):
    """Whatever was sent, the next caller of every port is answered."""
    yield
    assert server.predict("show").status == 200
    assert call("GET", server.inference + "/ping").status == 200
    assert server.manage("GET", "/models").status == 200
    assert call("GET", server.metrics + "/metrics").status == 200


def connect(url):
    parts = urlsplit(url)
    return closing(socket.create_connection((parts.hostname, parts.port), timeout=20))


def request(target="/predictions/show", body=b"", method="POST", headers=(), length=None):
    lines = [f"{method} {target} HTTP/1.1", "Host: here", "Connection: close", *headers]
    if length != "":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def exchange(url, data, *, half_close=False):
    """Send bytes; return the status and the body of what comes, (0, b"") when nothing does."""
    with connect(url) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        came = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = came.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]), body) if head else (0, b"")


MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="data"; filename="d"\r\n'
    b"Content-Type: application/json\r\n\r\n"
    b'{"a": 1}\r\n--B\r\nContent-Disposition: form-data; name="image"; filename="\xc3\xa9.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--B--\r\n"
)
BODIES = [
    pytest.param("application/json", b'{"a": 1}', {"body": {"a": 1}}, id="JSON"),
    pytest.param("application/json", b"{no", {"body": b"{no".hex()}, id="not JSON"),
    pytest.param("application/json", b"", {"body": ""}, id="nothing"),
    pytest.param("application/json", b"[" * 9000, {"body": "5b" * 9000}, id="JSON without a floor"),
    pytest.param("text/plain", "hé".encode(), {"body": "hé"}, id="text"),
    pytest.param("text/plain", b"\xff", {"body": "ff"}, id="text that is none"),
    pytest.param("image/png", b"\x89P", {"body": "8950"}, id="an image"),
    pytest.param(
        "application/x-www-form-urlencoded", b"a=1&b=%C3%A9", {"a": "31", "b": "c3a9"}, id="a form"
    ),
    pytest.param(
        "multipart/form-data; boundary=B", MULTIPART, {"data": {"a": 1}, "image": "89504e47"},
        id="a multipart form",
    ),
    pytest.param(
        "multipart/form-data; boundary=B", MULTIPART[:-9], {"body": MULTIPART[:-9].hex()},
        id="a multipart form that is cut",
    ),
    pytest.param(
        "multipart/form-data", MULTIPART, {"body": MULTIPART.hex()}, id="one without a boundary"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "row"), BODIES)
@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE"])
def test_a_handler_gets_what_was_sent(server, method, kind, body, row):
    sent = request(body=body, method=method, headers=[f"Content-Type: {kind}"])
    status, answer = exchange(server.inference, sent)
    assert (status, json.loads(answer)) == (200, row)


REFUSED = [
    pytest.param(request(body=b"x" * 100_001), 413, "100000 bytes", id="a body that is too large"),
    pytest.param(request(length=10**15), 413, "100000 bytes", id="one that is announced only"),
    pytest.param(request(length="9" * 40), 400, "Invalid HTTP", id="a length beyond numbers"),
    pytest.param(request(length="-1"), 400, "Invalid HTTP", id="a negative length"),
    pytest.param(
        request(body=b"zz\r\n", headers=["Transfer-Encoding: chunked"], length=""),
        400, "Invalid HTTP", id="garbage for chunks",
    ),
    pytest.param(
        request(body=b"1;" + b"a" * 200_000, headers=["Transfer-Encoding: chunked"], length=""),
        400, "Invalid HTTP", id="a chunk's extension without end",
    ),
    pytest.param(
        request(headers=[f"X-{n}: y" for n in range(20_000)]), 431, "65536", id="too many headers"
    ),
    pytest.param(request("/predictions/" + "a" * 9000), 414, "8192", id="a name without end"),
    pytest.param(request("/predictions/m%C3%B6bel"), 404, "möbel", id="an unknown name"),
    pytest.param(request("/predictions/..%2F..%2Fetc"), 404, "found: ..", id="a path for a name"),
    pytest.param(request("/predictions/%00"), 404, "not found", id="a NUL for a name"),
    pytest.param(request("/predictions/show/9"), 404, "Model version: 9", id="an unknown version"),
    pytest.param(request(method="TRACE"), 405, "not allowed", id="a method of no use"),
    pytest.param(b"\x16\x03\x01\r\n\r\n", 400, "Invalid HTTP", id="TLS on a plain port"),
    pytest.param(
        request("/ping", method="GET") .replace(b"Host: here", b"Host here"), 400, "Invalid HTTP",
        id="no HTTP on another path",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status", "says"), REFUSED)
def test_what_cannot_be_is_refused_in_words(server, data, status, says):
    answered, body = exchange(server.inference, data)
    assert (answered, json.loads(body)["code"]) == (status, status)
    assert says in body.decode()


CUT = [
    pytest.param("inference", b"POST /predict", id="a head"),
    pytest.param("inference", request(length=100) + b"abc", id="a body"),
    pytest.param(
        "management", request("/models", b"{", headers=JSON, length=9), id="a registration"
    ),
]


@pytest.mark.parametrize(("port", "data"), CUT)
def test_what_is_cut_off_half_way_is_nobodys_harm(server, port, data):
    assert exchange(getattr(server, port), data, half_close=True) == (0, b"")


ENDLESS_HEADS = [
    pytest.param("inference", b"POST /predictions/show HTTP/1.1\r\nX: ", id="of a prediction"),
    pytest.param(
        "inference",
        b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\nGET /ping HTTP/1.1\r\nX: ",
        id="behind a ping",
    ),
    pytest.param("management", b"GET /models HTTP/1.1\r\nX: ", id="on the management port"),
    pytest.param("metrics", b"GET /metrics HTTP/1.1\r\nX: ", id="on the metrics port"),
    pytest.param(
        "management",
        b"POST /models HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        id="of trailers",
    ),
]


def send_without_end(connection, begun):
    connection.sendall(begun)
    for _ in range(ENDLESS >> 16):
        connection.sendall(b"y" * (1 << 16))


@pytest.mark.parametrize(("port", "begun"), ENDLESS_HEADS)
def test_no_head_is_endless(server, port, begun):
    front = psutil.Process(server.process.pid)
    before = front.memory_info().rss
    with connect(getattr(server, port)) as connection, pytest.raises(ConnectionError):
        send_without_end(connection, begun)
    assert front.memory_info().rss - before < ENDLESS // 4


def test_a_crowd_that_never_ends_its_requests_keeps_nobody_waiting(server):
    parts = urlsplit(server.inference)
    crowd = [socket.create_connection((parts.hostname, parts.port)) for _ in range(200)]
    for each in crowd:
        each.sendall(b"POST /predictions/show HTTP/1.1\r\nContent-Le")
    assert server.predict("show").status == 200
    for each in crowd:
        each.close()


def test_a_pipelined_mix_is_answered_in_its_order(server):
    mixed = [
        request(body=b"1", headers=JSON),
        request("/ping", method="GET"),
        request("/predictions/none"),
        request(body=b"2", headers=JSON),
        request("/ping", method="GET"),
    ]
    kept = b"".join(each.replace(b"Connection: close\r\n", b"") for each in mixed)
    with connect(server.inference) as connection:
        connection.sendall(kept + request("/nothing", method="GET"))
        came = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", came) == [b"200", b"200", b"404", b"200", b"200", b"404"]
    assert came.index(b'"body": 1') < came.index(b"Healthy") < came.index(b'"body": 2')


def test_a_full_queue_says_when_to_come_back_and_recovers(server):
    answers = []
    crowd = [
        threading.Thread(target=lambda: answers.append(server.predict("slow"))) for _ in range(12)
    ]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    refused = [it for it in answers if it.status == 503]
    assert {it.status for it in answers} == {200, 503}
    assert all(it.headers["retry-after"] for it in refused)
    assert "full job queue (2 jobs)" in refused[0].json["message"]
    assert server.predict("slow").status == 200


def test_unknown_keys_are_named_with_the_nearest_known_one(server):
    said = [line["why"] for line in server.lines() if line["event"] == "configuration"]
    assert any(
        ":2: unknown key 'job_qeue_size'" in why and "did you mean job_queue_size?" in why
        for why in said
    )
    assert any(":3: unknown key 'nonsense'" in why for why in said)


BAD_CALLS = [
    pytest.param("PUT", "/models/show?min_worker=5000", b"", 400, "1024", id="a slip of the hand"),
    pytest.param("PUT", "/models/show?min_worker=-1", b"", 400, "negative", id="fewer than none"),
    pytest.param("PUT", "/models/show/9/set-default", b"", 404, "version 9", id="a version"),
    pytest.param("DELETE", "/models/none", b"", 404, "none", id="a model"),
    pytest.param("POST", "/models", b"{", 400, "not JSON", id="half an object"),
    pytest.param("POST", "/models", b"[1]", 400, "not a JSON object", id="a list"),
    pytest.param("POST", "/models", b'{"url": null}', 400, "url is required", id="no address"),
    pytest.param("POST", "/models?url=..%2Fx.mar", b"", 404, "Relative path", id="a way out"),
    pytest.param("POST", "/models?url=http://169.254.169.254/x", b"", 404, "local", id="a lure"),
    pytest.param("POST", "/models?url=http://[bad/x", b"", 404, "IPv6", id="half an address"),
    pytest.param("PUT", "/state", b"{}", 405, "--owner-uid", id="a document for nobody"),
    pytest.param("GET", "/state?after=abc", b"", 400, "'abc'", id="a revision"),
    pytest.param("GET", "/models/%00", b"", 404, "not found", id="a NUL"),
    pytest.param("PUT", "/state", b"x" * 2_000_000, 413, "1048576 bytes", id="an endless document"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "says"), BAD_CALLS)
def test_an_impossible_management_call_is_refused(server, method, path, body, status, says):
    headers = {"content_type": "application/json"} if body else {}
    answer = server.manage(method, path, body or None, **headers)
    assert (answer.status, answer.json["code"]) == (status, status)
    assert says in answer.json["message"]


def test_numbers_beyond_measure_do_not_reach_a_worker(server):
    said = "batch_size=" + "9" * 30 + "&max_batch_delay=" + "9" * 30 + "&response_timeout=-5"
    answer = server.manage(
        "POST", f"/models?url=show-1.0.mar&model_name=huge&initial_workers=1&{said}"
    )
    assert answer.status == 200
    assert server.predict("huge").status == 200
    server.manage("DELETE", "/models/huge")
